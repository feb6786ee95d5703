"""A request whose answers are read piece by piece while it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from dspex.protocols.scope import Delta, Reset
from dspex.requests._request import Request

__all__ = ["ProgramStream"]

R = TypeVar("R")

_AHEAD = 64
"""Pieces that may wait for a reader; then the program, and in the end the provider, wait for it."""


class ProgramStream(Generic[R]):
    """
    The pieces of a program's answers as they arrive: ``async with app.stream(program, …) as stream``.

    Iterating gives a ``Delta`` for each piece (and a ``Reset`` where ``on_interrupt='reset'`` starts a call again) and
    ends when the request has ended; an error of the request is raised there, once everything before it was read.
    ``await stream.result()`` is what ``forward`` returned. Leaving the block stops the request and closes its socket.

    Args:
        start: Starts the request, with this stream as its sink.
        on_interrupt: The action of predictors when an answer breaks off.
    """

    def __init__(
        self, start: Callable[[ProgramStream[R]], Request[R]], on_interrupt: Literal["raise", "reset"]
    ) -> None:
        self._start = start
        self._on_interrupt = on_interrupt
        self._request: Request[R] | None = None
        self._pieces: deque[Delta | Reset] = deque()
        self._unread = True
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    # --- the program's end --------------------------------------------------------------------------------------

    @property
    def on_interrupt(self) -> Literal["raise", "reset"]:
        """The action when an answer breaks off after its first piece."""
        return self._on_interrupt

    async def put(self, delta: Delta | Reset) -> None:
        """
        Hand a piece to the reader, and wait while the reader is far behind.

        Cancellation: the piece may still be read.
        """
        if not self._unread:
            return
        self._pieces.append(delta)
        self._changed.set()
        while self._unread and len(self._pieces) > _AHEAD:
            self._room.clear()
            await self._room.wait()

    # --- the reader's end ---------------------------------------------------------------------------------------

    @property
    def request(self) -> Request[R]:
        """
        The request itself: ``details``, ``cancel()``.

        Raises:
            RuntimeError: The block was not entered.
        """
        if self._request is None:
            raise RuntimeError("a stream runs inside `async with app.stream(program, ...) as stream:`")
        return self._request

    async def __aenter__(self) -> Self:
        if self._request is not None:
            raise RuntimeError("a stream is entered once; call app.stream again")
        self._request = self._start(self)
        self._request.when_ended(self._changed.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._read_no_more()
        await self.request.stop()

    def __aiter__(self) -> AsyncIterator[Delta | Reset]:
        return self

    async def __anext__(self) -> Delta | Reset:
        request = self.request
        while not self._pieces:
            if request.done:
                await request  # raises what it ended with
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self._room.set()
        return piece

    async def result(self) -> R:
        """
        Return what ``forward`` returned; pieces that were not read by now are dropped.

        Raises:
            Exception: Any exception that the request ended with.
        Cancellation: the request is stopped.
        """
        self._read_no_more()
        return await self.request

    def _read_no_more(self) -> None:
        self._unread = False
        self._pieces.clear()
        self._room.set()

    def __repr__(self) -> str:
        return f"<ProgramStream {self._request!r}, {len(self._pieces)} pieces unread>"
