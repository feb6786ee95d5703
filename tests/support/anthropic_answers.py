"""Written-out answers and streams of Anthropic's Messages, for the tests of its wire."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["RICH", "RICH_STREAM", "answer", "block", "end", "problem", "start", "stream", "text"]


def answer(*content: dict[str, Any], stop_reason: str = "end_turn", **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 7},
        "something_new": [1, 2],
        **fields,
    }


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def problem(kind: str, message: str = "no", **details: Any) -> dict[str, Any]:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return {"type": "error", "error": error, "request_id": "req_body"}


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "ulm"}}
RICH = answer(
    {"type": "thinking", "thinking": "The user asks…", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "b3BhcXVl"},
    text("I look it up. "),
    SEARCH,
    text(
        "It is sunny",
        citations=[
            {
                "type": "web_search_result_location",
                "cited_text": "sun all day",
                "url": "https://example.com/ulm",
                "title": "Ulm",
                "encrypted_index": "eA==",
            }
        ],
    ),
    text("."),
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln", "days": 2}},
    stop_reason="tool_use",
    usage={
        "input_tokens": 10,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 3000,
        "output_tokens": 70,
        "output_tokens_details": {"thinking_tokens": 40},
    },
)


def start(**usage: int) -> dict[str, Any]:
    message = answer(stop_reason="", usage={"input_tokens": 10, "output_tokens": 1, **usage})
    return {"type": "message_start", "message": {**message, "stop_reason": None}}


def block(index: int, opening: dict[str, Any], deltas: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": opening},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
    return [delta, {"type": "message_stop"}]


RICH_STREAM = [
    start(cache_creation_input_tokens=200, cache_read_input_tokens=3000),
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        [
            {"type": "thinking_delta", "thinking": "The user "},
            {"type": "thinking_delta", "thinking": "asks…"},
            {"type": "signature_delta", "signature": "c2ln"},
        ],
    ),
    *block(1, {"type": "redacted_thinking", "data": "b3BhcXVl"}, []),
    *block(2, text(""), [{"type": "text_delta", "text": "I look "}, {"type": "text_delta", "text": "it up. "}]),
    *block(3, {**SEARCH, "input": {}}, [{"type": "input_json_delta", "partial_json": '{"query": "ulm"}'}]),
    *block(
        4,
        text(""),
        [
            {"type": "citations_delta", "citation": RICH["content"][4]["citations"][0]},
            {"type": "text_delta", "text": "It is sunny"},
        ],
    ),
    {"type": "something_new", "index": 4},
    *block(5, text("."), [{"type": "sparkle_delta", "sparkle": 1}]),
    *block(
        6,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        [
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"city": "Kö'},
            {"type": "input_json_delta", "partial_json": 'ln", "days": 2}'},
        ],
    ),
    *end("tool_use", output_tokens=70, output_tokens_details={"thinking_tokens": 40}),
]
"""The same answer as ``RICH``, with every kind of event."""
