"""The provider dialects the simulator speaks, one file each."""

from dspex.simulator.wire._wire import Allowance, BodyInvalid, Failure, Response, Twist, Wire
from dspex.simulator.wire.anthropic_messages import AnthropicMessages
from dspex.simulator.wire.azure import AzureOpenAI
from dspex.simulator.wire.gemini import Gemini
from dspex.simulator.wire.openai_chat import OpenAIChat
from dspex.simulator.wire.openai_embeddings import OpenAIEmbeddings
from dspex.simulator.wire.openai_responses import OpenAIResponses

__all__ = [
    "WIRES",
    "Allowance",
    "AnthropicMessages",
    "AzureOpenAI",
    "BodyInvalid",
    "Failure",
    "Gemini",
    "OpenAIChat",
    "OpenAIEmbeddings",
    "OpenAIResponses",
    "Response",
    "Twist",
    "Wire",
    "fallback",
]

# Three providers list models at one address; two of them are known by a header, and are asked first.
WIRES: tuple[Wire, ...] = (
    AnthropicMessages(),
    Gemini(),
    OpenAIChat(),
    OpenAIResponses(),
    OpenAIEmbeddings(),
    AzureOpenAI(),
)


def fallback(path: str, wires: tuple[Wire, ...] = WIRES) -> Wire:
    """Return the dialect that words the errors of a path nobody claims."""
    name = "gemini" if path.startswith("/v1beta/") else "anthropic" if path.startswith("/v1/messages") else "openai"
    return next(one for one in wires if one.name == name)
