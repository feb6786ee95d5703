"""The starter of a task holds a handle: it gives the result once, tells the end at any time, and can ask it to stop."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from dspex.errors import ActorExited, CallTimeout, SpecError
from dspex.runtime._chain import refuse_wait
from dspex.runtime._child_spec import ShutdownPolicy, check_seconds
from dspex.runtime._context import current_process, home_process
from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._exit import KILL, NO_PROCESS, SHUTDOWN, Crashed, ExitReason
from dspex.runtime._process import Process
from dspex.runtime._ref import Itself, ProcessRef
from dspex.runtime._task_process import TaskProcess

__all__ = ["OnTimeout", "Returned", "TaskHandle", "TaskOutcome", "await_many", "yield_many"]

R = TypeVar("R")


class OnTimeout(enum.Enum):
    """The fate of a task that is not done in time."""

    NOTHING = "nothing"
    """It goes on, and can be waited for again."""
    IGNORE = "ignore"
    """It goes on, and nobody waits for it any more."""
    KILL_TASK = "kill_task"
    """It is killed."""
    EXIT = "exit"
    """The consumer of the stream gets CallTimeout."""


@dataclass(frozen=True, slots=True)
class Returned(Generic[R]):
    """A task has returned ``value``."""

    value: R


TaskOutcome = Returned[R] | ExitReason | None
"""The state of a task: it returned, it ended otherwise and why, or (None) it goes on."""


class TaskHandle(Itself, Generic[R]):
    """
    One task, for the process that started it, or for code outside of every process if such code did.

    ``await handle`` gives the result, once. ``wait`` may be repeated. Neither harms the task, whatever becomes of
    who waits; a task that was started with ``start_link`` ends with its owner.
    """

    __slots__ = ("_owner", "_spent", "_task")

    def __init__(self, task: TaskProcess, owner: Process | None) -> None:
        self._task = task
        self._owner = owner
        self._spent = False

    @property
    def ref(self) -> ProcessRef:
        """A handle on the task's process, to monitor it or to send it exit signals."""
        return self._task.ref

    def __await__(self) -> Generator[object, None, R]:
        return self._result().__await__()

    async def _result(self) -> R:
        self._spend()
        try:
            refuse_wait((self._task,))
            await self._task.wait_exit(None)
        except BaseException:  # whatever it is: undone here, then raised on
            self._spent = False  # the result is still there for who asks again
            raise
        return self.value()

    async def wait(self, timeout: float | None = 5.0) -> TaskOutcome[R]:
        """
        Return how the task ended, or None when it still runs after ``timeout`` seconds (None: for ever).

        Raises:
            RuntimeError: The caller is not the owner.
        Cancellation: the task goes on.
        """
        self._refuse_strangers()
        timeout = finite_timeout(timeout)
        if timeout is None:
            refuse_wait((self._task,))
        await self._task.wait_exit(timeout)
        return self.outcome()

    async def shutdown(self, timeout: float | ShutdownPolicy = 5.0) -> TaskOutcome[R]:
        """
        Have the task end, and wait for that: tell it to, and kill it after ``timeout`` seconds, or at once.

        Returns:
            None when it died of this; ``Returned`` or the reason when it had ended before; NO_PROCESS when somebody
            had its result already, or it was ignored.

        Raises:
            RuntimeError: The caller is not the owner.
        Cancellation: the task is killed.
        """
        grace = _grace(timeout)
        self._refuse_strangers()
        task = self._task
        if self._spent:
            return NO_PROCESS
        self._unlink()
        if not task.alive:
            await task.wait_exit(None)
            return self.outcome()
        if grace != 0.0:
            task.receive_exit(SHUTDOWN, self._owner)
        try:
            if grace == 0.0 or await task.wait_exit(grace) is None:
                task.receive_exit(KILL, self._owner)
                await task.wait_exit(None)
        except asyncio.CancelledError:
            task.receive_exit(KILL, self._owner)
            raise
        return None

    def ignore(self) -> TaskOutcome[R]:
        """
        Let the task go on by itself: it is not linked any more, and nobody can wait for it. Return how it stands.

        Raises:
            RuntimeError: The caller is not the owner.
        """
        self._refuse_strangers()
        self._spent = True
        self._unlink()
        return self.outcome()

    # --- for this module ------------------------------------------------------------------------------------

    def outcome(self) -> TaskOutcome[R]:
        """Return how the task stands, asking nobody."""
        task = self._task
        if not task.dead:
            return None
        return Returned(task.result) if task.returned else task.exit_reason

    def value(self) -> R:
        """Return what the dead task returned, or raise why it did not."""
        task = self._task
        if task.returned:
            return task.result  # type: ignore[no-any-return]  # R is what the work returns
        reason = task.exit_reason
        raise ActorExited(task.label, reason) from (reason.error if isinstance(reason, Crashed) else None)

    def _spend(self) -> None:
        self._refuse_strangers()
        if self._spent:
            raise RuntimeError(f"the result of {self._task.label} was taken already, or it is ignored")
        self._spent = True

    def _refuse_strangers(self) -> None:
        if not self._task.dead:
            self._task.runtime.refuse_other_loops()
        if self._owner not in (current_process(), home_process()):  # a plain task of the owner may await it, too
            whose = self._owner.label if self._owner is not None else "code outside the runtime"
            raise RuntimeError(f"{self._task.label} is awaited by who started it: {whose}")

    def _unlink(self) -> None:
        if self._owner is not None:
            self._owner.unlink(self._task)

    def __repr__(self) -> str:
        return f"<TaskHandle of {self._task!r}>"


