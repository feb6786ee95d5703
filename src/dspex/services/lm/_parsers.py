"""
The two parsers an answer may be read by: httptools, which is llhttp in C, where it is installed, and h11.

Neither decides which bytes are an answer: ``_answers`` does, the same for both, and gives them nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import h11

from dspex.errors import MissingExtra
from dspex.services.lm._failures import NotHttp

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["H11Parser", "Heard", "HttptoolsParser", "Parser", "ParserName", "parser_named"]

ParserName = Literal["auto", "httptools", "h11"]


class Heard:
    """
    The answer under way, as far as a parser has read it; apart from the parser, which llhttp would be in a cycle with.

    Attributes:
        headers: The lines of the latest head, names in lower case, values without spaces around them; the reader
            empties it.
        pieces: Pieces of the body that nobody has taken yet; the reader empties it.
        is_complete: True when the answer has ended, interim ones aside, by its length or by its last chunk.
    """

    __slots__ = ("headers", "is_complete", "pieces")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of a head from llhttp."""
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body from llhttp."""
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        """Note the answer's end."""
        self.is_complete = True


class Parser(Protocol):
    """Reads the answers of one connection, one after the other, into ``heard``."""

    heard: Heard

    def feed(self, data: bytes) -> None:
        """
        Read the next bytes of the answer.

        Raises:
            NotHttp: They are not what the parser takes for an answer.
        """
        ...

    def next_answer(self) -> None:
        """Get ready for another answer behind a complete one."""
        ...


_UNREADABLE: Final = "its answer cannot be read"
_REQUEST: Final = h11.Request(method=b"POST", target=b"/", headers=[(b"host", b"h")])
_REQUEST_END: Final = h11.EndOfMessage()
_LARGEST_EVENT: Final = 2**18
"""Bytes above our own limit for a head, so that h11's is never met."""


class H11Parser:
    """h11, in Python; it needs to be told of a request, whose bytes we write ourselves because it writes slowly."""

    __slots__ = ("_http", "heard")

    name: Final = "h11"

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_EVENT)
        self.heard = Heard()
        self._asked()

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the answer, as ``Parser.feed``."""
        http = self._http
        problem = False
        try:
            http.receive_data(data)
            while (event := http.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
                kind = type(event)
                if kind is h11.Data:
                    self.heard.pieces.append(bytes(event.data))  # type: ignore[union-attr]  # the kind says it
                elif kind is h11.EndOfMessage:
                    self.heard.is_complete = True
                    break
                else:
                    self.heard.headers = list(event.headers)  # type: ignore[union-attr]  # a head, final or interim
        except h11.RemoteProtocolError:
            problem = True
        if problem:  # raised here, so that h11's exception is not its context
            raise NotHttp(_UNREADABLE)

    def next_answer(self) -> None:
        """Get ready for another answer behind a complete one."""
        self._http.start_next_cycle()
        self._asked()

    def _asked(self) -> None:
        self._http.send(_REQUEST)
        self._http.send(_REQUEST_END)
        self.heard.is_complete = False


class HttptoolsParser:
    """llhttp, by httptools."""

    __slots__ = ("_error", "_feed", "heard")

    name: Final = "httptools"

    def __init__(self) -> None:
        httptools = _httptools()
        self.heard = Heard()
        self._feed: Callable[[bytes], None] = httptools.HttpResponseParser(self.heard).feed_data
        self._error: type[Exception] = httptools.HttpParserError

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the answer, as ``Parser.feed``."""
        problem = False
        try:
            self._feed(data)
        except self._error:
            problem = True
        if problem:  # raised here, so that the library's exception is not its context
            raise NotHttp(_UNREADABLE)

    def next_answer(self) -> None:
        """Get ready for another answer behind a complete one; llhttp begins anew by itself."""
        self.heard.is_complete = False


def _httptools() -> Any:  # a module without types
    return importlib.import_module("httptools")


def parser_named(name: ParserName) -> type[H11Parser | HttptoolsParser]:
    """
    Return a parser by its name; ``auto`` is httptools where it is installed. Nothing else chooses.

    Raises:
        MissingExtra: httptools was asked for and is not installed.
    """
    if name == "h11":
        return H11Parser
    missing = False
    try:
        _httptools()
    except ImportError:
        missing = True
    if not missing:
        return HttptoolsParser
    if name == "auto":
        return H11Parser
    raise MissingExtra("fast", "the parser httptools")
