"""One thread of an actor's own, for libraries that block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dspex.runtime._messages import as_answer

__all__ = ["WorkerThread"]

R = TypeVar("R")


class WorkerThread:
    """
    Runs calls one after the other in a single thread; owned by an actor with ``own(worker, WorkerThread.aclose)``.

    A caller that is cancelled stops waiting; the call itself runs on and its result is dropped.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def submit(self, function: Callable[..., R], *args: object, failed: Callable[[BaseException], object]) -> None:
        """
        Queue ``function(*args)`` in this tick, for nobody to wait for; ``aclose`` runs behind it.

        ``failed`` is called in the thread with what it raised.
        """

        def call() -> None:
            try:
                function(*args)
            except BaseException as error:  # noqa: BLE001 - nobody waits for it: the caller said who is to know
                failed(error)

        self._pool.submit(call)

    async def run(self, function: Callable[..., R], *args: object) -> R:
        """Run ``function(*args)`` in the thread and return its result; StopIteration comes as a RuntimeError."""

        def call() -> R:
            try:
                return function(*args)
            except StopIteration as error:  # asyncio's future refuses it, and would never be done
                raise as_answer(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def aclose(self, last: Callable[[], object] | None = None) -> None:
        """
        Run ``last`` behind everything queued, then end the thread and wait for it.

        Cancellation: queued calls are dropped, and the thread ends when the running one does.
        """
        try:
            await self.run(last if last is not None else _nothing)
        finally:
            # The thread is idle unless we were cancelled, so that joining it takes no time.
            self._pool.shutdown(wait=asyncio.current_task() is None or not _cancelling(), cancel_futures=True)


def _nothing() -> None:
    pass


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
