"""Between both sides and the model's server: passes each request on and keeps what was said, by lane."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import httpx

__all__ = ["Exchange", "Relay", "digest_of"]

_PATIENCE = 1800.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, both as they went over the wire."""

    request: Mapping[str, Any]
    status: int
    answer: Mapping[str, Any]

    @property
    def usage(self) -> tuple[int, int, int]:
        """Tokens in, of those from the server's cache, and tokens out."""
        told = self.answer.get("usage") or {}
        cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return told.get("prompt_tokens", 0), cached, told.get("completion_tokens", 0)

    def record(self) -> dict[str, Any]:
        """Return what a journal keeps of it."""
        choice = (self.answer.get("choices") or [{}])[0]
        message = choice.get("message") or {}
        tokens_in, cached, out = self.usage
        kept = {
            "digest": digest_of(self.request),
            "request": dict(self.request),
            "status": self.status,
            "text": message.get("content"),
            "finish": choice.get("finish_reason"),
            "tokens": [tokens_in, cached, out],
        }
        return kept | {name: message[name] for name in ("tool_calls", "reasoning_content") if message.get(name)}


def digest_of(request: Mapping[str, Any]) -> str:
    """Return the digest of a prompt: its messages, its tools and the form that the answer must have."""
    asked = {name: request.get(name) for name in ("messages", "tools", "response_format", "grammar")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


class Relay:
    """A server on this machine: ``with Relay(url) as relay: relay.url(lane)``; each lane has one caller at a time."""

    def __init__(
        self, upstream: str, on_exchange: Callable[[Exchange], object] | None = None, *, port: int = 0
    ) -> None:
        self._upstream = upstream.rstrip("/")
        self._kept: dict[int, list[Exchange]] = {}
        self._on_exchange = on_exchange  # is told of each instead of having them kept
        self._client = httpx.Client(timeout=_PATIENCE, trust_env=False)
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                relay._pass_on(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def url(self, lane: int) -> str:
        """Return the address at which a lane finds the model."""
        return f"http://127.0.0.1:{self.port}/{lane}/v1"

    def take(self, lane: int) -> list[Exchange]:
        """Return what was said on a lane since the last look."""
        return self._kept.pop(lane, [])

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        lane, _, path = handler.path.lstrip("/").partition("/v1")
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        try:
            answer = self._client.post(
                self._upstream + path, content=body, headers={"content-type": "application/json"}
            )
            status, content = answer.status_code, answer.content
            exchange = Exchange(json.loads(body), status, json.loads(content))
            if self._on_exchange is None:
                self._kept.setdefault(int(lane), []).append(exchange)
            else:
                self._on_exchange(exchange)
        except (httpx.HTTPError, ValueError) as error:
            status, content = 502, json.dumps({"error": {"message": str(error)}}).encode()
        with contextlib.suppress(OSError):  # who asked has gone: the run was stopped
            handler.send_response(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
