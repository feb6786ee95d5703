"""Gemini's answers read: one function for whole answers, and for the answer that a stream has added up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dspex.errors import ResponseInvalid
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.ends import finish_word, missing_word
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage
from dspex.services.lm.wires._answer import Answer, Choice
from dspex.services.lm.wires._json import count, string
from dspex.services.lm.wires._turns import place, plain_json

__all__ = ["PROVIDER", "finish_reason", "invalid", "items", "read_answer"]

PROVIDER: Final = "gemini"
"""The mark of reasoning from this wire."""

_NOUN: Final = "an answer with candidates"


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not an answer."""
    return Answer(_NOUN, status, headers, headers.get("x-request-id")).invalid(problem)


def items(fields: object, name: str) -> Iterator[JsonDict]:
    """Yield the objects of the list under ``name``; what is none is passed over."""
    found = fields.get(name) if isinstance(fields, dict) else None
    if isinstance(found, list):
        for each in found:
            if isinstance(each, dict):
                yield each


def finish_reason(candidate: Mapping[str, object]) -> str:
    """Return the provider's word for why a candidate ended; empty while it has not."""
    reason = string(candidate, "finishReason")
    return "" if reason == "FINISH_REASON_UNSPECIFIED" else reason


def read_answer(document: Mapping[str, object], headers: Mapping[str, str], status: int = 200) -> LMResponse:
    """
    Return the response for an answer.

    Raises:
        ResponseInvalid: It has no candidates, and does not say why.
        ContentRefused: The prompt was blocked, or every candidate was withheld or cut off.
    """
    request_id = headers.get("x-request-id") or string(document, "responseId") or None
    usage, model = _usage(document.get("usageMetadata")), string(document, "modelVersion")
    answer = Answer(_NOUN, status, headers, request_id, usage, model, string(document, "responseId"))
    found: list[Choice] = []
    for number, candidate in enumerate(items(document, "candidates")):
        index = candidate.get("index")
        index = index if type(index) is int else number
        try:
            completion = _completion(candidate, _call_ids(document, index))
        except ValueError as error:
            raise answer.invalid(str(error)) from error
        code, why = finish_reason(candidate), string(candidate, "finishMessage")
        found.append(_choice(index, completion, "the model refused to answer", code, why))
    feedback = document.get("promptFeedback")
    blocked = string(feedback, "blockReason")
    if blocked and not found:
        why = string(feedback, "blockReasonMessage")
        found.append(_choice(0, Completion("", "content_filter"), "the prompt was blocked", blocked, why))
    if not found:
        raise answer.invalid("there is not even a reason")
    return answer.response(found)


def _choice(index: int, completion: Completion, what: str, code: str, message: str) -> Choice:
    return Choice(index, completion, f"{what} ({code}){f': {message}' if message else ''}", code)


def _call_ids(document: Mapping[str, object], index: int) -> str:
    """Return what made-up call ids begin with, so that those of two answers differ."""
    return "-".join(filter(None, ("call", string(document, "responseId"), str(index) if index else "")))


class _Thought:
    """Thoughts under way: pieces that follow each other are one."""

    __slots__ = ("at", "pieces", "signature")

    def __init__(self, at: dict[str, object]) -> None:
        self.at = at
        self.pieces: list[str] = []
        self.signature = ""

    def whole(self) -> ReasoningPart:
        signed = {"thoughtSignature": self.signature} if self.signature else {}
        return ReasoningPart("".join(self.pieces), PROVIDER, {"thought": True, **signed, **self.at})


