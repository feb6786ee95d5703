"""The supervisor's record of each child, and the frozen views that others see of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dspex.runtime._exit import ExitReason
from dspex.runtime._restart import BackoffState, RestartWindow

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._child_spec import Backoff, ChildSpec
    from dspex.runtime._ref import ActorRef

__all__ = ["Child", "ChildCounts", "ChildInfo", "ChildState"]

ChildState = Literal["running", "restarting", "stopped"]

_REMEMBERED: Final = 1000
"""Restarts of one child that are counted, however many are allowed."""


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child as its supervisor sees it; ``ref`` is None unless it runs."""

    id: str
    ref: ActorRef | None
    state: ChildState
    kind: Literal["worker", "supervisor"]
    restarts: int
    last_exit: ExitReason | None


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """Numbers of children: specified, alive, supervisors and workers."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Child:
    """
    A supervisor's record of one child: its spec, and the incarnation that lives.

    Args:
        spec: Its child spec; children of one dynamic supervisor may share it.
        backoff: The supervisor's, for all its children.
        child_id: Its id, if that is not the spec's.
    """

    __slots__ = (
        "backoff",
        "delay",
        "id",
        "last_exit",
        "pid",
        "process",
        "recent",
        "restarts",
        "spec",
        "state",
        "timer",
        "window",
    )

    def __init__(self, spec: ChildSpec, backoff: Backoff | None, child_id: str | None = None) -> None:
        self.id = spec.id if child_id is None else child_id
        self.spec = spec
        self.process: ActorProcess | None = None
        self.pid = 0  # of the incarnation that lives, or lived last
        self.state: ChildState = "stopped"
        self.restarts = 0
        self.last_exit: ExitReason | None = None
        self.backoff = BackoffState(backoff) if backoff is not None else None
        self.delay = BackoffState(spec.backoff) if spec.backoff is not None and backoff is None else None
        limit = spec.limit
        self.window = RestartWindow(limit.max_restarts, limit.max_seconds) if limit is not None else None
        self.timer: TimerHandle | None = None
        self.recent: deque[float] | None = None  # when it was restarted, for reports

    def info(self) -> ChildInfo:
        """Return the frozen view of this record."""
        ref = self.process.ref if self.process is not None and self.state == "running" else None
        return ChildInfo(self.id, ref, self.state, self.spec.kind or "worker", self.restarts, self.last_exit)

    def started(self, process: ActorProcess, now: float) -> None:
        """Note the incarnation that is initialised now."""
        self.process = process
        self.pid = process.pid
        self.state = "running"
        for state in (self.backoff, self.delay):
            if state is not None:
                state.started(now)

    def count_restart(self, now: float, period: float) -> int:
        """Note a restart, and return how many there were within ``period`` seconds, this one included."""
        if self.recent is None:
            self.recent = deque(maxlen=_REMEMBERED)
        self.recent.append(now)
        while now - self.recent[0] > period:
            self.recent.popleft()
        return len(self.recent)

    def cancel_timer(self) -> None:
        """Forget a restart that is due later."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
