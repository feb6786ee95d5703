"""Answers of providers as they stand on the wire, for the scripted server of ``tests.support.transports``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import dspex
from tests.support.transports import Answer, Server, say

__all__ = [
    "CUT",
    "WHOLE",
    "app_at",
    "asked",
    "by_body",
    "call",
    "calls",
    "chat",
    "claude",
    "delta",
    "events",
    "failed",
    "gemini",
    "reply",
    "responses",
    "streamed",
]

WHOLE = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
CUT = "[[ ## answer ## ]]\nParis and"


def reply(document: object, status: int = 200, kind: str = "application/json", headers: str = "") -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return say(head.encode() + body)


def failed(status: int, message: str, headers: str = "", /, **error: Any) -> Answer:
    return reply({"error": {"message": message, **error}}, status, headers=headers)


def chat(content: str | None = WHOLE, finish: str | None = "stop", *, counts: bool = True, **message: Any) -> Answer:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}} if counts else {}
    return reply({"model": "m", "choices": [choice], **usage})


def call(name: str, arguments: object = "{}", call_id: str = "1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*each: dict[str, Any], content: str | None = None, finish: str = "tool_calls") -> Answer:
    return chat(content, finish, tool_calls=list(each))


def delta(content: str | None = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    said = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": {**said, **fields}, "finish_reason": finish}]}


def events(*documents: object, done: bool = True) -> Answer:
    lines = [b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in documents]
    return reply(b"\n\n".join([*lines, *([b"data: [DONE]"] if done else []), b""]), kind="text/event-stream")


def claude(*blocks: dict[str, Any], stop: str | None, text: str | None = None) -> Answer:
    content = [*blocks, *([] if text is None else [{"type": "text", "text": text}])]
    usage = {"input_tokens": 5, "output_tokens": 5}
    return reply({"type": "message", "model": "c", "content": content, "stop_reason": stop, "usage": usage})


def gemini(*parts: dict[str, Any], finish: str = "STOP") -> Answer:
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 5}
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return reply({"candidates": [candidate], "usageMetadata": counted})


def responses(
    text: str, status: str = "completed", reason: str | None = None, *, more: Sequence[dict[str, Any]] = ()
) -> Answer:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    details = {"incomplete_details": {"reason": reason}} if reason else {}
    usage = {"input_tokens": 5, "output_tokens": 5}
    return reply({"status": status, "model": "m", "output": [item, *more], "usage": usage, **details})


def asked(server: Server) -> list[Any]:
    """Return the JSON bodies of the requests so far."""
    return [json.loads(body) for _, body in server.requests]


async def streamed(app: Any, program: Any, **inputs: Any) -> Any:
    """Return the result of a stream that is read to its end."""
    async with app.stream(program, **inputs) as stream:
        async for _ in stream:
            pass
        return await stream.result()


def by_body(choose: Callable[[Any], Answer]) -> Answer:
    """Answer each request by what its body says."""
    return lambda peer: choose(json.loads(peer.server.requests[-1][1]))(peer)


def app_at(server: Server, model: str = "openai/m", *, lm: dict[str, Any] | None = None, **options: Any) -> dspex.App:
    """Make an App that asks the scripted server, without waits between attempts."""
    root = server.url.removesuffix("/v1/chat/completions")
    base = root if model.startswith(("anthropic/", "gemini/")) else f"{root}/v1"
    limits = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=2, base=0.0, cap=0.0))
    options = {"cache": None, "limits": limits, "adapter": "chat", **options}
    return dspex.App(dspex.LM(model, api_base=base, api_key="k", **(lm or {})), **options)
