"""A supervisor for children that come and go: no ids, no order, stopped all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from dspex.errors import ChildError, SpecError
from dspex.runtime._child_spec import ChildSpec, RestartStrategy, ShutdownPolicy
from dspex.runtime._children import Child
from dspex.runtime._exit import KILL, SHUTDOWN
from dspex.runtime._messages import Exit
from dspex.runtime._next import Next
from dspex.runtime._ref import ActorRef
from dspex.runtime._supervisor import Supervisor
from dspex.runtime._supervisor_ref import SupervisorRef, TerminateRef

__all__ = ["DynamicSupervisor", "DynamicSupervisorRef"]


class DynamicSupervisorRef(SupervisorRef):
    """A handle on a dynamic supervisor; children are named by their refs."""

    __slots__ = ()

    async def terminate(self, ref: ActorRef) -> None:
        """
        Stop and forget a child; one that is being restarted is meant by the ref of its last incarnation.

        Raises:
            ChildError: ``not_found``: it is not a child of this supervisor (any more).
        """
        await self._manage(TerminateRef(ref))


class DynamicSupervisor(Supervisor):
    """
    Starts children on demand, from specs whose ids need not be unique (Elixir's ``DynamicSupervisor``).

    Args:
        max_children: Refuse to start more than this many; ChildError ``max_children``.
        max_restarts: As for Supervisor; shared by all children.
        max_seconds: As for Supervisor.
        extra_arguments: Put before the ``args`` of every spec.
    """

    ref_class: ClassVar[type[ActorRef]] = DynamicSupervisorRef

    def __init__(
        self,
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: Iterable[object] = (),
    ) -> None:
        super().__init__(strategy=RestartStrategy.ONE_FOR_ONE, max_restarts=max_restarts, max_seconds=max_seconds)
        if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
            raise SpecError("max_children", max_children, "None or an int >= 0")
        self.max_children = max_children
        self.extra_arguments = tuple(extra_arguments)
        self._started = 0

    async def _carry_out(self, message: object) -> object:
        if isinstance(message, TerminateRef):
            child = self._find(message.ref)
            self._no_longer_expect(child)
            await self._stop(child)
            self._children.pop(child.id, None)
            return None
        return await super()._carry_out(message)

    def _arguments(self, spec: ChildSpec) -> tuple[object, ...]:
        return (*self.extra_arguments, *spec.args) if self.extra_arguments else spec.args

    def _spec_of(self, child: Child) -> ChildSpec:
        return replace(child.spec, id=child.id, args=self._arguments(child.spec))

    async def _add_child(self, spec: ChildSpec) -> object:
        self._refuse_significance(spec)
        if self.max_children is not None and len(self._children) >= self.max_children:
            raise ChildError(spec.id, "max_children")
        self._started += 1
        child = Child(spec, None, f"{spec.id}#{self._started}")
        self._children[child.id] = child
        failure = await self._start(child)
        if child.process is None:
            self._children.pop(child.id, None)
            self._no_longer_expect(child)
        if failure is not None:
            raise failure
        return self._answer(child)

    async def _child_exited(self, message: Exit) -> Next:
        child = self._dead_child(message)
        outcome = await super()._child_exited(message)
        if child is not None:
            self._forget_if_stopped(child)
        return outcome

    async def _retry(self, child_id: str) -> Next:
        child = self._children.get(child_id)
        outcome = await super()._retry(child_id)
        if child is not None:
            self._forget_if_stopped(child)
        return outcome

    def _forget_if_stopped(self, child: Child) -> None:
        if child.state == "stopped":
            self._children.pop(child.id, None)
            self._no_longer_expect(child)

    async def _stop_all(self) -> None:
        """Tell all at once; then wait for the most hurried first, so that nobody's time is spent on another's."""
        told = []
        for child in self._children.values():
            process = self._release(child)
            if process is not None:
                brutal = child.spec.shutdown is ShutdownPolicy.BRUTAL_KILL
                process.receive_exit(KILL if brutal else SHUTDOWN, self._dspex_process)
                told.append((child.spec.grace, process))
        self._children.clear()
        clock = self.runtime.clock
        began = clock.now()
        for grace, process in sorted(told, key=lambda each: (each[0] is None, each[0] or 0.0)):
            left = None if grace is None else max(0.0, grace - (clock.now() - began))
            if await process.wait_exit(left) is None:
                process.receive_exit(KILL, self._dspex_process)
        for _, process in told:
            await process.wait_exit(None)
