"""The handles on a supervisor, by ref and by name, and what they say to it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dspex.errors import CallCycle, SpecError
from dspex.runtime._child_spec import ChildSpec
from dspex.runtime._children import ChildCounts, ChildInfo
from dspex.runtime._context import current_process
from dspex.runtime._ref import ActorRef, NamedRef
from dspex.runtime._start_or_get import start_or_get

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = [
    "DeleteChild",
    "GetChildSpec",
    "Management",
    "Manages",
    "NamedSupervisorRef",
    "RestartChild",
    "StartChild",
    "SupervisorRef",
    "TerminateChild",
    "TerminateRef",
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
class TerminateRef(Management):
    """Stop the child that this is a handle on."""

    ref: ActorRef


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


class Manages:
    """
    The management calls of a supervisor, however one has got hold of it; they wait for as long as it takes.

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

    async def start_or_get(self, spec: ChildSpec) -> ActorRef:
        """
        Return who holds the name of ``spec`` (without one, its ``via``), initialised; start it if nobody does.

        However many ask at once, there is one actor, and all get its ref. A holder that is being restarted is waited
        for. When the one that is waited for fails to start, the next who asked starts its own; so the error that
        somebody gets is that of its own spec. The holder of the place need not be a child of this supervisor.

        Raises:
            SpecError: The spec has neither a name nor a key.
            StartFailed: The child's ``init`` failed; the spec is discarded.
            ChildError: As for ``start_child``, when nobody holds the place.
            AlreadyRegistered: Nobody holds the name, but another actor the key.
            ServiceUnavailable: The service of that name has failed to start several times running.
            CallCycle: Called from who holds the place, or below it, while it starts.
        Cancellation: the child is started all the same.
        """
        return await start_or_get(self._runtime, lambda _: self.start_child(spec), spec.name, spec.via, None)

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

    @property
    @abstractmethod
    def _runtime(self) -> Runtime:
        """Where the supervisor lives."""

    @abstractmethod
    async def _manage(self, message: object) -> object:
        """Have the supervisor carry out ``message``, and return or raise its answer."""


class SupervisorRef(Manages, ActorRef):
    """A handle on one incarnation of a supervisor, with its management calls; they wait for as long as it takes."""

    __slots__ = ()

    @property
    def _runtime(self) -> Runtime:
        return self._process.runtime

    async def _manage(self, message: object) -> object:
        starting, caller = self._process.starting, current_process()
        if starting is not None and starting.started is not None and caller is not None and starting.owns(caller):
            raise CallCycle((caller.label, self._process.label, starting.label))
        answer = await self.call(message, timeout=None)
        if issubclass(type(answer), Exception):
            raise answer
        return answer


class NamedSupervisorRef(Manages, NamedRef):
    """
    A handle on whichever supervisor holds a name, with the management calls; made by ``Runtime.named_supervisor``.

    It is resolved at each use. While the supervisor is being restarted the calls park, for as long as it takes; they
    fail at once with NoSuchActor when nobody is expected under the name. Children of a supervisor that died are gone
    with it: a dynamic one comes back empty.

    Raises:
        SpecError: By each call: who holds the name is not a supervisor.
    """

    __slots__ = ()

    async def terminate(self, ref: ActorRef) -> None:
        """Stop a child by its ref, and forget it if the supervisor is dynamic. ChildError ``not_found`` otherwise."""
        await self._manage(TerminateRef(ref))

    @property
    def _runtime(self) -> Runtime:
        return self.runtime

    async def _manage(self, message: object) -> object:
        names = self.runtime._names
        while (ref := names.whereis(self.name)) is None:
            await names.wait(self.name, None, patient=self.patient)
        if not isinstance(ref, SupervisorRef):
            raise SpecError("name", self.name, f"the name of a supervisor; it is that of {ref!r}")
        return await ref._manage(message)
