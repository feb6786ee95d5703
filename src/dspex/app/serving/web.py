"""The service itself: a program of an App as a Starlette application."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dspex.app.otel.middleware import TraceContextMiddleware
from dspex.app.serving.shape import Invalid, Problem, ServedProgram, openapi_of
from dspex.errors import (
    AppClosed,
    AppNotRunning,
    BudgetExceeded,
    DeadlineExceeded,
    DspexError,
    LMError,
    MissingInput,
    Overloaded,
    RetrievalError,
    ServiceUnavailable,
)
from dspex.protocols.printable import printable
from dspex.protocols.scope import Reset

if TYPE_CHECKING:
    from dspex.app._app import App
    from dspex.app._view import AppView

__all__ = ["Service", "problem_of"]

_log = logging.getLogger("dspex.serve")

_GONE = 499
"""The status of an answer that nobody reads any more."""


class Service:
    """
    One program behind HTTP; another can take its place while requests of the first still run.

    Args:
        app: The App, running.
        served: The program.
        version: For the document.
        max_body: Bytes of a request's body.

    Attributes:
        served: The program that the next request runs.
        draining: True when no new requests are wanted: readiness is off, and what comes all the same is still answered.
    """

    def __init__(self, app: App, served: ServedProgram, *, version: str, max_body: int) -> None:
        self.served = served
        self.draining = False
        self._app = app
        self._version = version
        self._max_body = max_body

    def web_app(self) -> Starlette:
        """Return the application; whoever serves it starts and closes the App."""
        web = Starlette(
            routes=[
                Route("/run", self._run, methods=["POST"]),
                Route("/stream", self._stream, methods=["POST"]),
                Route("/openapi.json", self._openapi),
                Route("/health", self._health),
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
            ],
            exception_handlers={HTTPException: _refused},
        )
        if self._app.is_traced:
            web.add_middleware(TraceContextMiddleware)
        return web

    # --- health ---------------------------------------------------------------------------------------------

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_of(self.served, self._version))

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = bool(self._app.health().get("ready")) and not self.draining
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _health(self, request: Request) -> Response:
        health = {**self._app.health(), "draining": self.draining, "program": self.served.name}
        return Response(json.dumps(health, default=str), media_type="application/json")

    # --- the program ------------------------------------------------------------------------------------------

    async def _run(self, request: Request) -> Response:
        served = self.served
        try:
            inputs = served.read(await self._body(request))
            value = await _unless_gone(request, lambda: self._app.begin(served.program, (), inputs))
            return Response(served.write(value), media_type="application/json")
        except ClientDisconnect:
            return Response(status_code=_GONE)
        except Invalid as error:
            return _told(error.problem)
        except Exception as error:  # noqa: BLE001 - the border of the process: errors turn into answers here
            return _told(problem_of(error, served.name))

    async def _stream(self, request: Request) -> Response:
        served = self.served
        try:
            inputs = served.read(await self._body(request))
        except ClientDisconnect:
            return Response(status_code=_GONE)
        except Invalid as error:
            return _told(error.problem)
        view = self._app.options(on_interrupt="reset")
        return StreamingResponse(_events(view, served, inputs), media_type="text/event-stream", headers=_UNKEPT)

    async def _body(self, request: Request) -> bytes:
        """Return the body; it is not read any further than it may be long."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Invalid(Problem(415, "not-json", "the content type must be application/json"))
        length = request.headers.get("content-length", "0")
        size = 0
        pieces = []
        if not length.isdigit() or int(length[:19]) <= self._max_body:
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > self._max_body:
                    break
            else:
                return b"".join(pieces)
        raise Invalid(Problem(413, "too-large", f"the body is longer than {self._max_body} bytes"))


async def _unless_gone(request: Request, start: Callable[[], object]) -> object:
    """
    Wait for a request of the App, and stop it when the client hangs up.

    Raises:
        ClientDisconnect: Nobody waits for the answer.
        Exception: Any exception of the program.
    """
    running = start()
    outcome: list[object] = []
    failure: list[Exception] = []

    async def wait_for_it() -> None:
        try:
            outcome.append(await running)  # type: ignore[misc]  # a Request of the App
        except Exception as error:  # noqa: BLE001 - raised below, outside the group, as it is
            failure.append(error)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(wait_for_it)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not outcome:
        raise ClientDisconnect
    return outcome[0]


async def _events(view: AppView, served: ServedProgram, inputs: dict[str, object]) -> AsyncIterator[bytes]:
    """Yield the events of one answer; Starlette ends this when the client hangs up, which stops the program."""
    try:
        async with view.stream(served.program, **inputs) as stream:
            async for delta in stream:
                if isinstance(delta, Reset):
                    yield _event("reset", {"predictor": delta.predictor})
                elif delta.text:
                    yield _event("delta", {"predictor": delta.predictor, "field": delta.field, "text": delta.text})
            yield b"event: done\ndata: %b\n\n" % served.write(await stream.result())
    except Exception as error:  # noqa: BLE001 - the status is sent already: errors are events
        yield _event("error", problem_of(error, served.name).plain())


def _event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data).encode())


_UNKEPT = {"cache-control": "no-store", "x-accel-buffering": "no"}


# --- problems -------------------------------------------------------------------------------------------------


def problem_of(error: Exception, name: str) -> Problem:
    """Return the answer for an error; the words of what is not dspex's own stay in the process."""
    match error:
        case MissingInput():
            return Problem(422, "wrong-inputs", "the inputs do not fit the program", str(error))
        case Overloaded():
            return Problem(503, "busy", "the service is full", retry_after=error.retry_after)
        case AppClosed() | AppNotRunning():
            return Problem(503, "closing", "the service is closing", retry_after=1.0)
        case DeadlineExceeded():
            return Problem(504, "too-late", "there was no answer in time")
        case BudgetExceeded():
            return Problem(503, "no-budget", "the budget is used up")
        case ServiceUnavailable() | LMError() | RetrievalError():
            return Problem(
                502, "not-answered", "the model, or what else the program asks, does not answer", _kind(error)
            )
        case DspexError():
            _log.error("%s failed: %s: %s", name, _kind(error), printable(str(error)))
            return Problem(500, "failed", "the program failed", _kind(error))
    _log.error("%s failed: %s: %s", name, _kind(error), printable(str(error)))
    return Problem(500, "failed", "the program failed")


def _kind(error: Exception) -> str:
    return type(error).__name__


def _told(problem: Problem) -> Response:
    headers = {"retry-after": f"{max(1, round(problem.retry_after))}"} if problem.retry_after is not None else None
    return JSONResponse(problem.plain(), problem.status, headers, "application/problem+json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = "there is nothing at this path" if error.status_code == 404 else str(error.detail)
    problem = Problem(error.status_code, "not-found" if error.status_code == 404 else "refused", title)
    return JSONResponse(problem.plain(), problem.status, error.headers, "application/problem+json")
