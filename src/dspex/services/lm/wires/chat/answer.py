"""Chat completions read: one function for whole answers, and one for the message that a stream has added up to."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from dspex.errors import ResponseInvalid
from dspex.protocols.call_shapes import arguments_of, named_call
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.ends import end_of, finish_word, is_known_end, missing_word
from dspex.protocols.json_values import Json, JsonDict
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage
from dspex.services.lm.wires._answer import FILTERED, Answer, Choice
from dspex.services.lm.wires._json import count, dollars, string

__all__ = [
    "PROVIDER",
    "REASONING_FIELDS",
    "content_of",
    "error_of",
    "invalid",
    "logprobs_of",
    "read_answer",
    "reason_of",
    "usage_of",
]

PROVIDER: Final = "openai-chat"
"""The mark of reasoning from this wire; every server that speaks the protocol shares it."""
REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
"""Where servers put a model's thoughts: the field of DeepSeek and its followers, and that of OpenRouter and Groq."""

_NOUN: Final = "a chat completion"


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not a chat completion."""
    return Answer(_NOUN, status, headers, headers.get("x-request-id")).invalid(problem)


def error_of(document: Mapping[str, object]) -> Json | None:
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
        if isinstance(choice, dict) and (error := choice.get("error")) and isinstance(error, (dict, str)):
            return choice
    return None


def read_answer(
    document: Mapping[str, object], choices: list[JsonDict], status: int, headers: Mapping[str, str]
) -> LMResponse:
    """
    Return the response for a chat completion whose ``choices`` is a list with members.

    Raises:
        ResponseInvalid: A choice has another shape.
        ContentRefused: The model or a filter withheld every completion, or cut it off.
    """
    usage, model, own = usage_of(document), string(document, "model"), string(document, "id")
    answer = Answer(_NOUN, status, headers, headers.get("x-request-id"), usage, model, own)
    found: list[Choice] = []
    for place, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise answer.invalid(f"choice {place} has no message")
        completion = _completion(choice, message)
        if completion is None:
            raise answer.invalid(f"the content of choice {place} is not text")
        index, refusal = choice.get("index"), message.get("refusal")
        index = index if type(index) is int else place
        if not refusal:
            found.append(Choice(index, completion))
            continue
        why = refusal if isinstance(refusal, str) else FILTERED
        withheld = not (completion.text or completion.tool_calls)
        found.append(Choice(index, completion, f"the model refused to answer: {why}", withheld=withheld))
    return answer.response(found)


def _completion(choice: Mapping[str, object], message: Mapping[str, object]) -> Completion | None:
    """Return one answer, or None where its content is not text."""
    content = message.get("content")
    thoughts = ""
    if not isinstance(content, str):
        parts = content_of(content)
        if parts is None:
            return None
        content, thoughts = parts
    reason = reason_of(choice)
    get = message.get
    calls, annotations, logprobs = get("tool_calls"), get("annotations"), choice.get("logprobs")
    if not calls and isinstance(get("function_call"), dict):
        calls = [{"function": get("function_call")}]  # the form before there were several
    reason = finish_word(reason) if reason else missing_word("chat", calls=bool(calls), said=bool(content))
    thinks = thoughts or get("reasoning_content") or get("reasoning") or get("reasoning_details")
    native = string(choice, "native_finish_reason")
    if not (calls or annotations or logprobs or thinks or native):
        return Completion(content, reason)  # as most answers are
    return Completion(
        content,
        reason,
        tool_calls=_tool_calls(calls) if isinstance(calls, list) else (),
        reasoning=_reasoning(message, thoughts) if thinks else (),
        logprobs=logprobs_of(logprobs.get("content")) if isinstance(logprobs, dict) else None,
        citations=_citations(annotations) if isinstance(annotations, list) else (),
        native_reason=native,
    )


def reason_of(choice: Mapping[str, object]) -> str:
    """
    Return the provider's word for why a choice ended; empty where it says nothing, or says it in the word null.

    Where a gateway's word says that the answer is whole, and the model's own provider says that it is not, the latter
    is right.
    """
    reason = choice.get("finish_reason")
    reason = reason if isinstance(reason, str) and reason not in ("null", "None") else ""
    native = choice.get("native_finish_reason")
    if not isinstance(native, str) or not is_known_end(native):
        return reason
    return native if not reason or (end_of(reason) == "whole" and end_of(native) != "whole") else reason


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


def _reasoning(message: Mapping[str, object], thoughts: str) -> tuple[ReasoningPart, ...]:
    """Return the thoughts, with what it takes to send them back under the name they came by."""
    if thoughts:
        return (ReasoningPart(thoughts, PROVIDER),)
    field = next((name for name in REASONING_FIELDS if string(message, name)), "")
    text = string(message, field)
    details = message.get("reasoning_details")
    if isinstance(details, list) and details:
        return (ReasoningPart(text, PROVIDER, {"reasoning_details": details}),)
    return (ReasoningPart(text, PROVIDER, {"field": field}),) if text else ()


def _tool_calls(calls: list[object]) -> tuple[ToolCall, ...]:
    """Return the calls, each with an id of its own; other entries are left out."""
    found: list[ToolCall] = []
    ids: set[str] = set()
    for place, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        call_id = string(call, "id") or f"call_{place}"
        if call_id in ids:
            call_id = f"{call_id}-{place}"
        ids.add(call_id)
        if call.get("type") == "custom" and isinstance(call.get("custom"), dict):
            custom = call["custom"]
            found.append(ToolCall(call_id, string(custom, "name"), None, string(custom, "input"), {"custom": True}))
            continue
        named = named_call(call)
        if named is not None:
            raw, arguments = arguments_of(named[1])
            found.append(ToolCall(call_id, named[0], arguments, raw))
    return tuple(found)


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


def _citations(annotations: list[object]) -> tuple[Citation, ...]:
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


def usage_of(document: Mapping[str, object]) -> Usage:
    """Return the token counts; what the provider left out, or gave as no number, is zero."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    charged = _charged(usage) if "cost" in usage else None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    spent = count(usage, "prompt_tokens") or count(usage, "input_tokens")
    written = count(usage, "completion_tokens") or count(usage, "output_tokens")
    if not (prompt or completion):
        hit = count(usage, "prompt_cache_hit_tokens") if "prompt_cache_hit_tokens" in usage else 0
        return Usage(spent, written, hit, charged=charged)
    reasoning = count(completion, "reasoning_tokens")
    if reasoning and count(usage, "total_tokens") == spent + written + reasoning:
        written += reasoning  # xAI counts its thoughts beside the answer
    cached = count(prompt, "cached_tokens") or count(usage, "prompt_cache_hit_tokens")
    return Usage(spent, written, cached, reasoning, count(prompt, "cache_write_tokens"), charged=charged)


def _charged(usage: Mapping[str, object]) -> Decimal | None:
    """Return what a gateway says that the answer cost: its own charge, and that of the user's key behind it."""
    cost = usage["cost"]
    if isinstance(cost, dict):
        return dollars(cost, "total_cost")  # Perplexity
    charged = dollars(usage, "cost")
    if charged is None or usage.get("is_byok") is not True:
        return charged
    behind = dollars(usage.get("cost_details"), "upstream_inference_cost")
    return None if behind is None else charged + behind
