"""
Which bytes of a connection are one answer, and nothing but that: the same for both parsers.

Parsers are lenient, each in its own places, and where two of them read the same bytes differently an answer can be
smuggled into another. Here heads, chunk sizes and trailers are held to the strict grammar and to limits, and the end of
the answer is found, before a parser sees a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from dspex.services.lm._failures import AnswerCut, NothingCame, NotHttp
from dspex.services.lm._parsers import Parser

__all__ = ["MAX_CHUNK_LINE", "MAX_HEAD", "MAX_INTERIM", "MAX_TRAILERS", "AnswerReader"]

MAX_HEAD: Final = 2**17
"""Bytes of all heads of one answer, interim ones included; some proxies' cookies are long."""
MAX_INTERIM: Final = 64
"""Interim answers (1xx) before the final one."""
MAX_CHUNK_LINE: Final = 2**12
"""Bytes of a chunk's size with its extensions."""
MAX_TRAILERS: Final = 2**14
"""Bytes of all lines behind the last chunk."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]*"
_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: " + _TEXT + rb")?\r\n(?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*\r\n"
).fullmatch
_BARE: Final = re.compile(rb"(?<!\r)\n|\r[^\n]").search
_LENGTH: Final = re.compile(rb"[0-9]{1,15}").fullmatch
_CODING: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked\r\n", re.IGNORECASE).search
"""llhttp overlooks a coding with a tab behind it."""
_CHUNK: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"[\t\x20!#-\[\]-\x7e]*"))?)*\r\n'
).fullmatch
_TRAILER: Final = re.compile(
    rb"(?i:(?!(?:content-length|transfer-encoding):))" + _TOKEN + rb":" + _TEXT + rb"\r\n"
).fullmatch

# Where in an answer the next byte belongs.
_IN_HEAD, _IN_LENGTH, _TO_THE_END, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _IN_TRAILERS, _AT_END = range(8)


class AnswerReader:
    """
    Reads the answers of one connection, one after the other.

    Attributes:
        status: Of the final head.
        headers: Its lines, names in lower case.
        has_head: True when it has come.
        has_begun: True when a byte of the answer has come.
        is_in_line: True when an unfinished head, or line of a chunked body, is held.
        has_ended: True when the answer is complete.
        has_excess: True when bytes came behind it, which nobody asked for.
        may_stay: True when the connection may serve again, as far as this answer says.
    """

    __slots__ = (
        *("_head_left", "_heard", "_held", "_interim_left", "_left", "_line_left", "_parser", "_place"),
        *("has_excess", "headers", "may_stay", "status"),
    )

    def __init__(self, new_parser: Callable[[], Parser]) -> None:
        self._parser = new_parser()
        self._heard = self._parser.heard
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_excess = False
        self.may_stay = False
        self._place = _IN_HEAD
        self._held = b""  # an unfinished head or line
        self._left = 0  # bytes of the body or of the chunk
        self._line_left = MAX_TRAILERS
        self._head_left = MAX_HEAD
        self._interim_left = MAX_INTERIM

    @property
    def has_head(self) -> bool:
        """True when the final head has come."""
        return self._place != _IN_HEAD

    @property
    def has_begun(self) -> bool:
        """True when a byte of the answer has come."""
        return bool(self._held) or self._head_left < MAX_HEAD

    @property
    def is_in_line(self) -> bool:
        """True while an unfinished head or line is held."""
        return bool(self._held)

    @property
    def has_ended(self) -> bool:
        """True when the answer is complete."""
        return self._place == _AT_END

    def next_answer(self) -> None:
        """Get ready for another answer; only after a complete one that lets the connection stay."""
        self._parser.next_answer()
        self._begin()

    def take(self) -> bytes:
        """Return what has come of the body and was not taken yet."""
        pieces = self._heard.pieces
        if not pieces:
            return b""
        self._heard.pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def feed(self, data: bytes) -> None:
        """
        Read the next bytes of the connection; no bytes are its end.

        Raises:
            NotHttp: They are not one answer, or one beyond a limit; the connection must not be used again.
            AnswerCut, NothingCame: The end came before the answer was complete.
        """
        if not data:
            self._finish()
        if self._place == _IN_HEAD:
            data = self._heads(data)
        if not data or self._place == _IN_HEAD:
            return
        if self._place == _IN_LENGTH:
            whole, self._left = data, self._left - len(data)
            if self._left <= 0:
                whole = data[: len(data) + self._left] if self._left else data
                self.has_excess = self._left < 0
                self._place = _AT_END
            self._parser.feed(whole)
        elif self._place == _TO_THE_END:
            self._parser.feed(data)
        elif self._place == _AT_END:
            self.has_excess = True
        else:
            self._chunks(data)
        if self._place == _AT_END and not self._heard.is_complete:
            raise NotHttp("an answer whose end is unclear")

    def _finish(self) -> None:
        """Note the connection's end."""
        if self._place == _TO_THE_END:
            self._place = _AT_END
        elif self._place != _AT_END:
            if not self.has_begun:
                raise NothingCame("nothing of it came")
            raise AnswerCut("it ends in its body" if self.has_head else "it ends in its head")

    def _heads(self, data: bytes) -> bytes:
        """Read heads up to the final one; return what is behind it."""
        searched = max(0, len(self._held) - 3)
        data = self._held + data
        while True:
            end = data.find(b"\r\n\r\n", searched) + 4
            size = end if end > 3 else len(data)
            if size > self._head_left:
                raise NotHttp(f"a head of more than {MAX_HEAD} bytes")
            if end < 4:
                # A head that can never become one is refused now: its sender may say nothing more.
                if not b"HTTP/1.".startswith(data[:7]) or _BARE(data, searched) is not None:
                    raise NotHttp("the head of its answer is malformed")
                self._held = data
                return b""
            head, data, searched = (data, b"", 0) if end == len(data) else (data[:end], data[end:], 0)
            self._head_left -= end
            if self._head(head):
                self._held = b""
                return data
            if not data:
                self._held = b""
                return b""

    def _head(self, head: bytes) -> bool:
        """Read one head; return whether it is the final one."""
        found = _HEAD(head)
        if found is None:
            raise NotHttp("the head of its answer is malformed")
        status = int(found[2])
        if status == 101:
            raise NotHttp("it changes to another protocol, unasked")
        heard = self._heard
        heard.headers = []
        length: bytes | None = None
        coding: bytes | None = None
        close = found[1] == b"0"  # whatever an old server says about keeping the connection
        self._parser.feed(head)
        for name, value in heard.headers:
            if name == b"content-length":
                if length is not None or _LENGTH(value) is None:
                    raise NotHttp("the length of its answer is unclear")
                length = value
            elif name == b"transfer-encoding":
                if coding is not None or value.lower() != b"chunked" or close or _CODING(head) is None:
                    raise NotHttp("the coding of its answer is unclear")
                coding = value
            elif name == b"connection":
                close = close or b"close" in [each.strip() for each in value.lower().split(b",")]
        if coding is not None and length is not None:
            raise NotHttp("the length of its answer is unclear")
        has_no_body = status < 200 or status in (204, 304)
        if has_no_body and (coding is not None or (length is not None and int(length))):
            raise NotHttp(f"a body with status {status}, which has none")
        if status < 200:
            self._interim_left -= 1
            if self._interim_left < 0:
                raise NotHttp(f"more than {MAX_INTERIM} interim answers")
            heard.is_complete = False
            return False
        self.status = status
        self.headers, heard.headers = heard.headers, []  # trailers go into the new list, and nobody reads them
        self.may_stay = not close
        if has_no_body or (length is not None and not int(length)):
            self._place = _AT_END
            if not heard.is_complete:
                raise NotHttp("an answer whose end is unclear")
        elif coding is not None:
            self._place = _CHUNK_SIZE
            self.headers = [(name, value.lower() if value is coding else value) for name, value in self.headers]
        elif length is not None:
            self._place, self._left = _IN_LENGTH, int(length)
        else:
            self._place, self.may_stay = _TO_THE_END, False
        return True

    def _chunks(self, data: bytes) -> None:
        """Read a chunked body; the parser gets what is known to be right."""
        data = self._held + data
        at, size = 0, len(data)
        while at < size and self._place != _AT_END:
            if self._place == _CHUNK_DATA:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                if not self._left:
                    self._place = _CHUNK_END
                continue
            limit = {_CHUNK_SIZE: MAX_CHUNK_LINE, _CHUNK_END: 2}.get(self._place, self._line_left)
            end = data.find(b"\n", at, at + limit) + 1
            if not end:
                # A cut may be anywhere in the line, but only a line may be cut: not a limit, not a wrong first byte.
                if size - at >= limit or (self._place == _CHUNK_END and data[at] != 13):
                    raise NotHttp("a chunk of its answer is malformed")
                break
            self._line(data[at:end])
            at = end
        self._held = data[at:] if self._place != _AT_END else b""
        self.has_excess = self._place == _AT_END and at < size
        if at:
            self._parser.feed(data[:at] if at < size else data)

    def _line(self, line: bytes) -> None:
        """Read one line of a chunked body."""
        if self._place == _CHUNK_SIZE:
            found = _CHUNK(line)
            if found is None:
                raise NotHttp("a chunk of its answer is malformed")
            self._left = int(found[1], 16)
            self._place = _CHUNK_DATA if self._left else _IN_TRAILERS
        elif self._place == _CHUNK_END:
            if line != b"\r\n":
                raise NotHttp("a chunk of its answer is malformed")
            self._place = _CHUNK_SIZE
        else:
            self._line_left -= len(line)
            if line == b"\r\n":
                self._place = _AT_END
            elif _TRAILER(line) is None:
                raise NotHttp("what follows the last chunk is malformed")
