"""Gemini's answers read piece by piece: each event is an answer of its own, and they add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.lm import LMDelta, LMResponse
from dspex.services.lm.wires._event_reader import EventReader
from dspex.services.lm.wires._json import parse, shown, string
from dspex.services.lm.wires._sse import ServerSentEvent
from dspex.services.lm.wires._turns import plain_json
from dspex.services.lm.wires.gemini.answer import finish_reason, invalid, items, read_answer
from dspex.services.lm.wires.gemini.errors import gemini_failure, is_error

__all__ = ["ContentStream"]

_LISTS: Final = {
    "citationMetadata": ("citations", "citationSources"),
    "logprobsResult": ("chosenCandidates", "topCandidates"),
}
"""The parts of a candidate whose lists grow from event to event; of the others the last one holds."""


class _Candidate:
    """One of the answers as far as it has come."""

    __slots__ = ("calls", "fields", "grown", "parts")

    def __init__(self, index: int) -> None:
        self.fields: dict[str, object] = {"index": index}
        self.grown: dict[str, dict[str, list[dict[str, object]]]] = {}
        self.parts: list[dict[str, object]] = []
        self.calls = 0

    def add(self, candidate: Mapping[str, object]) -> list[dict[str, object]]:
        """Take one event's piece and return its parts."""
        parts = list(items(candidate.get("content"), "parts"))
        self.parts.extend(parts)
        for name, value in candidate.items():
            if name in _LISTS and isinstance(value, dict):
                grown = self.grown.setdefault(name, {each: [] for each in _LISTS[name]})
                for each, members in grown.items():
                    members.extend(items(value, each))
            elif name == "finishReason":
                self.fields[name] = finish_reason(candidate) or self.fields.get(name, "")
            elif name not in ("content", "index", *_LISTS) and value is not None:
                self.fields[name] = value
        return parts

    def whole(self) -> dict[str, object]:
        """Return the candidate as an unstreamed answer would have it."""
        return {**self.fields, **self.grown, "content": {"parts": self.parts}}


class ContentStream(EventReader):
    """Reads the stream of ``:streamGenerateContent?alt=sse``, complete when each candidate says why it ended."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._document: dict[str, object] = {}
        self._candidates: dict[int, _Candidate] = {}

    def _read(self, event: ServerSentEvent, deltas: list[LMDelta]) -> None:
        try:
            self._take(parse(event.data), deltas)
        except ValueError as error:
            raise self._invalid(f"an event cannot be read: {shown(event.data.encode())}") from error

    def read_list(self, chunks: list[object]) -> LMResponse:
        """Return what events add up to that came as one JSON list: so they do without ``alt=sse``."""
        for chunk in chunks:
            self._take(chunk, None)
        return self.finish()

    def _invalid(self, problem: str) -> LMError:
        return invalid(problem, self._headers)

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` if a candidate has no end, or as ``read_answer``."""
        self._take_rest(self._rest())
        candidates = [self._candidates[index].whole() for index in sorted(self._candidates)]
        blocked = string(self._document.get("promptFeedback"), "blockReason")
        if not all(map(finish_reason, candidates)) or not (candidates or blocked):
            raise StreamTruncated(
                "the stream ended without a finishReason", request_id=self._headers.get("x-request-id")
            )
        return read_answer({**self._document, "candidates": candidates}, self._headers)

    def _take_rest(self, events: list[ServerSentEvent]) -> None:
        """Read an event whose empty line never came; one that was cut short says nothing."""
        for event in events:
            try:
                self._take(parse(event.data), None)
            except ValueError:
                return

    # --- one event ------------------------------------------------------------------------------------------

    def _take(self, chunk: object, deltas: list[LMDelta] | None) -> None:
        """Add an event, and its pieces to ``deltas``; then raises ``ValueError`` where it is nested too deeply."""
        if is_error(chunk):
            raise gemini_failure(200, self._headers, chunk, in_stream=True)
        if not isinstance(chunk, dict):
            return
        for number, fields in enumerate(items(chunk, "candidates")):
            index = fields.get("index")
            index = index if type(index) is int else number
            candidate = self._candidates.get(index)
            if candidate is None:
                candidate = self._candidates[index] = _Candidate(index)
            parts = candidate.add(fields)
            if deltas is not None:
                for part in parts:
                    self._tell(index, candidate, part, deltas)
        for name, value in chunk.items():
            ours = self._document.get(name)
            if name == "usageMetadata" and isinstance(ours, dict) and isinstance(value, dict):
                self._document[name] = {**ours, **value}
            elif name != "candidates" and value is not None:
                self._document[name] = value

    @staticmethod
    def _tell(index: int, candidate: _Candidate, part: Mapping[str, object], deltas: list[LMDelta]) -> None:
        text, call = string(part, "text"), part.get("functionCall")
        if isinstance(call, dict):
            given = call.get("args")
            arguments = plain_json({} if given is None else given)
            deltas.append(LMDelta(index, tool=candidate.calls, tool_name=string(call, "name"), arguments=arguments))
            candidate.calls += 1
        elif text and part.get("thought") is True:
            deltas.append(LMDelta(index, reasoning=text))
        elif text:
            deltas.append(LMDelta(index, text))
