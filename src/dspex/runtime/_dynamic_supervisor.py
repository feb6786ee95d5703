"""A supervisor for children that come and go: no ids, no order, stopped all at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from dspex.errors import ChildError, SpecError
from dspex.runtime._child_spec import ChildSpec, RestartStrategy
from dspex.runtime._ref import ActorRef
from dspex.runtime._supervisor import Child, Supervisor, SupervisorRef

__all__ = ["DynamicSupervisor", "DynamicSupervisorRef"]


@dataclass(frozen=True, slots=True)
class _TerminateRef:
    ref: ActorRef


class DynamicSupervisorRef(SupervisorRef):
    """A handle on a dynamic supervisor; children are named by their refs."""

    __slots__ = ()

    async def terminate(self, ref: ActorRef) -> None:
        """Stop and forget a child. ChildError ``not_found`` when it is none of ours (any more)."""
        await self._manage(_TerminateRef(ref))


class DynamicSupervisor(Supervisor):
    """
    Starts children on demand, from specs whose ids need not be unique (Elixir's ``DynamicSupervisor``).

    Args:
        max_children: Refuse to start more than this many; ChildError ``max_children``.
        max_restarts, max_seconds: As for Supervisor; shared by all children.
    """

    ref_class: ClassVar[type[ActorRef]] = DynamicSupervisorRef

    def __init__(self, *, max_children: int | None = None, max_restarts: int = 3, max_seconds: float = 5.0) -> None:
        super().__init__(strategy=RestartStrategy.ONE_FOR_ONE, max_restarts=max_restarts, max_seconds=max_seconds)
        if max_children is not None and (not isinstance(max_children, int) or max_children < 0):
            raise SpecError("max_children", max_children, "None or an int >= 0")
        self.max_children = max_children
        self._started = 0

    async def _carry_out(self, message: object) -> object:
        if isinstance(message, _TerminateRef):
            child = self._by_pid.get(message.ref.pid)
            if child is None:
                raise ChildError(repr(message.ref), "not_found")
            await self._stop(child)
            self._children.pop(child.spec.id, None)
            return None
        return await super()._carry_out(message)

    async def _add_child(self, spec: ChildSpec) -> object:
        if self.max_children is not None and len(self._children) >= self.max_children:
            raise ChildError(spec.id, "max_children")
        self._started += 1
        key = f"{spec.id}#{self._started}"
        child = Child(replace(spec, id=key), None)
        self._children[key] = child
        failure = await self._start(child)
        if failure is not None:
            self._children.pop(key, None)
            raise failure
        return cast("Any", child.process).ref

    async def _child_exited(self, message: Any) -> Any:
        child = self._by_pid.get(message.ref.pid)
        outcome = await super()._child_exited(message)
        if child is not None and child.state == "stopped":
            self._children.pop(child.spec.id, None)
        return outcome

    async def _stop_all(self) -> None:
        await asyncio.gather(*(self._stop(child) for child in list(self._children.values())))
        self._children.clear()
