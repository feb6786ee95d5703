"""The rows of maps, evaluations and jobs that are under way, so that a closing App can let them end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextvars import Context
from typing import TypeVar

from dspex.evaluation.evaluator import OpenStream
from dspex.runtime import Runtime, TaskStream

__all__ = ["CountedStreams", "RowsUnderWay"]

T = TypeVar("T")
R = TypeVar("R")


class RowsUnderWay:
    """Counts rows that have been begun and have not ended; after ``close`` no more are begun."""

    def __init__(self) -> None:
        self.closed = False
        self._count = 0
        self._idle: list[asyncio.Future[None]] = []

    def close(self) -> None:
        """Have the sources of rows end."""
        self.closed = True

    async def drained(self, runtime: Runtime, timeout: float) -> None:
        """Wait until no row is under way, at most so many seconds."""
        if not self._count:
            return
        future: asyncio.Future[None] = runtime.loop.create_future()
        self._idle.append(future)
        timer = runtime.clock.call_later(timeout, _finish, future, context=runtime.context)
        try:
            await future
        finally:
            timer.cancel()

    async def run(self, work: Callable[[T], Awaitable[R]], item: T) -> R:
        """Do the work of one row, counted; cancellation: of the work."""
        self._count += 1
        try:
            return await work(item)
        finally:
            self._count -= 1
            if not self._count:
                for future in self._idle:
                    _finish(future)
                self._idle.clear()

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items until the App closes."""
        for item in items:
            if self.closed:
                return
            yield item

    async def each_async(self, items: AsyncIterable[T]) -> AsyncIterator[T]:
        """Yield items until the App closes. Cancellation: of the source."""
        async for item in items:
            if self.closed:
                return
            yield item


class CountedStreams:
    """
    Opens streams of rows that are counted, and end with the App.

    Args:
        open_stream: Opens them.
        rows: The count.
    """

    def __init__(self, open_stream: OpenStream, rows: RowsUnderWay) -> None:
        self._open_stream = open_stream
        self._rows = rows

    def __call__(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        max_concurrency: int,
        ordered: bool,
        context: Context | None,
    ) -> TaskStream[T, R]:
        """Run ``work`` over ``items``, as ``OpenStream`` says."""
        rows = self._rows

        async def counted(item: T) -> R:
            return await rows.run(work, item)

        source = rows.each_async(items) if isinstance(items, AsyncIterable) else rows.each(items)
        return self._open_stream(counted, source, max_concurrency=max_concurrency, ordered=ordered, context=context)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
