"""OpenAI's Responses read: one function for whole answers, and for the response that ends a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dspex.errors import ResponseInvalid
from dspex.protocols.call_shapes import arguments_of
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.ends import end_of, finish_word, missing_word
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import Completion, LMResponse, TokenLogprob, Usage
from dspex.services.lm.wires._answer import FILTERED, Answer, Choice
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import billed, error_body, failure
from dspex.services.lm.wires._json import SHOWN, count, string
from dspex.services.lm.wires._turns import place
from dspex.services.lm.wires.chat.answer import logprobs_of

__all__ = ["PROVIDER", "invalid", "read_response", "usage_of"]

PROVIDER: Final = "openai-responses"
"""The mark of reasoning from this wire."""
_NOUN: Final = "a response"


def invalid(problem: str, headers: Mapping[str, str], status: int = 200) -> ResponseInvalid:
    """Return the error for a success that is not a response of this protocol."""
    return Answer(_NOUN, status, headers, headers.get("x-request-id")).invalid(problem)


def read_response(document: Mapping[str, object], status: int, headers: Mapping[str, str]) -> LMResponse:
    """
    Return what a response object says.

    Raises:
        LMError: Its status is ``failed``: what its error means.
        ResponseInvalid: It has another shape, or is not finished.
        ContentRefused: The model or a filter withheld the answer, or cut it off.
    """
    state = document.get("status", "")
    request_id = headers.get("x-request-id")
    usage, model = usage_of(document.get("usage")), string(document, "model")
    answer = Answer(_NOUN, status, headers, request_id, usage, model, string(document, "id"))
    if state == "failed":
        found = error_body({"error": document.get("error")}) or ErrorBody()
        raise billed(failure(status, headers, found, request_id=request_id, in_stream=True), answer.usage)
    output = document.get("output")
    if state not in ("", "completed", "incomplete", "cancelled"):
        raise answer.invalid(f"its status is {str(state)[:SHOWN]!r}")
    if not isinstance(output, list):
        raise answer.invalid("it has no output")
    reader = _ResponseReader()
    for item in output:
        if isinstance(item, dict):
            reader.take(item)
    word = state
    if state == "incomplete":
        word = string(document.get("incomplete_details"), "reason")
        word = word if end_of(word) in ("cut", "refused") else state
    elif state in ("", "completed") and reader.is_cut:
        word = "incomplete"
    text, has_calls = "".join(reader.texts), bool(reader.calls)
    completion = Completion(
        text,
        finish_word(word, calls=has_calls) if word else missing_word("responses", calls=has_calls, said=bool(text)),
        tool_calls=tuple(reader.calls),
        reasoning=tuple(reader.thoughts),
        logprobs=tuple(reader.logprobs) if reader.logprobs is not None else None,
        citations=tuple(reader.citations),
    )
    why = reader.refusals[0] if reader.refusals else FILTERED
    withheld = bool(reader.refusals) and not (text or reader.calls)
    return answer.response([Choice(0, completion, f"the model refused to answer: {why}", withheld=withheld)])


class _ResponseReader:
    """Gathers what the items of an output hold; items of hosted tools are passed over."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.calls: list[ToolCall] = []
        self.thoughts: list[ReasoningPart] = []
        self.logprobs: list[TokenLogprob] | None = None
        self.citations: list[Citation] = []
        self.is_cut = False
        """An item says that it is incomplete, whatever the response says of itself."""

    def take(self, item: JsonDict) -> None:
        kind = item.get("type")
        if kind in ("message", "function_call") and item.get("status") == "incomplete":
            self.is_cut = True
        if kind == "message":
            content = item.get("content")
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict):
                    self._take_part(part)
        elif kind == "function_call" and isinstance(item.get("name"), str):
            raw, arguments = arguments_of(item.get("arguments"))
            item_id = string(item, "id")
            call_id = string(item, "call_id") or item_id or f"call_{len(self.calls)}"
            self.calls.append(ToolCall(call_id, item["name"], arguments, raw, {"id": item_id} if item_id else {}))
        elif kind == "reasoning":
            pieces = [*_texts(item.get("summary")), *_texts(item.get("content"))]
            # Sent back as it came; its status alone is refused on the way in.
            data = {name: value for name, value in item.items() if name != "status" and value is not None}
            where = place(sum(map(len, self.texts)), len(self.calls))
            self.thoughts.append(ReasoningPart("\n\n".join(pieces), PROVIDER, {**data, **where}))

    def _take_part(self, part: Mapping[str, object]) -> None:
        if part.get("type") == "refusal":
            self.refusals.append(string(part, "refusal") or "no reason given")
        if part.get("type") not in ("output_text", "text"):
            return
        before = sum(map(len, self.texts))
        self.texts.append(string(part, "text"))
        logprobs = logprobs_of(part.get("logprobs"))
        if logprobs:
            self.logprobs = [*(self.logprobs or ()), *logprobs]
        annotations = part.get("annotations")
        for each in annotations if isinstance(annotations, list) else ():
            if isinstance(each, dict):
                self.citations.append(_citation(each, before))


def _texts(parts: object) -> list[str]:
    if not isinstance(parts, list):
        return []
    return [text for part in parts if (text := string(part, "text"))]


def _citation(annotation: Mapping[str, object], before: int) -> Citation:
    """Return a page or file cited; positions count from the beginning of the whole text."""
    start, end = annotation.get("start_index"), annotation.get("end_index")
    return Citation(
        title=string(annotation, "title") or string(annotation, "filename"),
        url=string(annotation, "url"),
        start=before + start if type(start) is int else None,
        end=before + end if type(end) is int else None,
    )


def usage_of(usage: object) -> Usage:
    """Return the token counts; what the provider left out, or gave as no number, is zero."""
    if not isinstance(usage, dict):
        return Usage()
    spent, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=count(spent, "cached_tokens"),
        reasoning_tokens=count(written, "reasoning_tokens"),
        cache_write_tokens=count(spent, "cache_write_tokens"),
    )
