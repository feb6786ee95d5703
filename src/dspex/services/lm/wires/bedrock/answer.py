"""Bedrock's answers read: one function for whole answers, and for the answer that a stream has added up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspex.errors import ResponseInvalid
from dspex.protocols.call_shapes import arguments_of
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.ends import finish_word, missing_word
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.lm.wires._answer import Answer, Choice
from dspex.services.lm.wires._json import count, string
from dspex.services.lm.wires._turns import place, plain_json
from dspex.services.lm.wires.bedrock.errors import request_id

__all__ = ["PROVIDER", "invalid", "read_converse"]

PROVIDER: Final = "bedrock"
"""The mark of reasoning from this wire."""

_NOUN: Final = "a message of Converse"


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not an answer."""
    return Answer(_NOUN, status, headers, request_id(headers)).invalid(problem)


def read_converse(document: Mapping[str, object], headers: Mapping[str, str], status: int = 200) -> LMResponse:
    """
    Return the response for an answer.

    Raises:
        ResponseInvalid: It has no content, or the model's answer was malformed.
        ContentRefused: A guardrail or a filter withheld it.
    """
    answer = Answer(_NOUN, status, headers, request_id(headers), _usage(document.get("usage")), _model(document))
    output = document.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        raise answer.invalid("it has no content")
    reason = string(document, "stopReason")
    try:
        completion = _completion(content, reason)
    except ValueError as error:
        raise answer.invalid(str(error)) from error
    why = "a guardrail intervened" if reason == "guardrail_intervened" else "the answer was withheld by a filter"
    return answer.response([Choice(0, completion, f"{why}", reason or "content_filtered")])


def _model(document: Mapping[str, object]) -> str:
    """Return the model that a router chose; the answer names no other."""
    trace = document.get("trace")
    router = trace.get("promptRouter") if isinstance(trace, dict) else None
    return string(router, "invokedModelId")


def _completion(content: list[Any], reason: str) -> Completion:
    """
    Return the answer that blocks make up.

    Blocks that are neither text nor a call of our tools are kept as reasoning, with their place, so that the turn can
    be sent back as it was.
    """
    texts: list[str] = []
    calls: list[ToolCall] = []
    reasoning: list[ReasoningPart] = []
    citations: list[Citation] = []
    length = 0
    for block in content:
        if not isinstance(block, dict):
            continue
        thought, call, cited = block.get("reasoningContent"), block.get("toolUse"), block.get("citationsContent")
        text = string(block, "text")
        if isinstance(cited, dict):
            text = "".join(string(each, "text") for each in _objects(cited.get("content")))
            citations.extend(_citations(cited.get("citations"), length, length + len(text)))
        if text or isinstance(cited, dict):
            texts.append(text)
            length += len(text)
        elif isinstance(call, dict) and not string(call, "type"):
            calls.append(_call(call, len(calls)))
        elif isinstance(thought, dict):
            said = string(thought.get("reasoningText"), "text")
            data = {"block": block, **place(length, len(calls))}
            reasoning.append(ReasoningPart(said, PROVIDER, data))
        elif block and "text" not in block:
            reasoning.append(ReasoningPart("", PROVIDER, {"block": block, **place(length, len(calls))}))
    said, has_calls = "".join(texts), bool(calls)
    return Completion(
        said,
        finish_word(reason) if reason else missing_word("bedrock", calls=has_calls, said=bool(said)),
        tool_calls=tuple(calls),
        reasoning=tuple(reasoning),
        citations=tuple(citations),
    )


def _call(fields: Mapping[str, object], number: int) -> ToolCall:
    given = fields.get("input")
    given = {} if given is None else given
    if isinstance(given, str):  # streamed, and not a JSON object by itself
        raw, arguments = arguments_of(given)
    else:
        raw, arguments = plain_json(given), given if isinstance(given, dict) else None
    return ToolCall(string(fields, "toolUseId") or f"call_{number}", string(fields, "name"), arguments, raw)


def _objects(found: object) -> Iterator[dict[str, Any]]:
    return (each for each in (found if isinstance(found, list) else ()) if isinstance(each, dict))


def _citations(found: object, start: int, end: int) -> Iterator[Citation]:
    """Yield the sources of one block of text, the span that they are cited for."""
    for each in _objects(found):
        location = each.get("location")
        web = location.get("web") if isinstance(location, dict) else None
        words = "".join(string(piece, "text") for piece in _objects(each.get("sourceContent")))
        url = string(web, "url") or string(each, "source")
        yield Citation(text=words, title=string(each, "title"), url=url, start=start, end=end)


def _usage(usage: object) -> Usage:
    """Return the token counts; the provider counts what its cache held beside the input, we within it."""
    cached, kept = count(usage, "cacheReadInputTokens"), count(usage, "cacheWriteInputTokens")
    return Usage(
        input_tokens=count(usage, "inputTokens") + cached + kept,
        output_tokens=count(usage, "outputTokens"),
        cached_tokens=cached,
        cache_write_tokens=kept,
    )
