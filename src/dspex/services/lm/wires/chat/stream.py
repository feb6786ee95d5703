"""Chat completions read piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.lm import LMDelta, LMResponse
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import billed, error_body, failure, inner_status
from dspex.services.lm.wires._event_reader import EventReader
from dspex.services.lm.wires._json import parse, shown, string
from dspex.services.lm.wires._sse import ServerSentEvent
from dspex.services.lm.wires.chat.answer import (
    REASONING_FIELDS,
    arguments_of,
    content_of,
    error_of,
    invalid,
    read_answer,
    usage_of,
)

__all__ = ["ChatStream"]

_DONE: Final = "[DONE]"
_PLAIN: Final = frozenset({"role", "content"})
_MOST_CALLS: Final = 1024
"""A tool call's place is a number that the server sends: it must not decide how much memory we take."""


class _Choice:
    """One of the ``n`` answers as far as it has come."""

    __slots__ = ("annotations", "calls", "content", "details", "logprobs", "reason", "reasoning", "refusal", "thoughts")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.thoughts: list[str] = []  # thoughts that came as parts of the content
        self.reasoning: dict[str, list[str]] = {}  # by the field they came in
        self.details: list[dict[str, Any]] = []  # the provider's own JSON
        self.refusal: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.logprobs: list[Any] | None = None  # the provider's own JSON
        self.annotations: list[Any] = []  # the provider's own JSON
        self.reason = ""

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice as an unstreamed answer would have it."""
        content: object = "".join(self.content)
        if self.thoughts:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "".join(self.thoughts)}]}
            content = [thinking, {"type": "text", "text": content}]
        message: dict[str, Any] = {"content": content}
        for field, pieces in self.reasoning.items():
            message[field] = "".join(pieces)
        if self.details:
            message["reasoning_details"] = self.details
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.calls:
            message["tool_calls"] = [self.calls[place].whole() for place in sorted(self.calls)]
        if self.annotations:
            message["annotations"] = self.annotations
        choice = {"index": index, "message": message, "finish_reason": self.reason}
        if self.logprobs is not None:
            choice["logprobs"] = {"content": self.logprobs}
        return choice


class _Call:
    __slots__ = ("arguments", "custom", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.custom = False

    def whole(self) -> dict[str, Any]:
        arguments = "".join(self.arguments)
        if self.custom:
            return {"id": self.id, "type": "custom", "custom": {"name": self.name, "input": arguments}}
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


class ChatStream(EventReader):
    """Reads the stream of ``POST /chat/completions``; ``[DONE]`` is what says that the answer is complete."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._choices: dict[int, _Choice] = {}
        self._document: dict[str, Any] = {}
        self._done = False

    def _read(self, event: ServerSentEvent, deltas: list[LMDelta]) -> None:
        if self._done:
            return
        if event.data == _DONE:
            self._done = True
            return
        try:
            chunk = parse(event.data)
        except ValueError as error:
            raise invalid(f"an event is not JSON: {shown(event.data.encode())}", self._headers) from error
        self._take(chunk, deltas)

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` without ``[DONE]``, and as unstreamed decoding does."""
        if not self._done:
            self._take_rest()
        if not self._done:
            cut = StreamTruncated("the stream ended without data: [DONE]", request_id=self._headers.get("x-request-id"))
            if self._choices and all(choice.reason for choice in self._choices.values()):  # no bill yet
                billed(cut, usage_of(self._document))
            raise cut
        if not self._choices:
            raise billed(invalid("the stream held no choices", self._headers), usage_of(self._document))
        choices = [choice.whole(index) for index, choice in self._choices.items()]
        return read_answer(self._document, choices, 200, self._headers)

    def _take_rest(self) -> None:
        """Read an event whose empty line never came; one that was cut short says nothing."""
        for event in self._events.finish():
            if event.data == _DONE:
                self._done = True
                return
            try:
                chunk = parse(event.data)
            except ValueError:
                return
            if (found := self._error_in(chunk)) is not None:
                raise found

    def _error_in(self, chunk: object) -> LMError | None:
        """Return the error that an event means, if it is one."""
        found = error_of(chunk) if isinstance(chunk, dict) else None
        if found is None:
            return None
        return failure(
            inner_status(found, 200),
            self._headers,
            error_body(found) or ErrorBody(),
            request_id=self._headers.get("x-request-id"),
            in_stream=True,
        )

    # --- one chunk ------------------------------------------------------------------------------------------

    def _take(self, chunk: object, deltas: list[LMDelta]) -> None:
        if not isinstance(chunk, dict):
            raise invalid(f"an event is a JSON {type(chunk).__name__}", self._headers)
        if (found := self._error_in(chunk)) is not None:
            raise found
        choices = chunk.get("choices")
        if isinstance(usage := chunk.get("usage"), dict):
            self._document["usage"] = usage
        if string(chunk, "model"):
            self._document["model"] = chunk["model"]
        if isinstance(choices, list):
            for place, choice in enumerate(choices):
                if isinstance(choice, dict):
                    self._take_choice(choice, place, deltas)

    def _take_choice(self, fields: Mapping[str, Any], place: int, deltas: list[LMDelta]) -> None:
        index = fields.get("index")
        index = index if type(index) is int else place
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        choice.reason = string(fields, "finish_reason") or choice.reason
        logprobs = fields.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs = [*(choice.logprobs or ()), *logprobs["content"]]
        delta = fields.get("delta")
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if content:
            parts = content_of(content)
            if parts is None:
                raise invalid(f"the content of choice {index} is not text", self._headers)
            text, thoughts = parts
            if thoughts:
                choice.thoughts.append(thoughts)
                deltas.append(LMDelta(index, reasoning=thoughts))
            if text:
                choice.content.append(text)
                deltas.append(LMDelta(index, text))
        if not delta.keys() <= _PLAIN:
            self._take_others(choice, index, delta, deltas)

    def _take_others(self, choice: _Choice, index: int, delta: Mapping[str, Any], deltas: list[LMDelta]) -> None:
        """Read what is not text of the answer: thoughts, a refusal, tool calls, citations."""
        told = False
        for field in REASONING_FIELDS:
            if thoughts := string(delta, field):
                choice.reasoning.setdefault(field, []).append(thoughts)
                if not told:  # servers that send both fields say the same in both
                    deltas.append(LMDelta(index, reasoning=thoughts))
                    told = True
        if refusal := string(delta, "refusal"):
            choice.refusal.append(refusal)
        if isinstance(details := delta.get("reasoning_details"), list):
            for detail in details:
                if isinstance(detail, dict):
                    _add_detail(choice.details, detail)
        if isinstance(annotations := delta.get("annotations"), list):
            choice.annotations.extend(annotations)
        if isinstance(calls := delta.get("tool_calls"), list):
            for place, call in enumerate(calls):
                if isinstance(call, dict):
                    self._take_call(choice, index, call, place, deltas)

    def _take_call(
        self, choice: _Choice, index: int, fields: Mapping[str, Any], place: int, deltas: list[LMDelta]
    ) -> None:
        number = fields.get("index")
        number = number if type(number) is int and 0 <= number < _MOST_CALLS else place
        call_id = string(fields, "id")
        call = choice.calls.get(number)
        if call is not None and "index" not in fields and call_id and call.id and call_id != call.id:
            call, number = None, max(choice.calls) + 1  # servers that number nothing send each call whole
        if call is None:
            call = choice.calls[number] = _Call()
        call.id = call.id or call_id
        custom = fields.get("custom")
        call.custom = call.custom or isinstance(custom, dict)
        function = custom if isinstance(custom, dict) else fields.get("function")
        name = string(function, "name")
        name = "" if call.name else name
        call.name = call.name or name
        value = function.get("input" if call.custom else "arguments") if isinstance(function, dict) else None
        if isinstance(value, dict):
            value = arguments_of(value)[0]
        arguments = value if isinstance(value, str) else ""
        if arguments:
            call.arguments.append(arguments)
        if name or arguments:
            deltas.append(LMDelta(index, tool=number, tool_name=name, arguments=arguments))


def _add_detail(details: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    """Add a piece of structured thoughts: pieces of one kind and index are one (OpenRouter)."""
    last = details[-1] if details else {}
    if last and (last.get("type"), last.get("index")) == (detail.get("type"), detail.get("index")):
        for name, value in detail.items():
            if name in ("text", "summary") and isinstance(value, str) and isinstance(last.get(name), str):
                last[name] += value
            elif value is not None:
                last[name] = value
    else:
        details.append(dict(detail))
