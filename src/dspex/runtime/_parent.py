"""An actor with children it has records of: how one is started, and how it is stopped."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar

from dspex._guard import shown
from dspex.errors import StartFailed
from dspex.runtime._actor import Actor
from dspex.runtime._announced import Announcements, places_of
from dspex.runtime._child_spec import ChildSpec, ShutdownPolicy
from dspex.runtime._children import Child
from dspex.runtime._exit import KILL, SHUTDOWN
from dspex.runtime._library_actor import LibraryActor
from dspex.runtime._next import Ignore
from dspex.runtime._ref import ActorRef, ProcessRef

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._messages import Exit

__all__ = ["Parent"]


class Parent(LibraryActor):
    """The common part of supervisors: children in start order, found by id and by pid."""

    trap_exit: ClassVar[bool] = True
    hurried: ClassVar[bool] = True

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}  # a child that is being restarted is found under its last pid
        self._announced = Announcements()

    def records(self) -> tuple[Child, ...]:
        """The children's records, oldest first, for inspection."""
        return tuple(self._children.values())

    def _arguments(self, spec: ChildSpec) -> tuple[object, ...]:
        """Return what a child is made from; ``Any`` for they are the user's."""
        return spec.args

    def _spec_of(self, child: Child) -> ChildSpec:
        return child.spec

    def _spawn(self, child: Child) -> ActorProcess | StartFailed:
        spec = child.spec
        try:
            actor = spec.start(*self._arguments(spec), **spec.kwargs)
            if not isinstance(actor, Actor):
                raise _not_an_actor(child.id, actor)
            if spec.kind is None:
                child.spec = spec = spec.resolved(actor.kind)
            if isinstance(actor, Parent):
                self._announced.keep(self._dspex_process, child, actor._announced)
            return self.runtime.spawn(actor, name=spec.name, via=spec.via, label=child.id, parent=self._dspex_process)
        except BaseException as error:  # noqa: BLE001 - a constructor is user code: its failure is an answer
            self.runtime.contain(error)
            failure = StartFailed(child.id, error)
            failure.__cause__ = error
            return failure

    async def _start(self, child: Child) -> StartFailed | None:
        """
        Start ``child`` and wait for its ``init``; the parent's exit signal cuts the wait short.

        A child whose ``init`` returned Ignore has not failed: it stays stopped.
        """
        if self._dspex_process.parent_exit is not None:
            return StartFailed(child.id, SHUTDOWN)
        self._expect(child)
        process = self._spawn(child)
        if isinstance(process, StartFailed):
            return process
        self._dspex_process.starting = process
        try:
            outcome = await self.runtime.await_start(process, None)
        finally:
            self._dspex_process.starting = None
        if outcome is not None:
            if isinstance(outcome.reason, Ignore):
                child.state = "stopped"
                self._no_longer_expect(child)
                return None
            return outcome
        self._running(child, process)
        return None

    def _running(self, child: Child, process: ActorProcess) -> None:
        self._by_pid.pop(child.pid, None)
        child.started(process, self.runtime.clock.now())
        self._by_pid[child.pid] = child
        self._announced.started(child)

    def _expect(self, child: Child) -> None:
        """Announce that we see to the name and the key of ``child``: who calls by them may wait."""
        self._announced.add(self._dspex_process, child)

    def _no_longer_expect(self, child: Child) -> None:
        """Note that ``child`` is not started again unless somebody says so: who waits for it waits in vain."""
        self._announced.drop(child)

    def _found(self, ref: ActorRef | None) -> Child | None:
        """Return the child whose incarnation, the last if it is being restarted, ``ref`` means."""
        # Pids are numbers of one runtime, and processes of others send signals, too.
        known = ref is not None and issubclass(type(ref), ProcessRef) and ref._process.runtime is self.runtime
        return self._by_pid.get(ref.pid) if known and ref is not None else None

    def _dead_child(self, message: Exit) -> Child | None:
        """Return the child whose death this is; None for other signals, those of living children among them."""
        child = self._found(message.ref)  # type: ignore[arg-type]  # a child is an actor
        process = child.process if child is not None else None
        dead = process is not None and message.ref is not None and process is message.ref._process and process.dead
        return child if dead else None

    async def _stop(self, child: Child) -> None:
        process = self._release(child)
        if process is None:
            return
        if child.spec.shutdown is not ShutdownPolicy.BRUTAL_KILL:
            process.receive_exit(SHUTDOWN, self._dspex_process)
            if await process.wait_exit(child.spec.grace) is not None:
                child.last_exit = process.exit_reason
                return
        process.receive_exit(KILL, self._dspex_process)
        child.last_exit = await process.wait_exit(None)

    def _release(self, child: Child) -> ActorProcess | None:
        """Stop counting on ``child``: its exit, and what was to be done about an earlier one, are not news any more."""
        child.cancel_timer()
        if child.backoff is not None:
            for parking, key in places_of(self.runtime, child.spec):
                parking.no_longer_unavailable(key)
        process, child.process = child.process, None
        if process is not None:
            process.released = True
        self._by_pid.pop(child.pid, None)
        return process

    async def _stop_all(self) -> None:
        for child in reversed(list(self._children.values())):
            await self._stop(child)
            child.state = "stopped"


def _not_an_actor(child_id: str, made: object) -> TypeError:
    if inspect.iscoroutine(made):
        made.close()  # it must not warn that nobody awaited it
        return TypeError(f"{child_id}: start is a coroutine function; it must return an Actor, which has its own init")
    return TypeError(f"{child_id}: start returned {shown(made)}, not an Actor")
