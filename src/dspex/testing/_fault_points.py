"""Carries out a ``FaultPlan``: counts the visits of fault points and does what is due."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from dspex.runtime import KILL, Actor, ActorProcess, Crashed, Process, Runtime, current_process
from dspex.testing._faults import Action, Delay, Fault, FaultPlan, FaultPoint, PointKind, Raise

__all__ = ["AppliedFaults", "applied"]

_POINTS: Final[Mapping[str, PointKind]] = {
    "init": "init",
    "handle_call": "call",
    "handle_cast": "cast",
    "handle_info": "info",
    "handle_continue": "continue",
    "terminate": "terminate",
}


class AppliedFaults:
    """
    A plan at work on a runtime.

    Attributes:
        visits: The number of visits of each point so far, with or without a fault there.
        fired: The faults that have happened, in that order.
        over: True when the block has been left: nothing counts any more.
    """

    def __init__(self, plan: FaultPlan, runtime: Runtime) -> None:
        self.plan = plan
        self.visits: Counter[FaultPoint] = Counter()
        self.fired: list[Fault] = []
        self.over = False
        self._runtime = runtime
        self._left = dict(enumerate(plan.faults))
        self._counts: Counter[int] = Counter()
        self._classes: dict[type[Actor], type[Actor]] = {}
        self._at_init = any(fault.kind == "init" for fault in plan.faults)

    @property
    def unfired(self) -> list[Fault]:
        """The faults whose visit never came, or at whose event there was no process to harm."""
        return list(self._left.values())

    # --- at the points --------------------------------------------------------------------------------------

    def due(self, kind: PointKind, of: str, *, harmless: bool = False) -> list[Action]:
        """Count a visit, and return what is to happen; nothing, and nothing counts as fired, when ``harmless``."""
        if self.over:
            return []
        self.visits[kind, of] += 1
        actions = []
        for number, fault in list(self._left.items()):
            if fault.concerns(kind, of):
                self._counts[number] += 1
                if self._counts[number] == fault.visit and not (harmless and not getattr(fault.action, "process", "")):
                    self.fired.append(self._left.pop(number))
                    actions.append(fault.action)
        return actions

    async def visit(self, kind: PointKind, process: Process) -> None:
        """Let happen in a process's own code what is due here."""
        for action in self.due(kind, _called(process)):
            if isinstance(action, Raise):
                raise action.make()
            if isinstance(action, Delay):
                await self._runtime.sleep(action.seconds)
                continue
            self._kill(action.process, process)
            if not process.alive:
                await asyncio.sleep(0)  # a kill takes effect where the code waits next: let that be here

    def event(self, name: str, _: Mapping[str, float], facts: Mapping[str, object]) -> None:
        """Let happen what is due where an event is emitted."""
        process = current_process()
        for action in self.due("event", name, harmless=process is None):
            if isinstance(action, Raise):
                assert process is not None
                Process.receive_exit(process, Crashed(action.make()), None)  # also when it traps exits
            elif not isinstance(action, Delay):
                self._kill(action.process, process)

    def _kill(self, name: str, here: Process | None) -> None:
        everybody = tuple(self._runtime.processes.values())
        victims = [each for each in everybody if _called(each) == name and each.alive] if name else [here]
        for victim in victims:
            if victim is not None:
                victim.receive_exit(KILL, None)

    # --- putting the points in place ------------------------------------------------------------------------

    def prepare(self, actor: Actor) -> None:
        """Put points in front of the actor's callbacks, in a class of its own: its attributes stay as they are."""
        kind = type(actor)
        faulty = self._classes.get(kind)
        if faulty is None:
            guarded = {
                name: self._guarded(getattr(kind, name), point)
                for name, point in _POINTS.items()
                if _has(kind, name) or (self._at_init and name == "init")
            }
            body = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__, **guarded}
            faulty = self._classes[kind] = type(kind.__name__, (kind,), body)
        actor.__class__ = faulty

    def started(self, process: ActorProcess) -> None:
        """Count the start of an actor that has no ``init`` for a visit of it."""
        if not _has(type(process.actor), "init"):
            self.due("init", _called(process))

    def _guarded(
        self, callback: Callable[..., Awaitable[object]], kind: PointKind
    ) -> Callable[..., Awaitable[object]]:  # whatever the callback takes
        @functools.wraps(callback)
        async def guarded(actor: Actor, *arguments: object) -> object:
            await self.visit(kind, actor._dspex_process)  # noqa: SLF001 - no other way leads from an actor to its process
            return await callback(actor, *arguments)

        return guarded


@contextlib.contextmanager
def applied(plan: FaultPlan, runtime: Runtime) -> Iterator[AppliedFaults]:
    """
    Inside this block, let go wrong in ``runtime`` what ``plan`` says.

    Actors and tasks started inside the block have fault points (those that ran before have none), and so has every
    telemetry event. Nobody is told: the code under test is the same as always.

    The points are put in place where all processes of a runtime are started.
    """
    faults = AppliedFaults(plan, runtime)
    spawn, spawn_task = runtime.spawn, runtime.spawn_task

    def spawn_faulty(actor: Actor, **options: Any) -> ActorProcess:
        faults.prepare(actor)
        process = spawn(actor, **options)
        faults.started(process)
        return process

    def spawn_faulty_task(owner: Process, work: Callable[..., Any], *args: object, **options: Any) -> Any:
        async def faulty(*args: object) -> object:
            process = current_process()
            assert process is not None
            await faults.visit("task", process)
            return await work(*args)

        return spawn_task(owner, faulty, *args, **options)

    detach = runtime.telemetry.attach("", faults.event)
    runtime.spawn = spawn_faulty  # type: ignore[method-assign]  # of this one runtime, for this block
    runtime.spawn_task = spawn_faulty_task  # type: ignore[method-assign]  # the same
    try:
        yield faults
    finally:
        faults.over = True
        detach()
        del runtime.spawn, runtime.spawn_task  # uncovers the class's own methods


def _called(process: Process) -> str:
    return process._name or process.label  # noqa: SLF001 - a name is otherwise asked of the runtime, the other way round


def _has(kind: type[Actor], name: str) -> bool:
    """True when a callback is the class's own; an actor without it may begin, or end, in another way."""
    return getattr(kind, name) is not getattr(Actor, name)
