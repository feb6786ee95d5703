"""Chat completions read: one function for whole answers, and one for the message that a stream has added up to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dspex.errors import ResponseInvalid
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage
from dspex.services.lm.wires._errors import billed
from dspex.services.lm.wires._headers import x_headers
from dspex.services.lm.wires._json import count, parse, string
from dspex.services.lm.wires._refusals import FILTERED, Refusal, is_withheld, refused
from dspex.services.lm.wires._turns import plain_json

__all__ = [
    "PROVIDER",
    "REASONING_FIELDS",
    "arguments_of",
    "content_of",
    "error_of",
    "invalid",
    "logprobs_of",
    "read_answer",
    "usage_of",
]

PROVIDER: Final = "openai-chat"
"""What reasoning from this wire is marked with; every server that speaks the protocol shares it."""
REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
"""Where servers put a model's thoughts: the field of DeepSeek and its followers, and that of OpenRouter and Groq."""

_REASONS: Final = {"eos": "stop", "model_length": "length", "max_tokens": "length", "function_call": "tool_calls"}


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not a chat completion."""
    request_id = headers.get("x-request-id")
    return ResponseInvalid(
        f"the provider's answer is not a chat completion: {problem}", status=status, request_id=request_id
    )


def error_of(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """
    Return the error document inside a success, or None where there is none.

    Gateways report an upstream's failure beside the choices, or in one of them (OpenRouter).
    """
    if document.get("error") and isinstance(document["error"], (dict, str)):
        return document
    if document.get("object") == "error":
        return document
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error") and isinstance(choice["error"], (dict, str)):
            return choice
    return None


def read_answer(document: Mapping[str, Any], choices: list[Any], status: int, headers: Mapping[str, str]) -> LMResponse:
    """
    Return the response for a chat completion whose ``choices`` is a list with members.

    Raises:
        ResponseInvalid: A choice has another shape.
        ContentRefused: The model or a filter withheld every completion, or cut it off.
    """
    usage = usage_of(document)
    found: list[tuple[int, Completion]] = []
    refusals: list[Refusal] = []
    for place, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise billed(invalid(f"choice {place} has no message", headers, status), usage)
        completion = _completion(choice, message)
        if completion is None:
            raise billed(invalid(f"the content of choice {place} is not text", headers, status), usage)
        refusal = message.get("refusal")
        if is_withheld(completion) or (refusal and not (completion.text or completion.tool_calls)):
            why = refusal if refusal and isinstance(refusal, str) else FILTERED
            refusals.append(Refusal(f"the model refused to answer: {why}", partial=completion.text))
            continue
        index = choice.get("index")
        found.append((index if isinstance(index, int) else place, completion))
    if not found:
        raise billed(refused(refusals, status=status, request_id=headers.get("x-request-id")), usage)
    if len(found) > 1:
        found.sort(key=lambda pair: pair[0])
    return LMResponse(
        completions=tuple([completion for _, completion in found]),
        usage=usage,
        model=string(document, "model"),
        request_id=headers.get("x-request-id"),
        headers=x_headers(headers),
        withheld=len(refusals),
    )


def _completion(choice: Mapping[str, Any], message: Mapping[str, Any]) -> Completion | None:
    """Return one answer, or None where its content is not text."""
    content = message.get("content")
    thoughts = ""
    if not isinstance(content, str):
        parts = content_of(content)
        if parts is None:
            return None
        content, thoughts = parts
    reason = choice.get("finish_reason")
    reason = _REASONS.get(reason, reason) if isinstance(reason, str) and reason else "unknown"
    get = message.get
    calls, annotations, logprobs = get("tool_calls"), get("annotations"), choice.get("logprobs")
    thinks = thoughts or get("reasoning_content") or get("reasoning") or get("reasoning_details")
    if not (calls or annotations or logprobs or thinks):
        return Completion(content, reason)  # as most answers are
    return Completion(
        content,
        reason,
        tool_calls=_tool_calls(calls) if isinstance(calls, list) else (),
        reasoning=_reasoning(message, thoughts) if thinks else (),
        logprobs=logprobs_of(logprobs.get("content")) if isinstance(logprobs, dict) else None,
        citations=_citations(annotations) if isinstance(annotations, list) else (),
    )


def content_of(content: object) -> tuple[str, str] | None:
    """Return text and thoughts of a message's content (a string, nothing, or a list of parts), or None for others."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return None
    text = "".join([string(part, "text") for part in content if string(part, "type") == "text"])
    # Mistral's thinking models put a list of text parts into a part of their own.
    thinking = [part.get("thinking") for part in content if isinstance(part, dict) and part.get("type") == "thinking"]
    thoughts = [(content_of(each) or ("", ""))[0] for each in thinking]
    return text, "".join(thoughts)


