"""The threads in which tools that block are called: one pool per App, owned by an actor."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TypeVar

from dspex.errors import ActorExited, NoSuchActor
from dspex.runtime import ChildSpec, From, LibraryActor, Next, Reply, Runtime, ThreadPool, get_logger

__all__ = ["TOOL_THREADS", "ToolThreads"]

R = TypeVar("R")

TOOL_THREADS = "tool threads"
"""The name under which the owner of the pool is registered."""

GRACE = 0.5
"""Seconds that running calls have to end when the App closes; then they are reported, and left to themselves."""

_PATIENCE = 5.0
_log = get_logger("requests")


class ToolThreads:
    """
    Calls blocking functions for steps.

    Args:
        runtime: Where the owner lives.
        limit: Calls at once; more wait for a thread, within the time that their tool has.
    """

    def __init__(self, runtime: Runtime, *, limit: int = 32) -> None:
        self._runtime = runtime
        self._owner = runtime.named(TOOL_THREADS, patient=True)
        self.limit = limit
        self.pool: ThreadPool | None = None

    def spec(self) -> ChildSpec:
        """Return the child spec of the pool's owner."""
        return ChildSpec(TOOL_THREADS, ToolThreadsOwner, (self,), name=TOOL_THREADS)

    async def run(self, function: Callable[[], R], label: str) -> R:
        """
        Run ``function()`` in a thread, in a copy of the caller's context, and return its result.

        Raises:
            ActorExited: The pool's owner died meanwhile.
            CallTimeout: The pool was down for longer than five seconds; nothing was called.
        Cancellation: the call is left to itself, its result dropped and reported.
        """
        pool = self.pool
        while pool is None:  # its owner is being restarted: a call by name parks until there is one that is ready
            try:
                pool = await self._owner.call(_GET_POOL, timeout=_PATIENCE)
            except (ActorExited, NoSuchActor):
                continue
        context = contextvars.copy_context()

        def call() -> R:
            return context.run(function)

        return await pool.run(call, label)

    def note_late(self, label: str) -> None:
        """Tell telemetry of a call that ended when nobody waited for it any more."""
        if self._runtime.telemetry.active:
            self._runtime.telemetry.emit("dspex.tool.late", {}, {"tool": label})


class ToolThreadsOwner(LibraryActor):
    """Owns the pool: opened with the App, closed with it; a successor begins with threads of its own."""

    def __init__(self, threads: ToolThreads) -> None:
        self._threads = threads

    async def init(self) -> None:
        """Open the pool; its threads start when they are needed."""
        pool = ThreadPool("dspex-tool", limit=self._threads.limit, on_late=self._threads.note_late)
        self._threads.pool = self.own(pool, self._close)

    async def handle_call(self, message: object, sender: From) -> Next:
        """Answer with the pool, which is open by now."""
        return Reply(self._threads.pool) if message is _GET_POOL else self.refuse(message, sender)

    def describe(self) -> str:
        """Tell how many calls are under way."""
        pool = self._threads.pool
        return f"{pool.busy} calls, {pool.late} late" if pool is not None else ""

    async def _close(self, pool: ThreadPool) -> None:
        if self._threads.pool is pool:
            self._threads.pool = None
        if stuck := await pool.aclose(GRACE):
            says = "a tool does not end; its thread is left to itself: {whose}"
            whose = ", ".join(stack.partition("\n")[0] for stack in stuck)
            _log.error("a tool does not end; its thread is left to itself", says=says, whose=whose, threads=stuck)
            zombies = self.runtime.zombies
            zombies[pool] = "\n".join(stuck)
            pool.when_empty(lambda: zombies.pop(pool, None))


_GET_POOL = object()
