"""The handle on a running request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from dspex.protocols.executor import Outcome
from dspex.protocols.scope import RequestTotals, TraceStep
from dspex.runtime import Shutdown

if TYPE_CHECKING:
    from dspex.requests._runner import LiveRequest

__all__ = ["Request"]

R = TypeVar("R")


class Request(Generic[R]):
    """
    A request that has been accepted: ``await request`` is its result.

    It ends exactly once, in a result, a typed error, or a cancellation, at the latest one second after its deadline.
    """

    __slots__ = ("_live",)

    def __init__(self, live: LiveRequest) -> None:
        self._live = live

    @property
    def id(self) -> str:
        """The request's number, as logs and events carry it."""
        return self._live.record.id

    @property
    def details(self) -> RequestTotals:
        """The usage of the whole request so far; final once it has ended."""
        return self._live.totals()

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """The predictors' calls, oldest first."""
        return self._live.record.trace()

    @property
    def done(self) -> bool:
        """True when it has ended."""
        return self._live.ended

    def cancel(self) -> None:
        """Stop the request; who awaits it gets ``asyncio.CancelledError``."""
        self._live.stop(Shutdown("cancelled"))

    async def stop(self) -> None:
        """
        Stop the request and return when it has ended, however it did; nothing happens when it has.

        Cancellation: it is stopped all the same, before the cancellation travels on.
        """
        live = self._live
        live.stop(Shutdown("cancelled"))
        with anyio.move_on_after(live.patience, shield=True):
            await live.wait()

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called, in a turn of the loop of its own, when the request has ended."""
        self._live.when_ended(callback)

    async def outcome(self) -> Outcome:
        """
        Wait for the end and return it as a value.

        Raises:
            asyncio.CancelledError: ``cancel`` was called.
        Cancellation: the request is stopped, its sockets closed, before the cancellation travels on.
        """
        await self._end()
        return self._live.outcome()

    async def _end(self) -> None:
        live = self._live
        try:
            if not live.ended:
                await live.end_of()
        except asyncio.CancelledError:
            await self.stop()
            raise
        if live.cancelled:
            raise asyncio.CancelledError

    def __await__(self) -> Generator[object, None, R]:
        yield from self._end().__await__()
        if self._live.error is not None:
            raise self._live.error
        value: R = self._live.value
        return value

    def __repr__(self) -> str:
        state = "ended" if self.done else "running"
        return f"<Request {self.id} [{state}]>"
