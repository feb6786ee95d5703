"""
The chat-completions server all HTTP contenders talk to: HTTP/1.1, fixed answers, as little work as possible.

Its first line of output is the base URL. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import threading
from typing import cast

__all__ = ["ANSWER", "LATE", "PIECES", "main"]

PIECES = 200

LATE = 0.050
"""Seconds after which answers below ``/late`` are sent."""

ANSWER = "[[ ## answer ## ]]\nParis is the capital of France.\n\n[[ ## completed ## ]]\n"

AGENT_ANSWER = (
    "[[ ## next_thought ## ]]\nI have to look it up.\n\n[[ ## next_tool_name ## ]]\nlook_up\n\n"
    '[[ ## next_tool_args ## ]]\n{"query": "Paris"}\n\n[[ ## reasoning ## ]]\nThe page says so.\n\n' + ANSWER
)
"""Below ``/agent``: a step of an agent and an answer in one; whoever asks for either finds it."""


def _response(answer: str) -> bytes:
    message = {"role": "assistant", "content": answer}
    body = json.dumps(
        {
            "id": "chatcmpl-benchmark",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "benchmark",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 150, "completion_tokens": 20, "total_tokens": 170},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _streamed() -> bytes:
    words = ["[[ ## answer ## ]]\n", *(f"word{number} " for number in range(PIECES)), "\n\n[[ ## completed ## ]]\n"]
    choices: list[dict[str, object]] = [
        {"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    same = {"id": "chatcmpl-benchmark", "object": "chat.completion.chunk", "created": 1_700_000_000}
    events = [json.dumps({**same, "model": "benchmark", "choices": [choice]}) for choice in choices]
    body = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


RESPONSE = _response(ANSWER)
_STREAM = _streamed()
"""Below ``/stream``: the answer in PIECES events, all at once."""
_AGENT_RESPONSE = _response(AGENT_ANSWER)


_ASKED = re.compile(rb"`\[\[ ## (\w+) ## \]\]`")


def _all_fields(request: bytes) -> bytes:
    """Return an answer, below ``/fields``, with every output that the prompt's last sentence asks for."""
    names = dict.fromkeys(name.decode() for name in _ASKED.findall(request) if name != b"completed")
    fields = "".join(f"[[ ## {name} ## ]]\nParis is the capital of France.\n\n" for name in names)
    return _response(f"{fields}[[ ## completed ## ]]\n")


class _Connection(asyncio.Protocol):
    """Answers every complete request; requests follow one another on a connection."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not registered as one

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := _end_of_request(self._buffer)) is not None:
            request, self._buffer = self._buffer[:end], self._buffer[end:]
            if request.startswith((b"POST /late/", b"POST /fields/")):
                response = RESPONSE if request.startswith(b"POST /late/") else _all_fields(request)
                asyncio.get_running_loop().call_later(LATE, self._transport.write, response)
                continue
            response = RESPONSE
            if request.startswith((b"POST /agent/", b"POST /stream/")):
                response = _AGENT_RESPONSE if request.startswith(b"POST /agent/") else _STREAM
            self._transport.write(response)


def _end_of_request(buffer: bytes) -> int | None:
    """Return where the first request in ``buffer`` ends, or None while it is incomplete."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    headers = buffer[: head + 2].lower()
    place = headers.find(b"\r\ncontent-length:")
    length = int(headers[place + 17 : headers.find(b"\r\n", place + 2)]) if place >= 0 else 0
    end = head + 4 + length
    return end if len(buffer) >= end else None


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch() -> None:
        sys.stdin.read()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}/v1\n")
    sys.stdout.flush()
    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()


def main() -> None:
    """Serve until standard input ends, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
