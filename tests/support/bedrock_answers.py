"""Answers of Bedrock as they stand on the wire, whole and as event streams."""

from __future__ import annotations

import json
from typing import Any

from dspex.services.lm.wires.bedrock.event_stream import written

__all__ = ["USAGE", "event", "exception", "stream", "whole"]

USAGE = {"inputTokens": 30, "outputTokens": 7, "totalTokens": 137, "cacheReadInputTokens": 100}


def whole(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    message = {"role": "assistant", "content": list(content)}
    return {"output": {"message": message}, "stopReason": stop, "usage": USAGE, "metrics": {"latencyMs": 12}}


def event(kind: str, payload: object) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return written(headers, json.dumps(payload).encode())


def exception(kind: str, message: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return written(headers, json.dumps({"message": message}).encode())


def stream(text: str, *, stop: str = "end_turn") -> bytes:
    """A text in pieces of five characters."""
    return b"".join(
        [
            event("messageStart", {"role": "assistant", "p": "abc"}),
            *(
                event("contentBlockDelta", {"delta": {"text": text[at : at + 5]}, "contentBlockIndex": 0, "p": "ab"})
                for at in range(0, len(text), 5)
            ),
            event("contentBlockStop", {"contentBlockIndex": 0}),
            event("messageStop", {"stopReason": stop}),
            event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 12}}),
        ]
    )
