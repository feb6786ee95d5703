"""Drives the engine: items run in a supervised stream, older ones first, and answers go back as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import Context

from dspex.errors import AppClosed, BudgetExceeded, InternalError
from dspex.optimizers._core import Core, Item
from dspex.optimizers._job_plan import SEARCH
from dspex.optimizers._lane import Lane
from dspex.optimizers._writer import JobWriter
from dspex.optimizers.plans import Steer
from dspex.runtime import Crashed, StreamOptions, TaskResult, TaskStream, current_process

__all__ = ["Driver"]

Answers = Mapping[str, Mapping[str, object]]


class Driver:
    """
    One incarnation of a job's engine.

    Args:
        core: Begun, or about to be.
        do: Does an item and returns its recorded answers.
        writer: The journal, for what is decided from outside.
        max_concurrency: Items under way at once.
        context: The context variables that rows see.
    """

    def __init__(
        self,
        core: Core,
        do: Callable[[Item], Awaitable[Answers]],
        writer: JobWriter,
        *,
        max_concurrency: int,
        context: Context | None = None,
    ) -> None:
        self.core = core
        self._do = do
        self._writer = writer
        self._options = StreamOptions(max_concurrency, ordered=False, context=context)
        self._wake = asyncio.Event()
        self._still = asyncio.Lock()
        self._held = False
        self._notes: list[tuple[Lane, int]] = []
        core.on_absorbed = lambda lane, k: self._notes.append((lane, k))

    async def run(self) -> None:
        """
        Run until the engine is done.

        Raises:
            Exception: The error that ended the job instead: one of the algorithm, or one that no row can succeed with.
        Cancellation: what is under way is stopped; what is recorded stays.
        """
        process = current_process()
        if process is None:
            raise InternalError("a search runs outside its process")
        async with TaskStream(process, self._do, _Source(self), self._options) as stream:
            while not self._over():
                try:
                    result = await anext(stream)
                except StopAsyncIteration:
                    break
                await self._take(result)
        await self._note()
        if self.core.trouble is not None:
            raise self.core.trouble

    def _over(self) -> bool:
        return self.core.done or self.core.trouble is not None

    async def _take(self, result: TaskResult[Item, Answers]) -> None:
        item = result.item
        # The lock keeps plans from being absorbed while a decision from outside is written down.
        async with self._still:
            if result.value is not None:
                self.core.answered(item, result.value)
            elif isinstance(result.reason, Crashed):
                await self._crashed(item, result.reason.error)
            else:
                self.core.again(item)  # it was killed: whatever it had recorded is found again
        await self._note()
        self._wake.set()

    async def _crashed(self, item: Item, error: BaseException) -> None:
        if isinstance(error, BudgetExceeded):
            if self.core.lane(SEARCH) is not None:
                await self._end(SEARCH, "budget")
            self.core.refused(item, error)  # outside the search, the job's own plan knows what to make of it
        elif isinstance(error, AppClosed):
            self._held = True  # another run of the App does it; here, nothing more is begun
            self.core.again(item)
        elif isinstance(error, Exception):
            self.core.fail(error)
        else:
            raise error

    async def _note(self) -> None:
        """Write down what has been absorbed, once each."""
        limited, self.core.limited = self.core.limited, []
        for name, at in limited:
            await self._writer.append(
                "ended", {"search": name, "at": at, "why": "budget", "exact": True}, f"{name} spent"
            )
        notes, self._notes = self._notes, []
        for lane, k in notes:
            if lane.name == SEARCH:
                data = {"plan": k, **lane.algorithm.progress(lane.state)}
                await self._writer.append("progress", data, f"{lane.name}/{k}")

    # --- from outside ---------------------------------------------------------------------------------------

    async def end_search(self, why: str) -> bool:
        """End the job's search with what it has; False when it does not run. Cancellation: it may have been ended."""
        async with self._still:
            if self.core.lane(SEARCH) is None:
                return False
            await self._end(SEARCH, why)
        self._wake.set()
        return True

    async def _end(self, name: str, why: str) -> None:
        lane = self.core.lane(name)
        assert lane is not None
        await self._writer.append("ended", {"search": name, "at": lane.absorbed, "why": why}, name)
        self.core.end(lane)

    async def steer(self, steer: Steer) -> bool:
        """
        Tell the job's search something; it counts after the plan that is absorbed next.

        False when the search does not run. Cancellation: it may have been told.
        """
        async with self._still:
            lane = self.core.lane(SEARCH)
            if lane is None:
                return False
            at = lane.absorbed
            await self._writer.append("steered", {"search": SEARCH, "at": at, **steer.plain()})
            self.core.steers.setdefault((SEARCH, at), []).append(steer)
        return True

    def pause(self) -> None:
        """Begin nothing more; what is under way ends."""
        self._held = True

    def resume(self) -> None:
        """Go on."""
        self._held = False
        self._wake.set()

    # --- for the source -------------------------------------------------------------------------------------

    async def next_item(self) -> Item | None:
        """Return the next item, waiting for one; None when there are no more."""
        while not self._over():
            item = None if self._held else self.core.take()
            if item is not None:
                return item
            self._wake.clear()
            await self._wake.wait()
        return None


class _Source(AsyncIterator[Item]):
    """The items, oldest first, each taken only when there is room for it; not a generator, so nothing to close."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def __anext__(self) -> Item:
        item = await self._driver.next_item()
        if item is None:
            raise StopAsyncIteration
        return item
