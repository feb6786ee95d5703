"""Anthropic's messages read: one function for whole answers, and for the message that a stream has added up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dspex.errors import LMError, ResponseInvalid
from dspex.protocols.call_shapes import arguments_of
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.ends import finish_word, missing_word
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.lm.wires._answer import Answer, Choice
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import error_body, failure
from dspex.services.lm.wires._json import count, string
from dspex.services.lm.wires._turns import place, plain_json

__all__ = ["PROVIDER", "anthropic_failure", "invalid", "read_message", "request_id", "usage_of"]

PROVIDER: Final = "anthropic"
"""The mark of reasoning from this wire."""

_NOUN: Final = "a message"
_STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error inside a stream would have had as an answer of its own."""


def request_id(headers: Mapping[str, str], document: object = None) -> str | None:
    """Return the provider's id of the request."""
    return headers.get("request-id") or headers.get("x-request-id") or string(document, "request_id") or None


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not a message."""
    return Answer(_NOUN, status, headers, request_id(headers)).invalid(problem)


def anthropic_failure(
    status: int,
    headers: Mapping[str, str],
    document: object,
    *,
    otherwise: str = "",
    in_stream: bool = False,
) -> LMError:
    """
    Return the typed error of an error document; ``otherwise`` is shown where it is none.

    Under a success status, in a stream that is, its type says which status it would have had.
    """
    found = error_body(document) or ErrorBody(message=otherwise)
    error = document.get("error") if isinstance(document, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    code = found.code or string(details, "error_code")
    if found.type == "invalid_request_error" and "credit balance is too low" in found.message.lower():
        code = "credit_balance_exhausted"  # an empty balance, told as a mistake in the request
    elif "exceed context limit" in found.message.lower():
        code = "context_length_exceeded"
    return failure(
        _STATUSES.get(found.type, status) if status < 300 else status,
        headers,
        replace(found, code=code),
        request_id=request_id(headers, document),
        in_stream=in_stream,
    )


def read_message(document: Mapping[str, object], headers: Mapping[str, str], status: int = 200) -> LMResponse:
    """
    Return the response for a message.

    Raises:
        ResponseInvalid: It has no content, or is nested too deeply.
        ContentRefused: The model refused, or broke off.
    """
    usage, model = usage_of(document.get("usage")), string(document, "model")
    answer = Answer(_NOUN, status, headers, request_id(headers), usage, model, string(document, "id"))
    content = document.get("content")
    if not isinstance(content, list):
        raise answer.invalid("it has no content")
    try:
        completion = _completion(content, string(document, "stop_reason"))
    except ValueError as error:
        raise answer.invalid(str(error)) from error
    details = document.get("stop_details")
    why = string(details, "explanation") or string(details, "category") or "no reason given"
    code = string(details, "category") or "refusal"
    return answer.response([Choice(0, completion, f"the model refused to answer: {why}", code)])


def _completion(content: list[JsonDict], reason: str) -> Completion:
    """
    Return the answer that blocks make up.

    Blocks that are neither text nor a call of our tools (thoughts, searches of the provider's own and their results)
    are kept as reasoning, with their place, so that the turn can be sent back as it was.
    """
    texts: list[str] = []
    calls: list[ToolCall] = []
    reasoning: list[ReasoningPart] = []
    citations: list[Citation] = []
    length = 0
    for block in content:
        kind = string(block, "type")
        if kind == "text":
            text = string(block, "text")
            citations.extend(_citations(block.get("citations"), length, length + len(text)))
            texts.append(text)
            length += len(text)
        elif kind == "tool_use":
            calls.append(_call(block, len(calls)))
        elif kind == "thinking":
            rest = {name: value for name, value in block.items() if name != "thinking"}
            data = {"block": rest, **place(length, len(calls))}
            reasoning.append(ReasoningPart(string(block, "thinking"), PROVIDER, data))
        elif kind:
            reasoning.append(ReasoningPart("", PROVIDER, {"block": block, **place(length, len(calls))}))
    said, has_calls = "".join(texts), bool(calls)
    return Completion(
        said,
        finish_word(reason) if reason else missing_word(PROVIDER, calls=has_calls, said=bool(said)),
        tool_calls=tuple(calls),
        reasoning=tuple(reasoning),
        citations=tuple(citations),
    )


def _call(block: Mapping[str, object], number: int) -> ToolCall:
    given = block.get("input")
    given = {} if given is None else given
    if isinstance(given, str):  # streamed, and not a JSON object by itself
        raw, arguments = arguments_of(given)
    else:
        raw, arguments = plain_json(given), given if isinstance(given, dict) else None
    rest = {name: value for name, value in block.items() if name not in ("type", "id", "name", "input")}
    data = {PROVIDER: rest} if rest else {}
    return ToolCall(string(block, "id") or f"call_{number}", string(block, "name"), arguments, raw, data)


def _citations(found: object, start: int, end: int) -> list[Citation]:
    """Return the sources of one block of text, the span that they are cited for."""
    return [
        Citation(
            text=string(each, "cited_text"),
            title=string(each, "document_title") or string(each, "title"),
            url=string(each, "url") or string(each, "source"),
            start=start,
            end=end,
        )
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict)
    ]


def usage_of(usage: object) -> Usage:
    """Return the token counts; the provider counts what its cache held beside the input, we within it."""
    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    details = usage.get("output_tokens_details") if isinstance(usage, dict) else None
    return Usage(
        input_tokens=count(usage, "input_tokens") + cached + written,
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=count(details, "thinking_tokens"),
        cache_write_tokens=written,
    )
