"""The page and the JSON API as an ASGI application; needs the extra ``dashboard``."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dspex.app.dashboard.actions import NotThere, act, in_a_thread
from dspex.app.dashboard.evaluations_view import compared
from dspex.app.dashboard.hub import Audience, encoded
from dspex.app.dashboard.jobs_view import candidate_view
from dspex.app.dashboard.options import Dashboard, host_of
from dspex.errors import ActorError, AppNotRunning, ConfigError, EvaluationError, OptimizationError

if TYPE_CHECKING:
    from dspex.app._tree import AppTree
    from dspex.app.dashboard.notes import Notes

__all__ = ["Watched", "web_app"]

PAGE: Final = Path(__file__).parent / "page"

MOST_BODY: Final = 16 * 1024
"""Bytes of an action's body."""

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Watched:
    """
    The App that is looked at: it may be closed and started again under its page.

    Args:
        find: Returns the running tree, its notes and who looks; raises AppNotRunning.
    """

    def __init__(self, find: Callable[[], tuple[AppTree, Notes, Audience]]) -> None:
        self.find = find


def web_app(watched: Watched, options: Dashboard, token: str, *, closed: bool) -> Starlette:
    """
    Return the application.

    Args:
        watched: The App that is looked at.
        options: Who may look.
        token: The secret that is needed to act.
        closed: True when it is needed to look as well.
    """
    api = _Api(watched, options, token, closed=closed)
    found = [path for path in sorted(PAGE.rglob("*")) if path.suffix in KINDS]
    files = {path.relative_to(PAGE).as_posix(): path for path in found}

    async def file(request: Request) -> Response:
        path = files.get(request.path_params.get("name") or "index.html")
        if path is None:
            return _refused(404, "there is no such file")
        return FileResponse(path, media_type=KINDS[path.suffix])

    get = ["GET"]
    routes = [
        Route("/api/v1/about", api.open(api.about), methods=get),
        Route("/api/v1/snapshot", api.looking(api.snapshot), methods=get),
        Route("/api/v1/events", api.looking(api.events), methods=get),
        Route("/api/v1/evaluations/compare", api.looking(api.compare), methods=get),
        Route("/api/v1/evaluations/{id}", api.looking(api.evaluation), methods=get),
        Route("/api/v1/jobs/{id}/candidates/{key}", api.acting(api.candidate), methods=get),
        Route("/api/v1/requests/{id}/conversation", api.acting(api.conversation), methods=get),
        Route("/api/v1/{what}/{whom}/{how}", api.acting(api.act), methods=["POST"]),
        Route("/", api.open(file), methods=get),
        Route("/{name:path}", api.open(file), methods=get),
    ]
    return Starlette(routes=routes)


Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    """The answers."""

    def __init__(self, watched: Watched, options: Dashboard, token: str, *, closed: bool) -> None:
        self._watched = watched
        self._options = options
        self._token = token
        self._closed = closed

    # --- doors ----------------------------------------------------------------------------------------------

    def open(self, handler: Handler) -> Handler:
        """Return a handler for whoever calls the page by one of its names."""

        async def answer(request: Request) -> Response:
            if not self._options.allows(request.headers.get("host", "")):
                return _refused(421, "the page is not called by this name: Dashboard(hosts=…) allows more names")
            try:
                response = await handler(request)
            except AppNotRunning as error:
                response = _refused(503, str(error))
            except NotThere as error:
                response = _refused(404, str(error))
            except (ConfigError, EvaluationError, OptimizationError) as error:
                response = _refused(400, str(error))
            except ActorError as error:
                response = _refused(409, str(error))
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer

    def looking(self, handler: Handler) -> Handler:
        """Return a handler for whoever may look."""
        return self.open(self._with_token(handler) if self._closed else handler)

    def acting(self, handler: Handler) -> Handler:
        """Return a handler for whoever knows the token, and calls from the page itself."""
        return self.open(self._with_token(self._from_here(handler)))

    def _with_token(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            # No cookie and no parameter of the address: another page cannot make a browser send this header.
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                return _refused(401, "this needs the token: open the address that the App has told")
            return await handler(request)

        return answer

    def _from_here(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            origin = request.headers.get("origin", "")
            site = request.headers.get("sec-fetch-site", "same-origin")
            there = host_of(origin.partition("://")[2]) if origin else ""
            if (origin and not self._options.allows(there)) or site not in ("same-origin", "none"):
                return _refused(403, "this was asked for by another page")
            return await handler(request)

        return answer

    # --- looking --------------------------------------------------------------------------------------------

    async def about(self, request: Request) -> Response:
        """Tell what this viewer may do, before it asks for anything."""
        given = request.headers.get("authorization", "").encode()
        known = hmac.compare_digest(given, f"Bearer {self._token}".encode())
        about = {"looks": known or not self._closed, "acts": known, "capture": self._options.capture}
        return JSONResponse({"version": 1, **about})

    async def snapshot(self, request: Request) -> Response:
        """Return the snapshot of now."""
        _, _, audience = self._watched.find()
        return Response(encoded(audience.hub.make()[1]), media_type="application/json")

    async def events(self, request: Request) -> Response:
        """Return snapshots and changes, as they come."""
        _, _, audience = self._watched.find()
        events: AsyncIterator[bytes] = audience.events(request.headers.get("last-event-id", ""))
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def evaluation(self, request: Request) -> Response:
        """Return the rows of one evaluation, failures first."""
        _, notes, _ = self._watched.find()
        note = _evaluation(notes, request.path_params["id"])
        return JSONResponse({**note.plain(), "rows": note.rows(capture=notes.capture)})

    async def compare(self, request: Request) -> Response:
        """Return how two evaluations differ."""
        _, notes, _ = self._watched.find()
        before, after = (_evaluation(notes, request.query_params.get(name, "")) for name in ("before", "after"))
        return JSONResponse(compared(before, after))

    async def conversation(self, request: Request) -> Response:
        """Return what was said in one request, where that may be shown."""
        _, notes, _ = self._watched.find()
        if not notes.capture:
            return _refused(403, "conversations are not kept: Dashboard(capture=True) keeps and shows them")
        words = notes.words.get(request.path_params["id"])
        if words is None:
            raise NotThere("nothing was said in this request, or it is no longer kept")
        return Response(encoded({"id": request.path_params["id"], "calls": words}), media_type="application/json")

    async def candidate(self, request: Request) -> Response:
        """Return what a candidate changes; its words only where they may be shown."""
        tree, notes, _ = self._watched.find()
        record = tree.job_service.table.jobs.get(request.path_params["id"])
        if record is None:
            raise NotThere("there is no such job")
        told = await in_a_thread(candidate_view, record.spec.path, request.path_params["key"], notes.capture)
        return Response(encoded(told), media_type="application/json")

    # --- acting ---------------------------------------------------------------------------------------------

    async def act(self, request: Request) -> Response:
        """Do one thing."""
        tree, _, _ = self._watched.find()
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused(415, "an action is sent as application/json")
        told = request.path_params
        await act(tree, told["what"], told["whom"], told["how"], await _body(request))
        return JSONResponse({"done": True})


async def _body(request: Request) -> Mapping[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise ConfigError("the body is too long")
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError("the body is not a JSON object")
    return found


def _evaluation(notes: Notes, number: str) -> Any:
    note = next((each for each in notes.evaluations if each.id == number), None)
    if note is None:
        raise NotThere(f"there is no evaluation {number[:20]!r}, or it is no longer kept")
    return note


def _refused(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status_code=status)
