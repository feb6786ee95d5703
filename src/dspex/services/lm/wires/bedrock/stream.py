"""Bedrock's answers read piece by piece."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from dspex.errors import LMError, StreamTruncated
from dspex.protocols.lm import LMDelta, LMResponse
from dspex.services.lm.wires._json import parse, shown, string
from dspex.services.lm.wires.bedrock.answer import invalid, read_converse
from dspex.services.lm.wires.bedrock.errors import bedrock_failure, request_id
from dspex.services.lm.wires.bedrock.event_stream import EventStreamParser, StreamEvent, StreamEventError

__all__ = ["ConverseStream"]


class _Growing:
    """One block of the content as far as it has come."""

    __slots__ = ("citations", "pieces", "redacted", "signature", "thoughts", "tool", "use")

    def __init__(self) -> None:
        self.use: dict[str, object] | None = None
        self.tool = 0
        """Its place among the calls, if it is one."""
        self.pieces: list[str] = []
        """Of its text, or of the JSON of its input."""
        self.thoughts: list[str] = []
        self.signature = ""
        self.redacted = b""
        self.citations: list[object] = []

    def whole(self) -> dict[str, object]:
        """Return the block as an unstreamed answer would have it; an input that is not a JSON object stays a string."""
        joined = "".join(self.pieces)
        if self.use is not None:
            given: object = {}
            if joined:
                try:
                    given = parse(joined)
                except ValueError:
                    given = joined
            return {"toolUse": {**self.use, "input": given if isinstance(given, dict) else joined}}
        if self.redacted:
            return {"reasoningContent": {"redactedContent": base64.b64encode(self.redacted).decode("ascii")}}
        if self.thoughts or self.signature:
            signed = {"signature": self.signature} if self.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": "".join(self.thoughts), **signed}}}
        if self.citations:
            return {"citationsContent": {"content": [{"text": joined}], "citations": self.citations}}
        return {"text": joined}


class ConverseStream:
    """
    Reads the stream of ``converse-stream``; the stop reason is what says that the answer is complete.

    Args:
        headers: The answer's, names in lower case.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._messages = EventStreamParser()
        self._blocks: dict[int, _Growing] = {}
        self._calls = 0
        self._reason = ""
        self._told: dict[str, object] = {}

    def feed(self, data: bytes) -> list[LMDelta]:
        """Take the next bytes and return the pieces that became whole, as ``StreamDecoder.feed``."""
        deltas: list[LMDelta] = []
        try:
            events = self._messages.feed(data)
        except StreamEventError as error:
            raise invalid(str(error), self._headers) from error
        for event in events:
            self._read(event, deltas)
        return deltas

    def finish(self) -> LMResponse:
        """Return the whole answer; raises ``StreamTruncated`` without a stop reason, else as ``read_converse``."""
        if not self._reason:
            raise StreamTruncated("the stream ended without a stopReason", request_id=request_id(self._headers))
        content = [self._blocks[index].whole() for index in sorted(self._blocks)]
        output = {"message": {"role": "assistant", "content": content}}
        return read_converse({**self._told, "output": output, "stopReason": self._reason}, self._headers)

    # --- one event ------------------------------------------------------------------------------------------

    def _read(self, event: StreamEvent, deltas: list[LMDelta]) -> None:
        kind = event.headers.get(":message-type", "event")
        if kind == "error":  # of the stream itself: in its headers alone
            found = {"message": event.headers.get(":error-message", "")}
            raise self._failed(event.headers.get(":error-code", ""), found, event.payload)
        try:
            fields = parse(event.payload)
        except ValueError as error:
            if kind != "exception":
                raise invalid(f"an event is not JSON: {shown(event.payload)}", self._headers) from error
            fields = {}
        if kind == "exception":
            raise self._failed(event.headers.get(":exception-type", ""), fields, event.payload)
        if not isinstance(fields, dict):
            return
        name = event.headers.get(":event-type", "")
        if name == "contentBlockDelta":
            self._add(fields, deltas)
        elif name == "contentBlockStart":
            self._start(fields, deltas)
        elif name == "messageStop":
            self._reason = string(fields, "stopReason") or self._reason
        elif name == "metadata":
            self._told.update({each: fields[each] for each in ("usage", "trace") if each in fields})

    def _failed(self, kind: str, fields: object, payload: bytes) -> LMError:
        return bedrock_failure(200, self._headers, fields, kind=kind, otherwise=shown(payload), in_stream=True)

    def _block(self, fields: Mapping[str, object]) -> _Growing | None:
        """Return the block that an event is about: the first piece of a text opens one without a start."""
        index = fields.get("contentBlockIndex")
        return self._blocks.setdefault(index, _Growing()) if type(index) is int else None

    def _start(self, fields: Mapping[str, object], deltas: list[LMDelta]) -> None:
        start = fields.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        block = self._block(fields)
        if block is None or not isinstance(use, dict) or block.use is not None:
            return
        block.use = use
        if not string(use, "type"):  # else the provider runs it
            block.tool = self._calls
            self._calls += 1
            deltas.append(LMDelta(tool=block.tool, tool_name=string(use, "name")))

    def _add(self, fields: Mapping[str, Any], deltas: list[LMDelta]) -> None:
        delta, block = fields.get("delta"), self._block(fields)
        if block is None or not isinstance(delta, dict):
            return
        text, thought = string(delta, "text"), delta.get("reasoningContent")
        use, citation = delta.get("toolUse"), delta.get("citation")
        if isinstance(use, dict) and block.use is not None:
            piece = string(use, "input")
            block.pieces.append(piece)
            if piece and not string(block.use, "type"):
                deltas.append(LMDelta(tool=block.tool, arguments=piece))
        elif text and block.use is None:
            block.pieces.append(text)
            deltas.append(LMDelta(text=text))
        elif isinstance(thought, dict):
            self._think(block, thought, deltas)
        elif isinstance(citation, dict):
            block.citations.append(citation)

    def _think(self, block: _Growing, thought: Mapping[str, object], deltas: list[LMDelta]) -> None:
        said = string(thought, "text")
        block.signature += string(thought, "signature")
        if said:
            block.thoughts.append(said)
            deltas.append(LMDelta(reasoning=said))
        redacted = string(thought, "redactedContent")
        try:
            block.redacted += base64.b64decode(redacted)
        except (binascii.Error, ValueError) as error:
            raise invalid("redacted thoughts are not base64", self._headers) from error
