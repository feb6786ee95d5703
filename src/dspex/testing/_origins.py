"""Where things were created, noted cheaply enough to do it for everything a test creates."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

__all__ = ["Origin", "Origins"]

Origin = tuple[tuple[str, int, str], ...]
"""The innermost interesting frames: file, line, function."""

_MACHINERY: Final = frozenset(
    {"_pytest", "anyio", "asyncio", "concurrent", "contextlib", "pluggy", "pytest_asyncio", "socket", "threading"}
)
_OWN: Final = ("dspex.testing", "tests.support")
_LOOKED_AT: Final = 12
_NAMED: Final = 3


class Origins:
    """The places where threads, sockets, tasks and timers came from."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[object, Origin] = WeakKeyDictionary()

    def describe(self, thing: object) -> str:
        """Put the origin of ``thing`` in words."""
        where = self._known.get(thing)
        if not where:
            return "origin unknown"
        return "created at " + ", from ".join(f"{file}:{line} in {name}" for file, line, name in where)

    def socket_on(self, descriptor: int) -> socket.socket | None:
        """Return the socket object that has a descriptor, if it was noted."""
        for thing in list(self._known):
            if isinstance(thing, socket.socket) and thing.fileno() == descriptor:
                return thing
        return None

    @contextlib.contextmanager
    def noting_threads_and_sockets(self) -> Iterator[None]:
        """Note every thread and socket made inside this block, in any thread."""
        start, init = threading.Thread.start, socket.socket.__init__
        threading.Thread.start = self._noting(start)  # type: ignore[method-assign]  # there is no hook for it
        socket.socket.__init__ = self._noting(init)  # type: ignore[method-assign]  # nor for this
        try:
            yield
        finally:
            threading.Thread.start = start  # type: ignore[method-assign]  # as above
            socket.socket.__init__ = init  # type: ignore[method-assign]  # as above

    @contextlib.contextmanager
    def noting_results(self, maker: object, *methods: str) -> Iterator[None]:
        """Note what these methods of ``maker`` return inside this block; one written in C takes no such note."""
        if not hasattr(maker, "__dict__"):
            yield
            return
        attributes = vars(maker)
        before = {name: attributes[name] for name in methods if name in attributes}
        for name in methods:  # of a loop, not its task factory: the code under test could see that
            attributes[name] = self._noting_result(getattr(maker, name))
        try:
            yield
        finally:
            for name in methods:
                del attributes[name]  # uncovers the class's own method
            attributes.update(before)

    def _noting(self, function: Callable[..., object]) -> Callable[..., Any]:  # whatever it takes and returns
        @functools.wraps(function)
        def noting(thing: object, *args: object, **kwargs: object) -> object:
            self._known[thing] = _origin()
            return function(thing, *args, **kwargs)

        return noting

    def _noting_result(self, function: Callable[..., object]) -> Callable[..., object]:  # whatever it takes and returns
        def noting(*args: object, **kwargs: object) -> object:
            thing = function(*args, **kwargs)
            self._known[thing] = _origin()
            return thing

        return noting


def _origin() -> Origin:
    """Name the nearest frames above the caller's caller, leaving out those of the machinery."""
    found: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - inspect.stack would cost a hundred times as much
    for _ in range(_LOOKED_AT):
        if frame is None or len(found) == _NAMED:
            break
        module: str = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _MACHINERY and not module.startswith(_OWN):
            code = frame.f_code
            found.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)