def _completion(candidate: Mapping[str, object], ids: str) -> Completion:
    """
    Return the answer that parts make up.

    Signatures, and parts that are neither text nor a call of our tools, are kept as reasoning, with their place, so
    that the turn can be sent back as it was.
    """
    texts: list[str] = []
    calls: list[ToolCall] = []
    reasoning: list[ReasoningPart | _Thought] = []
    length = 0
    thought: _Thought | None = None  # the part before this one, if it was an unsigned thought
    for part in items(candidate.get("content"), "parts"):
        text, signature = part.get("text"), string(part, "thoughtSignature")
        at = place(length, len(calls))
        if part.get("thought") is True and isinstance(text, str):
            if thought is None:
                thought = _Thought(at)
                reasoning.append(thought)
            thought.pieces.append(text)
            thought.signature = signature
            thought = None if signature else thought
            continue
        if not (text == "" and not signature):
            thought = None
        if isinstance(part.get("functionCall"), dict):
            calls.append(_call(part["functionCall"], signature, f"{ids}-{len(calls)}"))
        elif isinstance(text, str) or part.keys() == {"thoughtSignature"}:
            text = text if isinstance(text, str) else ""
            texts.append(text)
            length += len(text)
            if signature:
                data = {"thoughtSignature": signature, **place(length, len(calls))}
                reasoning.append(ReasoningPart("", PROVIDER, data))
        elif part:
            reasoning.append(ReasoningPart("", PROVIDER, {"part": part, **at}))
    said, reason, has_calls = "".join(texts), finish_reason(candidate), bool(calls)
    return Completion(
        said,
        finish_word(reason, calls=has_calls) if reason else missing_word("gemini", calls=has_calls, said=bool(said)),
        tool_calls=tuple(calls),
        reasoning=tuple(each.whole() if isinstance(each, _Thought) else each for each in reasoning),
        logprobs=_logprobs(candidate.get("logprobsResult")),
        citations=tuple(_citations(candidate, said)),
    )


def _call(fields: Mapping[str, object], signature: str, made_up: str) -> ToolCall:
    given = fields.get("args")
    given = {} if given is None else given
    call_id = string(fields, "id")
    kept = {**({"id": call_id} if call_id else {}), **({"thoughtSignature": signature} if signature else {})}
    return ToolCall(
        call_id or made_up,
        string(fields, "name"),
        given if isinstance(given, dict) else None,
        plain_json(given),
        {PROVIDER: kept} if kept else {},
    )


def _logprobs(result: object) -> tuple[TokenLogprob, ...] | None:
    chosen, top = list(items(result, "chosenCandidates")), list(items(result, "topCandidates"))
    if not chosen:
        return None
    beside = [tuple(_pairs(items(each, "candidates"))) for each in top]
    beside += [()] * (len(chosen) - len(beside))
    tokens = [
        TokenLogprob(string(each, "token"), each["logProbability"], others)
        for each, others in zip(chosen, beside, strict=False)
        if type(each.get("logProbability")) in (int, float)
    ]
    return tuple(tokens) or None


def _pairs(entries: Iterator[JsonDict]) -> Iterator[tuple[str, float]]:
    for each in entries:
        if type(each.get("logProbability")) in (int, float):
            yield string(each, "token"), each["logProbability"]


def _citations(candidate: Mapping[str, object], text: str) -> Iterator[Citation]:
    """Yield what was recited, and what was found by a search of the provider's own; it counts in bytes, we do not."""
    metadata, grounding = candidate.get("citationMetadata"), candidate.get("groundingMetadata")
    if not (isinstance(metadata, dict) or isinstance(grounding, dict)):
        return
    said = text.encode(errors="surrogatepass")
    for name in ("citations", "citationSources"):
        for each in items(metadata, name):
            start, end = (_characters(said, each.get(key)) for key in ("startIndex", "endIndex"))
            yield Citation(title=string(each, "title"), url=string(each, "uri"), start=start, end=end)
    chunks = list(items(grounding, "groundingChunks"))
    for support in items(grounding, "groundingSupports"):
        segment, indices = support.get("segment"), support.get("groundingChunkIndices")
        fields = segment if isinstance(segment, dict) else {}
        end = _characters(said, fields.get("endIndex"))
        start = _characters(said, fields.get("startIndex", 0 if end is not None else None))  # a zero is not sent
        for index in indices if isinstance(indices, list) else ():
            if type(index) is int and 0 <= index < len(chunks):
                source = chunks[index].get("web") or chunks[index].get("retrievedContext")
                quoted = string(source, "text")
                yield Citation(quoted, string(source, "title"), string(source, "uri"), start, end)


def _characters(said: bytes, offset: object) -> int | None:
    if type(offset) is not int or offset < 0:
        return None
    return len(said[:offset].decode(errors="ignore"))


def _usage(usage: object) -> Usage:
    """Return the token counts; the provider counts thoughts beside the answer, we within it."""
    thoughts = count(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
        output_tokens=count(usage, "candidatesTokenCount") + thoughts,
        cached_tokens=count(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
