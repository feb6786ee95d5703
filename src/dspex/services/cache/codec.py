"""Responses as versioned JSON: the only form in which an answer leaves the process. Never pickle."""

from __future__ import annotations

import json
from typing import Any

from dspex.protocols.lm import Completion, LMResponse, Usage

__all__ = ["decode_response", "encode_response"]

VERSION = 1


def encode_response(response: LMResponse) -> str:
    """Return the JSON text of a response."""
    usage = response.usage
    return json.dumps(
        {
            "v": VERSION,
            "completions": [[each.text, each.finish_reason] for each in response.completions],
            "usage": [usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens],
            "model": response.model,
            "request_id": response.request_id,
            "headers": dict(response.headers),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def decode_response(text: str) -> LMResponse | None:
    """Return the response, or None when ``text`` is of another version or no response at all."""
    try:
        fields: Any = json.loads(text)
        if fields["v"] != VERSION:
            return None
        completions = tuple(Completion(_text(body), _text(reason)) for body, reason in fields["completions"])
        usage = Usage(*(int(count) for count in fields["usage"]))
        headers = {_text(name): _text(value) for name, value in fields["headers"].items()}
        request_id = fields["request_id"]
        if not completions or not (request_id is None or isinstance(request_id, str)):
            return None
        return LMResponse(completions, usage, _text(fields["model"]), request_id, headers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
