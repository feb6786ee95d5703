"""The options of the demo with a model on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dspex.errors import ConfigError

__all__ = ["AT_ONCE", "ROWS", "LocalOptions"]

AT_ONCE = 8
"""Messages under way at once, and the server's slots."""

ROWS = 60
"""Messages that are asked and scored, unless the machine is slow or the user says otherwise."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """
    The flags of ``dspex demo --local``.

    Attributes:
        gguf: A model of the user's own; None fetches one.
        api_base: A server of the user's own, which is neither started nor killed.
        rows: The number of messages; None takes as many as fit into the time, 60 at most.
        chaos: True when services, and the server among them, are killed meanwhile.
        seed: Where the optimizer's choices come from.
        port: The server's port; 0 takes a free one.
    """

    gguf: Path | None = None
    api_base: str | None = None
    rows: int | None = None
    chaos: bool = True
    seed: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        if self.gguf is not None and self.api_base is not None:
            raise ConfigError("--gguf is a model to serve, --api-base a server that is there: give one of them")
        if self.rows is not None and not 1 <= self.rows <= 80:
            raise ConfigError(f"--questions {self.rows}: with --local, from 1 to 80")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port {self.port}: a port is a number from 0 to 65535")
        if self.port and self.api_base is not None:
            raise ConfigError("--port is for the server that is started, and --api-base names one that is there")
