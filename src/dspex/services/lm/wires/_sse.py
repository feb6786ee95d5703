"""Server-sent events, read from bytes as they come (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EventParser", "ServerSentEvent"]


class ServerSentEvent(NamedTuple):
    """One event: its type, empty where the stream names none, and its data, the lines joined."""

    event: str
    data: str


class EventParser:
    """
    An incremental parser: the bytes may be cut anywhere, inside a character or a line end too.

    Lines end with LF, CR or CRLF; a byte order mark, comments, ``id`` and ``retry`` are passed over. Where the standard
    puts U+FFFD for bytes that are not UTF-8, ``feed`` and ``finish`` raise ``UnicodeDecodeError``: text is never
    changed silently.
    """

    __slots__ = ("_data", "_event", "_first", "_pieces", "_skip_lf")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line whose end has not come; joined once, so long lines stay linear
        self._skip_lf = False  # a CR ended the last line: an LF that follows belongs to it
        self._first = True
        self._event = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that became whole."""
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 0x0A:
                data = data[1:]
        if b"\n" not in data and b"\r" not in data:
            if data:
                self._pieces.append(data)
            return []
        if self._pieces:
            data = b"".join((*self._pieces, data))
            self._pieces.clear()
        lines = data.splitlines(keepends=True)  # of bytes, unlike of text: at LF, CR and CRLF only
        last = lines[-1]
        if last.endswith(b"\r"):
            self._skip_lf = True
        elif not last.endswith(b"\n"):
            self._pieces.append(lines.pop())
        events: list[ServerSentEvent] = []
        for line in lines:
            if line.startswith(b"data: ") and not self._first:  # most lines
                self._data.append(line[6:].rstrip(b"\r\n").decode())
            else:
                self._take(line.rstrip(b"\r\n"), events)
        return events

    def finish(self) -> list[ServerSentEvent]:
        """
        Return the event that the end of the body left without its empty line, if there is one.

        The standard drops it. Some servers end so nevertheless, and an event that was cut short is told by its
        data, which is not whole JSON then.
        """
        events: list[ServerSentEvent] = []
        if self._pieces:
            self._take(b"".join(self._pieces), events)
            self._pieces.clear()
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        """Read one line without its end; an empty one completes an event."""
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(ServerSentEvent(self._event, "\n".join(self._data)))
                self._data = []
            self._event = ""
            return
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value.decode())
        elif name == b"event":
            self._event = value.decode()
