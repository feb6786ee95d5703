"""A thread that says what holds the event loop, while it is held."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, Self

from dspex._clock import monotonic
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._child_spec import check_seconds
from dspex.runtime._log import get_logger
from dspex.runtime._sentences import path_of, where

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = ["Watchdog"]

_log = get_logger("watchdog")

_DEEPEST: Final = 40
"""Frames of a stack that are shown."""


class Watchdog:
    """
    Names the code that holds the loop of ``runtime`` for longer than ``limit`` seconds, once for each time.

    A daemon thread asks the loop for a sign of life. When none comes, one log record and the telemetry event
    ``dspex.loop.blocked`` give the actor's label, the message it handles and the stack; both come from that thread,
    within ``1.5 * limit`` seconds of the beginning. A garbage collection over the limit is ``dspex.loop.gc``.

    Use ``Runtime(watchdog=0.5)``, or ``with Watchdog(runtime, 0.5):`` around a part of a program. Time is the
    machine's, whatever the clock of the runtime says.

    Raises:
        SpecError: ``limit`` is not a number of seconds above 0.
    """

    def __init__(self, runtime: Runtime, limit: float = 0.5) -> None:
        check_seconds("limit", limit, minimum=1e-3)
        self.limit = limit
        self._runtime = runtime
        self._beat = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._gc_began = 0.0
        self._pauses: deque[tuple[float, dict[str, int]]] = deque()

    def start(self) -> None:
        """Begin to watch, in the thread of the loop; a second start does nothing."""
        if self._thread is not None:
            return
        self._loop_thread = threading.get_ident()
        self._stopped.clear()
        gc.callbacks.append(self._collecting)
        self._thread = threading.Thread(target=self._watch, name="dspex-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; fine when it does not run."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with suppress(ValueError):
            gc.callbacks.remove(self._collecting)
        self._stopped.set()
        self._beat.set()
        thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- in the watching thread -----------------------------------------------------------------------------

    def _watch(self) -> None:
        loop, context = self._runtime.loop, self._runtime.context
        while not self._stopped.wait(self.limit / 2):
            self._report_pauses()
            self._beat.clear()
            if self._stopped.is_set():
                break  # stop() has set both, and it waits for us in the thread of the loop
            asked = monotonic()
            try:
                loop.call_soon_threadsafe(self._beat.set, context=context)
            except RuntimeError:  # the loop is closed, and nobody has told us
                with suppress(ValueError):
                    gc.callbacks.remove(self._collecting)
                return
            if not self._beat.wait(self.limit) and not self._was_collecting():
                self._report(asked)
                while not self._beat.wait(self.limit) and not loop.is_closed():
                    pass
        self._report_pauses()

    def _was_collecting(self) -> bool:
        """Say whether a pause explains the silence; the loop then has one more chance."""
        return bool(self._pauses) and not self._beat.wait(0) and self._beat.wait(self.limit)

    def _report(self, asked: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        label, message, path = self._who()
        stack = _shown(frame)
        if self._beat.is_set():
            return  # it has just come to life, and the stack is that of somebody innocent
        seconds = monotonic() - asked
        handling = " with a {handling}" if message is not None else ""
        _log.error(
            "the event loop is blocked",
            says="the event loop is blocked for {seconds} s by {path}" + handling + ", at {at}",
            path=path,
            at=where(stack),
            actor=label,
            handling=message,
            seconds=round(seconds, 3),
            stack=stack,
        )
        if self._runtime.telemetry.active:
            metadata = {"label": label, "message": message, "stack": stack}
            self._runtime.telemetry.emit("dspex.loop.blocked", {"seconds": seconds}, metadata)

    def _who(self) -> tuple[str, str | None, str]:
        """Return the label of the process whose code runs, the type of the message an actor handles, and its path."""
        task: asyncio.Task[object] | None = asyncio.current_task(self._runtime.loop)
        if task is None:
            return "a callback", None, "a callback"
        for process in tuple(self._runtime.processes.values()):
            if process._task is task:
                call = process._current if isinstance(process, ActorProcess) else None
                return process.label, type(call.message).__name__ if call is not None else None, path_of(process)
        return (name := f"the task {task.get_name()}"), None, name

    def _report_pauses(self) -> None:
        while self._pauses:
            seconds, info = self._pauses.popleft()
            generation, collected = info["generation"], info["collected"]
            _log.warning(
                "garbage collection held the loop",
                says="a garbage collection of generation {generation} held the loop for {seconds} s",
                seconds=round(seconds, 3),
                generation=generation,
            )
            if self._runtime.telemetry.active:
                measurements = {"seconds": seconds, "collected": float(collected)}
                self._runtime.telemetry.emit("dspex.loop.gc", measurements, {"generation": generation})

    # --- in the thread that collects ------------------------------------------------------------------------

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        """Time a collection; no more than that, for it may interrupt any code, one that holds a lock included."""
        if phase == "start":
            self._gc_began = monotonic()
        elif (seconds := monotonic() - self._gc_began) > self.limit and self._gc_began:
            self._pauses.append((seconds, info))


def _shown(frame: FrameType | None) -> str:
    return "".join(traceback.format_stack(frame, limit=_DEEPEST)) if frame is not None else ""