async def await_many(handles: Sequence[TaskHandle[R]], timeout: float | None = 5.0) -> list[R]:
    """
    Return the results of all tasks, in the order of ``handles``, within one common ``timeout``.

    Raises:
        ActorExited: A task ended without a result; raised when the first does, and the others go on.
        CallTimeout: Not all of them ended in time; they go on.
        RuntimeError: A task is somebody else's, or its result was taken already.
    Cancellation: the tasks go on, and can be awaited again.
    """
    spent: list[TaskHandle[R]] = []
    try:
        for handle in handles:
            handle._spend()
            spent.append(handle)
        ends = _Ends([handle._task for handle in handles], len(handles), fail_fast=True)
        if not await ends.wait(timeout):
            raise CallTimeout(f"not all of {len(handles)} tasks", timeout or 0.0)
        if ends.failed is not None:
            handles[ends.failed].value()
    except BaseException:  # whatever it is: undone here, then raised on
        for handle in spent:
            handle._spent = False
        raise
    return [handle.value() for handle in handles]


async def yield_many(
    handles: Sequence[TaskHandle[R]],
    timeout: float | None = 5.0,
    *,
    limit: int | None = None,
    on_timeout: OnTimeout = OnTimeout.NOTHING,
) -> list[TaskOutcome[R]]:
    """
    Return how each task stands once all have ended, in the order of ``handles``; None for those that go on.

    Args:
        timeout: Seconds for all of them together.
        limit: Return as soon as this many have ended; the others go on.
        on_timeout: The fate of those that are not done in time: NOTHING, IGNORE or KILL_TASK.

    Raises:
        RuntimeError: A task is somebody else's.
        SpecError: An argument is not valid.
    Cancellation: the tasks go on.
    """
    if on_timeout is OnTimeout.EXIT:
        raise SpecError("on_timeout", on_timeout, "NOTHING, IGNORE or KILL_TASK")
    if limit is not None and limit < 1:
        raise SpecError("limit", limit, "None or an int >= 1")
    for handle in handles:
        handle._refuse_strangers()
    enough = len(handles) if limit is None else min(limit, len(handles))
    in_time = await _Ends([handle._task for handle in handles], enough).wait(timeout)
    outcomes = [handle.outcome() for handle in handles]
    late = [] if in_time else [handle for handle in handles if handle._task.alive]
    for handle in late:
        if on_timeout is OnTimeout.IGNORE:
            handle.ignore()
        elif on_timeout is OnTimeout.KILL_TASK:
            handle._unlink()
            handle._task.receive_exit(KILL, handle._owner)
    if on_timeout is OnTimeout.KILL_TASK:
        for handle in late:
            await handle._task.wait_exit(None)
    return outcomes


class _Ends:
    """Waits until enough of several tasks are dead, or one of them without a result."""

    def __init__(self, tasks: Sequence[TaskProcess], enough: int, *, fail_fast: bool = False) -> None:
        self._tasks = tasks
        self._left = enough
        self._fail_fast = fail_fast
        self._enough: asyncio.Future[bool] | None = None
        self.failed: int | None = None

    async def wait(self, timeout: float | None) -> bool:
        """Return whether it happened within ``timeout`` seconds; CallCycle if it never could."""
        timeout = finite_timeout(timeout)
        for_all = timeout is None and self._left >= len(self._tasks)  # any one of them may be the one that calls
        if for_all:
            refuse_wait(self._tasks)
        watched = []
        for place, task in enumerate(self._tasks):
            if task.dead:
                self._ended(place)
            else:
                watched.append((task, partial(self._ended, place)))
        if self._settled:
            return True
        runtime = self._tasks[0].runtime
        future: asyncio.Future[bool] = runtime.create_future()
        self._enough = future
        timer = None
        if timeout is not None:
            timer = runtime.clock.call_later(timeout, _settle, future, False, context=runtime.context)
        for task, callback in watched:
            task.on_dead(callback)
        noted = runtime.exit_waits.begin(frozenset(self._tasks)) if for_all else None
        try:
            return await future
        finally:
            runtime.exit_waits.end(noted)
            if timer is not None:
                timer.cancel()
            for task, callback in watched:
                task.not_on_dead(callback)

    @property
    def _settled(self) -> bool:
        return self._left <= 0 or self.failed is not None

    def _ended(self, place: int) -> None:
        self._left -= 1
        if self._fail_fast and self.failed is None and not self._tasks[place].returned:
            self.failed = place
        if self._settled and self._enough is not None:
            _settle(self._enough, True)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _grace(timeout: float | ShutdownPolicy) -> float | None:
    if isinstance(timeout, ShutdownPolicy):
        return None if timeout is ShutdownPolicy.INFINITY else 0.0
    check_seconds("timeout", timeout, minimum=0.0)
    return float(timeout)
