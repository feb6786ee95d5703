"""Chat completions read piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.call_shapes import arguments_of, given_arguments
from dspex.protocols.json_values import Json, JsonDict
from dspex.protocols.lm import LMDelta, LMResponse
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import billed, error_body, failure, inner_status
from dspex.services.lm.wires._event_reader import EventReader
from dspex.services.lm.wires._json import parse, shown, string
from dspex.services.lm.wires._sse import ServerSentEvent
from dspex.services.lm.wires.chat.answer import (
    REASONING_FIELDS,
    content_of,
    error_of,
    invalid,
    read_answer,
    reason_of,
    usage_of,
)

__all__ = ["ChatStream"]

_DONE: Final = "[DONE]"
_PLAIN: Final = frozenset({"role", "content"})
_PLAIN_CHOICE: Final = frozenset({"index", "delta", "finish_reason", "logprobs"})
_MOST_CALLS: Final = 1024
"""A tool call's place is a number that the server sends: it must not decide how much memory we take."""


class _Choice:
    """One of the ``n`` answers as far as it has come."""

    __slots__ = (
        "annotations",
        "calls",
        "content",
        "details",
        "logprobs",
        "native",
        "reason",
        "reasoning",
        "refusal",
        "thoughts",
    )

    def __init__(self) -> None:
        self.content: list[str] = []
        self.thoughts: list[str] = []  # thoughts that came as parts of the content
        self.reasoning: dict[str, list[str]] = {}  # by the field they came in
        self.details: list[dict[str, object]] = []  # the provider's own JSON
        self.refusal: list[str] = []
        self.calls = _Calls()
        self.logprobs: list[object] | None = None  # the provider's own JSON
        self.annotations: list[object] = []  # the provider's own JSON
        self.reason = ""
        self.native = ""

    def whole(self, index: int) -> dict[str, object]:
        """Return the choice as an unstreamed answer would have it."""
        content: object = "".join(self.content)
        if self.thoughts:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "".join(self.thoughts)}]}
            content = [thinking, {"type": "text", "text": content}]
        message: dict[str, object] = {"content": content}
        for field, pieces in self.reasoning.items():
            message[field] = "".join(pieces)
        if self.details:
            message["reasoning_details"] = self.details
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.calls.all:
            message["tool_calls"] = [call.whole() for call in sorted(self.calls.all, key=lambda call: call.number)]
        if self.annotations:
            message["annotations"] = self.annotations
        choice = {"index": index, "message": message, "finish_reason": self.reason}
        if self.native:
            choice["native_finish_reason"] = self.native
        if self.logprobs is not None:
            choice["logprobs"] = {"content": self.logprobs}
        return choice


class _Calls:
    """
    The calls of one answer as far as they have come, told apart.

    Servers that follow the protocol number them. Others give every call the number 0, or none at all, but an id or a
    name of its own: glued together, two calls would be one with broken arguments.
    """

    __slots__ = ("_by_id", "_last", "_latest", "all")

    def __init__(self) -> None:
        self.all: list[_Call] = []
        """By their first piece."""
        self._by_id: dict[str, _Call] = {}
        self._latest: dict[int, _Call] = {}
        self._last: _Call | None = None

    def find(self, number: int | None, call_id: str, name: str, *, has_arguments: bool) -> _Call:
        """Return the call that a piece belongs to: a known one, or a new one."""
        call = self._by_id.get(call_id) if call_id else None
        if call is not None and number not in (None, call.number):
            call = None  # one id for all of them: the numbers tell them apart
        if call is None:
            call = self._last if number is None else self._latest.get(number)
            if call is None or call.is_another(call_id, name, has_arguments):
                is_numbered = number is not None
                number = number if number is not None else max((each.number for each in self.all), default=-1) + 1
                call = _Call(number, len(self.all), is_numbered=is_numbered)
                self.all.append(call)
        call.id = call.id or call_id
        if call_id:
            self._by_id[call_id] = call
        self._latest[call.number] = self._last = call
        return call


class _Call:
    __slots__ = ("arguments", "custom", "id", "is_numbered", "name", "number", "place")

    def __init__(self, number: int, place: int, *, is_numbered: bool) -> None:
        self.is_numbered = is_numbered
        """The number is the server's."""
        self.number = number
        """The server's number for it; equal ones keep the order in which they began."""
        self.place = place
        """The number of calls that began before it."""
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.custom = False

    def is_another(self, call_id: str, name: str, has_arguments: bool) -> bool:
        """True when a piece with this id and name begins a call of its own, under the same number."""
        if not name:
            return False
        if call_id and self.id:
            may_go_on = name == self.name and self.arguments and not self._is_complete  # an id made anew for each piece
            return call_id != self.id and not may_go_on
        if self.is_numbered and not (call_id or has_arguments or self.arguments):
            return False  # the rest of its name
        # Without ids: some servers repeat the name in every piece.
        return bool(self.name) and (name != self.name or (has_arguments and self._is_complete))

    @property
    def _is_complete(self) -> bool:
        """True when its arguments are a whole JSON object."""
        if not self.arguments:
            return False
        return self.custom or arguments_of("".join(self.arguments))[1] is not None

    def whole(self) -> dict[str, object]:
        arguments = "".join(self.arguments)
        if self.custom:
            return {"id": self.id, "type": "custom", "custom": {"name": self.name, "input": arguments}}
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