def _reasoning(message: Mapping[str, Any], thoughts: str) -> tuple[ReasoningPart, ...]:
    """Return the thoughts, with what it takes to send them back under the name they came by."""
    if thoughts:
        return (ReasoningPart(thoughts, PROVIDER),)
    field = next((name for name in REASONING_FIELDS if string(message, name)), "")
    text = string(message, field)
    details = message.get("reasoning_details")
    if isinstance(details, list) and details:
        return (ReasoningPart(text, PROVIDER, {"reasoning_details": details}),)
    return (ReasoningPart(text, PROVIDER, {"field": field}),) if text else ()


def _tool_calls(calls: list[Any]) -> tuple[ToolCall, ...]:
    """Return the calls; what is not a call is left out."""
    found: list[ToolCall] = []
    for place, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        call_id = string(call, "id") or f"call_{place}"
        if call.get("type") == "custom" and isinstance(call.get("custom"), dict):
            custom = call["custom"]
            found.append(ToolCall(call_id, string(custom, "name"), None, string(custom, "input"), {"custom": True}))
            continue
        function = call.get("function")
        if not (isinstance(function, dict) and isinstance(function.get("name"), str)):
            continue
        raw, arguments = arguments_of(function.get("arguments"))
        found.append(ToolCall(call_id, function["name"], arguments, raw))
    return tuple(found)


def arguments_of(value: object) -> tuple[str, Mapping[str, Any] | None]:
    """Return the arguments as text and as an object; a tool without parameters is often called with nothing."""
    if isinstance(value, dict):  # some local servers leave out the quoting
        try:
            return plain_json(value), value
        except ValueError:
            return "", value
    if value is None or value == "":
        return "", {}
    if not isinstance(value, str):
        return str(value), None
    try:
        arguments = parse(value)
    except ValueError:
        return value, None
    return value, arguments if isinstance(arguments, dict) else None


def logprobs_of(content: object) -> tuple[TokenLogprob, ...] | None:
    """Return the log-probabilities of a list of tokens, or None where there is no list."""
    if not isinstance(content, list):
        return None
    return tuple(
        TokenLogprob(string(each, "token"), each["logprob"], tuple(_alternatives(each.get("top_logprobs"))))
        for each in content
        if _has_logprob(each)
    )


def _alternatives(top: object) -> list[tuple[str, float]]:
    if not isinstance(top, list):
        return []
    return [(string(each, "token"), each["logprob"]) for each in top if _has_logprob(each)]


def _has_logprob(entry: object) -> bool:
    return isinstance(entry, dict) and type(entry.get("logprob")) in (int, float)


def _citations(annotations: list[Any]) -> tuple[Citation, ...]:
    """Return the web pages cited."""
    found: list[Citation] = []
    for annotation in annotations:
        cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(cited, dict):
            start, end = cited.get("start_index"), cited.get("end_index")
            found.append(
                Citation(
                    text=string(cited, "content"),
                    title=string(cited, "title"),
                    url=string(cited, "url"),
                    start=start if type(start) is int else None,
                    end=end if type(end) is int else None,
                )
            )
    return tuple(found)


def usage_of(document: Mapping[str, Any]) -> Usage:
    """Return the token counts; what the provider left out, or gave as no number, is zero."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    spent, written = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    if not (prompt or completion):
        return Usage(spent, written, count(usage, "prompt_cache_hit_tokens"))
    reasoning = count(completion, "reasoning_tokens")
    if reasoning and count(usage, "total_tokens") == spent + written + reasoning:
        written += reasoning  # xAI counts its thoughts beside the answer
    cached = count(prompt, "cached_tokens") or count(usage, "prompt_cache_hit_tokens")
    return Usage(spent, written, cached, reasoning, count(prompt, "cache_write_tokens"))
