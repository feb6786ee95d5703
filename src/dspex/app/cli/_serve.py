"""``dspex serve``: a program as a service, with its signals."""

from __future__ import annotations

import asyncio
import importlib.metadata
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

import uvicorn

from dspex.app._app import App
from dspex.app.cli._flags import AppFlags
from dspex.app.cli._interrupt import INTERRUPTED
from dspex.app.cli._program import find_object, find_program
from dspex.app.serving.shape import ServedProgram
from dspex.app.serving.web import Service
from dspex.errors import ConfigError

__all__ = ["ServeOptions", "run"]


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command line, checked for types only."""

    program: str
    flags: AppFlags
    app: str | None
    state: Path | None
    host: str
    port: int
    max_body: int
    drain: float
    linger: float


def run(options: ServeOptions) -> int:
    """
    Serve until SIGTERM or Ctrl-C; returns the exit code: 0, or 130 after Ctrl-C.

    Raises:
        ConfigError: The program, the App or the address cannot be used.
    """
    served = _load(options)
    app = _app(options)
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listening = socket.create_server((options.host, options.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error}") from error
    with listening:
        return asyncio.run(_serve(options, app, served, listening))


def _load(options: ServeOptions) -> ServedProgram:
    program = find_program(options.program, options.state)
    return ServedProgram(program, options.program.rpartition(":")[2].replace(".", ""))


def _app(options: ServeOptions) -> App:
    if options.app is None:
        return options.flags.app(drain=options.drain)
    flags = options.flags
    if flags.lm is not None or flags.api_base is not None or flags.adapter is not None:
        raise ConfigError("--app has its own models and adapter: leave --lm, --api-base and --adapter out")
    app = find_object(options.app, "service:app")
    if not isinstance(app, App):
        raise ConfigError(f"{options.app} is not an App: it is {type(app).__name__}")
    return app


async def _serve(options: ServeOptions, app: App, served: ServedProgram, listening: socket.socket) -> int:
    service = Service(app, served, version=importlib.metadata.version("dspex"), max_body=options.max_body)
    config = uvicorn.Config(
        service.web_app(),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(options.drain)),
    )
    server = _Server(config, service, options)
    async with app:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(
            f"http://{shown}:{port} serves {options.program}: POST /run, POST /stream, GET /openapi.json\n"
        )
        sys.stdout.flush()
        await server.serve([listening])
    return INTERRUPTED if server.interrupted else 0


class _Server(uvicorn.Server):
    """
    Ends in order: readiness goes off, then (after ``linger``) no connection is taken, then what runs may finish.

    SIGHUP loads the program anew; requests under way end with the one they began with.
    """

    def __init__(self, config: uvicorn.Config, service: Service, options: ServeOptions) -> None:
        super().__init__(config)
        self.interrupted = False
        self._service = service
        self._options = options
        self._reloading = False

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take the signals of the process while it serves."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order, as at SIGTERM."""
        self._drain()

    def _drain(self) -> None:
        if self._service.draining:
            return
        self._service.draining = True  # readiness first: whoever sends requests here is to hear of it before we stop
        asyncio.get_running_loop().call_later(self._options.linger, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _interrupt(self) -> None:
        self.force_exit = self.interrupted  # the second Ctrl-C waits for nobody
        self.interrupted = self.should_exit = self._service.draining = True

    def _reload(self) -> None:
        if not self._reloading:
            self._reloading = True
            asyncio.get_running_loop().run_in_executor(None, self._load_anew)

    def _load_anew(self) -> None:
        """Load the program in a thread; one that cannot be loaded changes nothing."""
        before = _own_modules()
        try:
            for name in before:
                sys.modules.pop(name, None)
            self._service.served = _load(self._options)
            sys.stderr.write(f"dspex: {self._options.program} was loaded anew\n")
        except Exception as error:  # noqa: BLE001 - the user's module may raise anything, and the service goes on
            sys.modules.update(before)
            text = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"dspex: {self._options.program} was not loaded anew, and stays as it was: {text}\n")
        finally:
            self._reloading = False


def _own_modules() -> dict[str, ModuleType]:
    """Return the modules that were imported from the current folder, installed ones left out."""
    here, found = Path.cwd(), {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and name != "__main__":
            path = Path(file)
            inside = path.is_relative_to(here) and "site-packages" not in path.parts
            if inside and name.partition(".")[0] != "dspex":
                found[name] = module
    return found
