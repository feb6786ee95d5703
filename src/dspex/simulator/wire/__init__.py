"""The provider dialects the simulator speaks, one file each."""

from dspex.simulator.wire._wire import BodyInvalid, Failure, Response, Wire
from dspex.simulator.wire.openai_chat import OpenAIChat

__all__ = ["WIRES", "BodyInvalid", "Failure", "OpenAIChat", "Response", "Wire"]

WIRES: tuple[Wire, ...] = (OpenAIChat(),)  # the first also words the errors of paths nobody claims
