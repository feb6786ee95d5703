"""The handle on a supervisor, and what it says to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from dspex.errors import CallCycle
from dspex.runtime._child_spec import ChildSpec
from dspex.runtime._children import ChildCounts, ChildInfo
from dspex.runtime._context import current_process
from dspex.runtime._ref import ActorRef

__all__ = [
    "DeleteChild",
    "GetChildSpec",
    "Management",
    "RestartChild",
    "StartChild",
    "SupervisorRef",
    "TerminateChild",
    "WhichChild",
    "WhichChildren",
]


class Management:
    """Base of what a supervisor is asked by its ref; it answers any other call with an error."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StartChild(Management):
    """Start one more child."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild(Management):
    """Stop a child, keep its spec."""

    which: str | ActorRef


@dataclass(frozen=True, slots=True)
class RestartChild(Management):
    """Start a stopped child again."""

    which: str | ActorRef


@dataclass(frozen=True, slots=True)
class DeleteChild(Management):
    """Forget a stopped child."""

    which: str | ActorRef


@dataclass(frozen=True, slots=True)
class GetChildSpec(Management):
    """Tell how a child is started."""

    which: str | ActorRef


@dataclass(frozen=True, slots=True)
class WhichChild(Management):
    """Tell how a child is."""

    which: str | ActorRef


@dataclass(frozen=True, slots=True)
class WhichChildren(Management):
    """Tell how the children are."""


class SupervisorRef(ActorRef):
    """
    A handle on a supervisor, with its management calls; they wait for as long as it takes.

    A child is named by its id, or by a ref; the ref of a child that is being restarted means that child still.
    """

    __slots__ = ()

    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """
        Start a child at the end of the start order and wait until it is initialised.

        Raises:
            StartFailed: Its ``init`` failed; the spec is discarded.
            SpecError: A child of this supervisor cannot be significant.
            ChildError: ``already_started`` or ``already_present``; or ``ignored``: its ``init`` returned Ignore, and
                the spec is kept (unless temporary or dynamic) for ``restart_child``.
            CallCycle: Called from below the supervisor while it waits for that very child.
        Cancellation: the child is started all the same.
        """
        return cast("ActorRef", await self._manage(StartChild(spec)))

    async def terminate_child(self, child_id: str | ActorRef) -> None:
        """Stop a child and keep its spec; fine when it is stopped already. ChildError ``not_found`` otherwise."""
        await self._manage(TerminateChild(child_id))

    async def restart_child(self, child_id: str | ActorRef) -> ActorRef:
        """Start a stopped child again. ChildError: ``running``, ``restarting``, ``not_found`` or ``ignored``."""
        return cast("ActorRef", await self._manage(RestartChild(child_id)))

    async def delete_child(self, child_id: str | ActorRef) -> None:
        """Forget a stopped child. ChildError: ``running``, ``restarting`` or ``not_found``."""
        await self._manage(DeleteChild(child_id))

    async def get_childspec(self, child_id: str | ActorRef) -> ChildSpec:
        """Return the spec of a child, defaults filled in. ChildError ``not_found``."""
        return cast("ChildSpec", await self._manage(GetChildSpec(child_id)))

    async def which_child(self, child_id: str | ActorRef) -> ChildInfo:
        """Return how a child is. ChildError ``not_found``."""
        return cast("ChildInfo", await self._manage(WhichChild(child_id)))

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the children, newest first."""
        return cast("tuple[ChildInfo, ...]", await self._manage(WhichChildren()))

    async def count_children(self) -> ChildCounts:
        """Return how many children there are, of which kind, and how many live."""
        infos = await self.which_children()
        supervisors = sum(info.kind == "supervisor" for info in infos)
        active = sum(info.ref is not None for info in infos)
        return ChildCounts(len(infos), active, supervisors, len(infos) - supervisors)

    async def _manage(self, message: object) -> Any:
        starting, caller = self._process.starting, current_process()
        if starting is not None and starting.started is not None and caller is not None and starting.owns(caller):
            raise CallCycle((caller.label, self._process.label, starting.label))
        answer = await self.call(message, timeout=None)
        if isinstance(answer, Exception):
            raise answer
        return answer
