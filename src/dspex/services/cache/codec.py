"""Cached values as versioned JSON: the only form in which an answer leaves the process. Never pickle."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from decimal import Decimal
from typing import Any, Final

from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage

__all__ = ["decode_response", "decode_stored", "decode_value", "encode_response", "encode_value"]

VERSION = 2
_KIND: Final = "answer"
_COUNTS = 6
"""Numbers of a usage that are counts."""


def encode_value(value: LMResponse) -> tuple[str, str]:
    """
    Return the kind of a value and its JSON text, in ASCII.

    Vectors and passages are kept as answers, so there is one kind; the place for it is in every format.

    Raises:
        TypeError: A part of it is not JSON.
    """
    return _KIND, encode_response(value)


def decode_value(kind: str, fields: object) -> LMResponse | None:
    """Return the answer that JSON stands for, or None when it is none; never raises."""
    if kind != _KIND:
        return None
    try:
        return _response(fields)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def decode_stored(kind: str, text: str) -> LMResponse | None:
    """Return the value that a JSON text stands for, or None when it is none of this kind; never raises."""
    try:
        fields: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return decode_value(kind, fields)


def encode_response(response: LMResponse) -> str:
    """
    Return the JSON text of a response, in ASCII: models can say half of a surrogate pair, files cannot.

    Raises:
        TypeError: The data that a provider's wire has kept for the next turn is not JSON.
    """
    return json.dumps(
        {
            "v": VERSION,
            "completions": [_encoded(each) for each in response.completions],
            "usage": _usage_written(response.usage),
            "model": response.model,
            "request_id": response.request_id,
            "headers": dict(response.headers),
            "withheld": response.withheld,
        },
        separators=(",", ":"),
    )


def _encoded(completion: Completion) -> list[object]:  # JSON
    more: dict[str, object] = {}  # JSON
    if completion.tool_calls:
        more["calls"] = [
            [each.id, each.name, None if each.arguments is None else dict(each.arguments), each.raw, dict(each.data)]
            for each in completion.tool_calls
        ]
    if completion.reasoning:
        more["reasoning"] = [[each.text, each.provider, dict(each.data)] for each in completion.reasoning]
    if completion.logprobs is not None:
        more["logprobs"] = [[each.token, each.logprob, each.top] for each in completion.logprobs]
    if completion.citations:
        more["citations"] = [astuple(each) for each in completion.citations]
    if completion.native_reason:
        more["native"] = completion.native_reason
    return [completion.text, completion.finish_reason, *([more] if more else [])]


def decode_response(text: str) -> LMResponse | None:
    """Return the response, or None when ``text`` is of another version or no response at all."""
    return decode_stored(_KIND, text)


def _response(fields: Any) -> LMResponse | None:  # JSON
    if fields["v"] != VERSION:
        return None
    completions = tuple(_decoded(*each) for each in fields["completions"])
    usage = _usage_read(fields["usage"])
    headers = {_text(name): _text(value) for name, value in fields["headers"].items()}
    request_id = fields["request_id"]
    if not completions or not (request_id is None or isinstance(request_id, str)):
        return None
    withheld = int(fields["withheld"])
    return LMResponse(completions, usage, _text(fields["model"]), request_id, headers, withheld)


def _decoded(text: object, reason: object, more: Any = None) -> Completion:  # JSON
    if more is None:
        return Completion(_text(text), _text(reason))
    logprobs = more.get("logprobs")
    return Completion(
        _text(text),
        _text(reason),
        tool_calls=tuple(
            ToolCall(_text(call_id), _text(name), None if given is None else _object(given), _text(raw), _object(data))
            for call_id, name, given, raw, data in more.get("calls", ())
        ),
        reasoning=tuple(
            ReasoningPart(_text(thought), _text(provider), _object(data))
            for thought, provider, data in more.get("reasoning", ())
        ),
        logprobs=None if logprobs is None else tuple(_logprob(*each) for each in logprobs),
        citations=tuple(_citation(*each) for each in more.get("citations", ())),
        native_reason=_text(more.get("native", "")),
    )


def _usage_written(usage: Usage) -> list[object]:
    *counts, charged = astuple(usage)
    return counts if charged is None else [*counts, str(charged)]


def _usage_read(fields: list[Any]) -> Usage:  # JSON
    charged = _text(fields[_COUNTS]) if len(fields) > _COUNTS else None
    amount = None if charged is None else Decimal(charged)
    if amount is not None and not amount.is_finite():
        raise ValueError(f"{charged} is not an amount")
    counts: Any = [int(count) for count in fields[:_COUNTS]]  # as many as the version had that wrote them
    return replace(Usage(*counts), charged=amount)


def _logprob(token: object, logprob: Any, top: Any) -> TokenLogprob:  # JSON
    return TokenLogprob(_text(token), float(logprob), tuple((_text(each), float(value)) for each, value in top))


def _citation(text: object, title: object, url: object, start: Any, end: Any) -> Citation:  # JSON
    return Citation(
        _text(text), _text(title), _text(url), None if start is None else int(start), None if end is None else int(end)
    )


def _object(value: object) -> dict[str, object]:  # the provider's own JSON
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
