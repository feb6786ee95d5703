"""Anthropic's messages read piece by piece."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.lm import LMDelta, LMResponse
from dspex.services.lm.wires._event_reader import EventReader
from dspex.services.lm.wires._json import parse, shown, string
from dspex.services.lm.wires._sse import ServerSentEvent
from dspex.services.lm.wires.anthropic.answer import (
    anthropic_failure,
    invalid,
    read_message,
    request_id,
)

__all__ = ["MessageStream"]


class _Block:
    """One block of the content as far as it has come."""

    __slots__ = ("citations", "fields", "kind", "pieces", "tool")

    def __init__(self, fields: dict[str, object], tool: int | None) -> None:
        self.fields = fields
        self.kind = string(fields, "type")
        self.tool = tool
        """Its place among the calls, if it is one."""
        self.pieces: list[str] = []
        """Of its text or thoughts, or of the JSON of its input."""
        cited = fields.get("citations")
        self.citations: list[object] = cited if isinstance(cited, list) else []  # the provider's own JSON
        if self.kind in ("text", "thinking"):
            self.pieces.append(string(fields, self.kind))

    def whole(self) -> dict[str, object]:
        """Return the block as an unstreamed answer would have it; an input that is not a JSON object stays a string."""
        joined = "".join(self.pieces)
        if self.kind in ("text", "thinking"):
            cited = {"citations": self.citations} if self.citations else {}
            return {**self.fields, self.kind: joined, **cited}
        if not joined:
            return self.fields
        try:
            given = parse(joined)
        except ValueError:
            given = joined
        return {**self.fields, "input": given if isinstance(given, dict) else joined}


class MessageStream(EventReader):
    """Reads the stream of ``POST /messages``; the stop reason is what says that the answer is complete."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._document: dict[str, object] | None = None
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._done = False

    def _invalid(self, problem: str) -> LMError:
        return invalid(problem, self._headers)

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` without a stop reason, else as ``read_message``."""
        if not self._done:
            for event in self._rest():
                try:
                    parse(event.data)
                except ValueError:
                    break  # it was cut short
                self._read(event, [])
        if self._document is None and self._done:
            raise self._invalid("the stream held no message_start")
        if self._document is None or not string(self._document, "stop_reason"):
            raise StreamTruncated("the stream ended without a stop_reason", request_id=request_id(self._headers))
        content = [self._blocks[index].whole() for index in sorted(self._blocks)]
        return read_message({**self._document, "content": content}, self._headers)

    def _check_error(self, fields: Mapping[str, object]) -> None:
        if string(fields, "type") == "error" or isinstance(fields.get("error"), dict):
            raise anthropic_failure(200, self._headers, fields, in_stream=True)

    # --- one event ------------------------------------------------------------------------------------------

    def _read(self, event: ServerSentEvent, deltas: list[LMDelta]) -> None:
        if self._done:
            return
        try:
            fields = parse(event.data)
        except ValueError as error:
            raise self._invalid(f"an event is not JSON: {shown(event.data.encode())}") from error
        if not isinstance(fields, dict):
            return
        self._check_error(fields)
        kind = string(fields, "type") or event.event
        if kind == "content_block_delta":
            self._add(fields, deltas)
        elif kind == "content_block_start":
            self._start(fields, deltas)
        elif kind == "message_start":
            message = fields.get("message")
            if isinstance(message, dict) and self._document is None:
                self._document = message
        elif kind == "message_delta":
            self._end(fields)
        elif kind == "message_stop":
            self._done = True

    def _start(self, fields: Mapping[str, object], deltas: list[LMDelta]) -> None:
        index, given = fields.get("index"), fields.get("content_block")
        if type(index) is not int or not isinstance(given, dict) or index in self._blocks:
            return
        is_call = string(given, "type") == "tool_use"
        block = self._blocks[index] = _Block(given, self._calls if is_call else None)
        if is_call:
            self._calls += 1
            deltas.append(LMDelta(tool=block.tool, tool_name=string(given, "name")))
        elif block.pieces and block.pieces[0]:
            self._tell(block.kind, block.pieces[0], deltas)

    def _add(self, fields: Mapping[str, object], deltas: list[LMDelta]) -> None:
        index, delta = fields.get("index"), fields.get("delta")
        block = self._blocks.get(index) if type(index) is int else None
        if block is None or not isinstance(delta, dict):
            return
        kind = string(delta, "type")
        if kind in ("text_delta", "thinking_delta"):
            name = kind.removesuffix("_delta")
            piece = string(delta, name)
            if piece and block.kind == name:
                block.pieces.append(piece)
                self._tell(name, piece, deltas)
        elif kind == "input_json_delta":
            piece = string(delta, "partial_json")
            if piece and block.kind not in ("text", "thinking"):
                block.pieces.append(piece)
                if block.tool is not None:
                    deltas.append(LMDelta(tool=block.tool, arguments=piece))
        elif kind == "signature_delta":
            block.fields["signature"] = string(delta, "signature")
        elif kind == "citations_delta":
            block.citations.append(delta.get("citation"))

    @staticmethod
    def _tell(kind: str, piece: str, deltas: list[LMDelta]) -> None:
        deltas.append(LMDelta(text=piece) if kind == "text" else LMDelta(reasoning=piece))

    def _end(self, fields: Mapping[str, object]) -> None:
        """Read why the answer ended, and the counts so far: they are sums, not differences."""
        document = self._document
        if document is None:
            return
        delta, usage = fields.get("delta"), fields.get("usage")
        if isinstance(delta, dict):
            document.update({name: value for name, value in delta.items() if value is not None})
        if isinstance(usage, dict):
            so_far = document.get("usage")
            told = {name: value for name, value in usage.items() if value is not None}
            document["usage"] = {**(so_far if isinstance(so_far, dict) else {}), **told}
