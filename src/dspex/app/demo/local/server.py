"""The model's server: a program beside the App, in the same tree, started again when it dies."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from dspex.app._app import App
from dspex.app._tree import root_cause
from dspex.app.demo.local.options import AT_ONCE
from dspex.errors import ActorError, ConfigError, OsProcessFailed, StartFailed
from dspex.protocols.model import LM
from dspex.runtime import Backoff, ChildSpec, OsProcess, OsProcessInfo, Supervisor

__all__ = ["NAME", "ModelServer", "answers", "find_server", "free_port", "serving"]

NAME: Final = "model server"
"""The name under which the server's actor is registered."""

_HOST: Final = "127.0.0.1"
_LOADS_IN: Final = 300.0
_SCRIPT: Final = Path(__file__).with_name("serve_model.py")
_PATIENCE: Final = 10.0
_WHY: Final = "error loading model: "
"""The first words of llama.cpp about a file that it cannot use."""


@dataclass(frozen=True, slots=True)
class ModelServer:
    """
    The command line of a server.

    Attributes:
        packages: The folder with the server's package.
        gguf: The model.
        port: Where it listens; the same after each restart, for an LM's address stays as it is.
        threads: The number of computing threads; more than there are idle cores make it slower by far, because they
            spin.
        embeddings: True when it turns texts into vectors, instead of answering chats.
    """

    packages: Path
    gguf: Path
    port: int
    threads: int = 2
    embeddings: bool = False

    @property
    def lm(self) -> LM:
        """The model as an App knows it."""
        name = re.sub(r"[^\w.-]+", "-", self.gguf.stem)
        return LM(f"llamacpp/{name}", api_base=f"http://{_HOST}:{self.port}/v1", temperature=0.0, max_tokens=400)

    @property
    def spec(self) -> ChildSpec:
        """The server as a supervisor's child."""
        command = [sys.executable, "-I", str(_SCRIPT), str(self.gguf), "{port}", "--packages", str(self.packages)]
        command += [
            "--slots",
            str(AT_ONCE),
            "--threads",
            str(self.threads),
            *(["--embeddings"] if self.embeddings else []),
        ]
        options = {"port": self.port, "ready": answers, "start_timeout": _LOADS_IN, "stop_timeout": 2.0}
        return ChildSpec(NAME, OsProcess, (command,), options, name=NAME)


async def answers(info: OsProcessInfo) -> bool:
    """Ask whether the model is loaded: until then the server says 503, and before that nobody listens."""
    reader, writer = await asyncio.open_connection(_HOST, info.port)
    try:
        writer.write(f"GET /health HTTP/1.0\r\nHost: {_HOST}\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


@asynccontextmanager
async def serving(app: App, server: ModelServer) -> AsyncIterator[None]:
    """
    Have the server run below the App's runtime for as long as the block lasts; it ends with the App at the latest.

    Raises:
        ConfigError: It cannot be started, or does not come to answer.
    """
    try:
        supervisor = await app.runtime.start(Supervisor([server.spec], backoff=Backoff()), label=f"{NAME}s")
    except StartFailed as error:
        cause = root_cause(error)
        lines = cause.lines if isinstance(cause, OsProcessFailed) else ()
        why = next((line.partition(_WHY)[2] for line in lines if _WHY in line), str(cause))
        raise ConfigError(f"the server cannot serve {server.gguf}: {why}") from error
    try:
        yield
    finally:
        with suppress(ActorError):  # it ended with the App
            await supervisor.stop()


def free_port(port: int) -> int:
    """
    Return the port to listen at: the one that is wanted, or any that is free where 0 is.

    Raises:
        ConfigError: It is taken, or not for this user.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            found: int = probe.getsockname()[1]
            return found
    except OSError as error:
        raise ConfigError(f"--port {port}: the model's server cannot listen there: {error.strerror}") from error


def find_server(api_base: str) -> LM:
    """
    Return the first model of a server that is there.

    Raises:
        ConfigError: Nobody answers, or the answer names no model.
    """
    try:
        reply = httpx.get(f"{api_base.rstrip('/')}/models", timeout=_PATIENCE, trust_env=False)
        if reply.status_code != httpx.codes.OK:
            raise ConfigError(f"--api-base {api_base}: it answers {reply.status_code} where its models should be")
        name = reply.json()["data"][0]["id"]
        return LM(f"llamacpp/{name}", api_base=api_base, temperature=0.0, max_tokens=400)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"--api-base {api_base}: {error}") from error
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"--api-base {api_base}: its /models names no model") from error