class ChatStream(EventReader):
    """
    Reads the stream of ``POST /chat/completions``.

    The finish reasons say that the answer is complete, and not ``[DONE]``: a server that stops a running stream for
    another one sends it without them, and others end properly without it.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._choices: dict[int, _Choice] = {}
        self._document: dict[str, object] = {}
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
            raise self._invalid(f"an event is not JSON: {shown(event.data.encode())}") from error
        self._take(chunk, deltas)

    def _invalid(self, problem: str) -> LMError:
        return invalid(problem, self._headers)

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` without finish reasons, else as unstreamed decoding."""
        if not self._done:
            self._take_rest()
        usage = usage_of(self._document)
        if self._done and not self._choices:
            raise billed(self._invalid("the stream held no choices"), usage)
        if not (self._choices and all(choice.reason for choice in self._choices.values())):
            cut = StreamTruncated(
                "the stream ended without a finish_reason", request_id=self._headers.get("x-request-id")
            )
            raise billed(cut, usage) if self._done else cut  # what came before the end is not a bill
        choices = [choice.whole(index) for index, choice in self._choices.items()]
        return read_answer(self._document, choices, 200, self._headers)

    def _take_rest(self) -> None:
        """Read an event whose empty line never came; one that was cut short says nothing."""
        for event in self._rest():
            if event.data == _DONE:
                self._done = True
                return
            try:
                chunk = parse(event.data)
            except ValueError:
                return
            self._take(chunk, [])

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
            raise self._invalid(f"an event is a JSON {type(chunk).__name__}")
        if (found := self._error_in(chunk)) is not None:
            raise found
        get = chunk.get
        choices, usage, model = get("choices"), get("usage"), get("model")
        if usage is None and isinstance(groq := get("x_groq"), dict):
            usage = groq.get("usage")
        if isinstance(usage, dict):
            self._document["usage"] = usage
        if model and isinstance(model, str):
            self._document["model"] = model
        if "id" not in self._document and (own := get("id")) and isinstance(own, str):
            self._document["id"] = own
        if isinstance(choices, list):
            for place, choice in enumerate(choices):
                if isinstance(choice, dict):
                    self._take_choice(choice, place, deltas)

    def _take_choice(self, fields: Mapping[str, object], place: int, deltas: list[LMDelta]) -> None:
        get = fields.get
        index, delta = get("index"), get("delta")
        index = index if type(index) is int else place
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        # Nearly every chunk adds a few letters and says nothing else.
        if type(delta) is dict and get("finish_reason") is None and get("logprobs") is None:
            text = delta.get("content")
            if type(text) is str and delta.keys() <= _PLAIN and fields.keys() <= _PLAIN_CHOICE:
                if text:
                    choice.content.append(text)
                    deltas.append(LMDelta(index, text))
                return
        choice.reason = reason_of(fields) or choice.reason
        choice.native = string(fields, "native_finish_reason") or choice.native
        logprobs = get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs = [*(choice.logprobs or ()), *logprobs["content"]]
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if content:
            parts = content_of(content)
            if parts is None:
                raise self._invalid(f"the content of choice {index} is not text")
            text, thoughts = parts
            if thoughts:
                choice.thoughts.append(thoughts)
                deltas.append(LMDelta(index, reasoning=thoughts))
            if text:
                choice.content.append(text)
                deltas.append(LMDelta(index, text))
        if not delta.keys() <= _PLAIN:
            self._take_others(choice, index, delta, deltas)

    def _take_others(self, choice: _Choice, index: int, delta: Mapping[str, object], deltas: list[LMDelta]) -> None:
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
            for call in calls:
                if isinstance(call, dict):
                    self._take_call(choice, index, call, deltas)
        elif isinstance(call := delta.get("function_call"), dict):  # the form before there were several
            self._take_call(choice, index, {"index": 0, "function": call}, deltas)

    def _take_call(self, choice: _Choice, index: int, fields: Json, deltas: list[LMDelta]) -> None:
        custom = fields.get("custom")
        function = custom if isinstance(custom, dict) else fields.get("function")
        name = string(function, "name")
        number = fields.get("index")
        has_number = type(number) is int and 0 <= number < _MOST_CALLS
        value = given_arguments(function, "input" if isinstance(custom, dict) else "arguments")
        if isinstance(value, dict):
            value = arguments_of(value)[0]
        arguments = value if isinstance(value, str) else ""
        number = number if has_number else None
        call = choice.calls.find(number, string(fields, "id"), name, has_arguments=bool(arguments))
        call.custom = call.custom or isinstance(custom, dict)
        if call.name and (call.arguments or name == call.name):
            name = ""
        name = name.removeprefix(call.name)  # told anew with each piece, and longer
        call.name += name
        if arguments:
            call.arguments.append(arguments)
        if name or arguments:
            deltas.append(LMDelta(index, tool=call.place, tool_name=name, arguments=arguments))


def _add_detail(details: list[JsonDict], detail: dict[str, object]) -> None:
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
