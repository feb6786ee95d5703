"""Actors for tests: children that die as they are told, and processes that do what a test wants done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from dspex.runtime import (
    Actor,
    ActorRef,
    ChildSpec,
    Continue,
    ExitReason,
    From,
    Idle,
    Ignore,
    Next,
    Process,
    Reply,
    Runtime,
    Started,
    Stop,
    Supervisor,
    SupervisorRef,
)

__all__ = [
    "Host",
    "Kid",
    "Nursery",
    "TrappingHost",
    "TrappingKid",
    "actor_of",
    "alive_below",
    "ends",
    "family",
    "kids_of",
    "one",
]


class Nursery:
    """A record of the kids: the events in order, the starts that are to fail next, and how."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failing: dict[str, list[object]] = {}

    def spec(self, name: str, kid: type[Kid] | None = None, /, **options: Any) -> ChildSpec:
        return ChildSpec(name, kid or Kid, (name, self), **options)

    def started(self, name: str) -> int:
        return self.log.count(f"+{name}")

    def take(self) -> list[str]:
        """Return what happened since the last time."""
        log, self.log = self.log, []
        return log


class Kid(Actor):
    """Starts as its nursery says, idles, and stops for the reason (or raises the exception) that is cast to it."""

    def __init__(self, name: str, nursery: Nursery) -> None:
        self.name = name
        self.nursery = nursery

    async def init(self) -> Continue | Idle | Ignore | Started | Stop | None:
        failing = self.nursery.failing.get(self.name)
        outcome: Any = failing.pop(0) if failing else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            self.nursery.log.append(f"+{self.name}")
            self.own(self.name, lambda name: self.nursery.log.append(f"-{name}"))
        return outcome  # type: ignore[no-any-return]  # tests return junk on purpose

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message)

    async def handle_cast(self, message: Any) -> Next:
        if isinstance(message, Exception):
            raise message
        assert isinstance(message, ExitReason)
        return Stop(message)


class TrappingKid(Kid):
    """Hears of its parent's exit as a message, and says goodbye."""

    trap_exit: ClassVar[bool] = True
    terminate_timeout: ClassVar[float | None] = None

    async def terminate(self, reason: ExitReason) -> None:
        self.nursery.log.append(f"~{self.name}")


class Host(Actor):
    """Awaits what it is called with, in its own process, and keeps whatever else it is sent."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Callable[[], Awaitable[Any]], sender: From) -> Next:
        return Reply(await message())

    async def handle_info(self, message: object) -> Next:
        self.seen.append(message)
        return None


class TrappingHost(Host):
    """A host that lives on when others die."""

    trap_exit: ClassVar[bool] = True


def actor_of(ref: ActorRef) -> Any:
    """Return the actor behind a ref, to look at its state."""
    return ref._process.actor


async def kids_of(supervisor: ActorRef) -> dict[str, ActorRef | None]:
    """Return the children by id, oldest first."""
    assert isinstance(supervisor, SupervisorRef)
    return {info.id: info.ref for info in reversed(await supervisor.which_children())}


async def family(runtime: Runtime, *specs: ChildSpec, **options: Any) -> SupervisorRef:
    """Start a supervisor of these children; two restarts within an hour unless told otherwise."""
    ref = await runtime.start(Supervisor(specs, **{"max_restarts": 2, "max_seconds": 3600.0, **options}))
    assert isinstance(ref, SupervisorRef)
    return ref


async def one(supervisor: ActorRef, name: str) -> ActorRef:
    """Return a running child."""
    ref = (await kids_of(supervisor))[name]
    assert ref is not None
    return ref


async def ends(ref: ActorRef, how: ExitReason | Exception) -> ExitReason | None:
    """Have a kid end, and wait until it has."""
    ref.cast(how)
    return await ref.wait_exit()


def alive_below(process: Process) -> list[str]:
    """Return the labels of a process's living children."""
    return [child.label for child in process.children if child.alive]
