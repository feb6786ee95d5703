"""Names of the users' own making: an actor found under a key of a registry."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dspex._guard import shown
from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._messages import Call
from dspex.runtime._ref import ActorRef, Handle

if TYPE_CHECKING:
    from dspex.runtime._parking import Parking
    from dspex.runtime._registry import Registry, Strict

__all__ = ["Via"]

R = TypeVar("R")


class Via(Handle):
    """
    A key of a unique registry, as the name of an actor; made by ``Registry.via``.

    ``runtime.start(actor, via=registry.via("user-7"))`` registers the actor before its ``init`` runs, and so does the
    ``via`` of a ChildSpec, for each incarnation. As a handle it is resolved at each use; while a supervisor restarts
    the actor, ``call`` parks, up to its timeout: nothing has been sent, so nothing is lost.
    """

    __slots__ = ("key", "registry", "value")

    def __init__(self, registry: Registry, key: Hashable, value: object = None) -> None:  # the registrant's own value
        self.registry = registry
        self.key = key
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and (other.registry, other.place[1]) == (self.registry, self.place[1])

    def __hash__(self) -> int:
        return hash(self.place[1])

    def __repr__(self) -> str:
        return f"<{shown(self.key)} of a registry>"

    def whereis(self) -> ActorRef | None:
        """Return who holds the key, or None."""
        for entry in self.registry.lookup(self.key):
            if isinstance(entry.ref, ActorRef):
                return entry.ref
        return None

    @overload
    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R: ...
    @overload
    async def call(self, message: object, *, timeout: float | None = 5.0) -> Any: ...
    async def call(self, message: object, *, timeout: float | None = 5.0) -> object:
        """
        Call the holder of the key, waiting for one if a supervisor is to start it; errors as ``ActorRef.call``.

        Raises:
            NoSuchActor: Nobody holds it, and no supervisor is about to start an actor under it.
            ServiceUnavailable: The service has failed to start several times running.
            CallTimeout: Nobody took the key, or answered, in time.
        """
        parking, strict = self.place
        timeout = finite_timeout(timeout)
        while (ref := self.registry.ready(strict)) is None:
            runtime = parking.runtime_of(strict)
            if runtime is None:
                raise parking.nobody(strict)
            began = runtime.clock.now()
            await parking.wait(strict, runtime, timeout, patient=False)
            if timeout is not None:
                timeout = max(0.0, timeout - (runtime.clock.now() - began))
        return await ref.call(message, timeout=timeout)

    def cast(self, message: object) -> bool:
        """Cast to the holder of the key; False when nobody holds it."""
        ref = self.whereis()
        return ref is not None and ref.cast(message)

    def send(self, message: object) -> bool:
        """Send to the holder of the key; False when nobody holds it."""
        ref = self.whereis()
        return ref is not None and ref.send(message)

    @property
    def place(self) -> tuple[Parking[Strict], Strict]:
        """Where those wait who call while nobody holds the key; for the runtime."""
        return self.registry._parking, (type(self.key), self.key)
