"""Go on with the trace of whoever calls a service over HTTP."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dspex.errors import MissingExtra

__all__ = ["ASGIApp", "TraceContextMiddleware"]

Message = MutableMapping[str, Any]
"""Of ASGI; its scope is one, too."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]


class TraceContextMiddleware:
    """
    ASGI middleware: spans of a request lie below the caller's span, which its headers name.

    Args:
        app: The ASGI application.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """

    def __init__(self, app: ASGIApp) -> None:
        if importlib.util.find_spec("opentelemetry") is None:
            raise MissingExtra("otel", "OpenTelemetry.middleware")
        self._app = app
        self._contexts = importlib.import_module("opentelemetry.context")
        self._propagate = importlib.import_module("opentelemetry.propagate")
        self._trace = importlib.import_module("opentelemetry.trace")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer; cancellation travels on."""
        if scope["type"] != "http" or self._trace.get_current_span().get_span_context().is_valid:
            await self._app(scope, receive, send)
            return
        carrier = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token = self._contexts.attach(self._propagate.extract(carrier))
        try:
            await self._app(scope, receive, send)
        finally:
            self._contexts.detach(token)
