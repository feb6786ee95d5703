"""Names of the users' own making: an actor found under a key of a registry."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dspex.errors import NoSuchActor
from dspex.runtime._messages import Call
from dspex.runtime._ref import ActorRef

if TYPE_CHECKING:
    from dspex.runtime._registry import Registry

__all__ = ["Via"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Via:
    """
    A key of a unique registry, as the name of an actor; made by ``Registry.via``.

    ``runtime.start(actor, via=registry.via("user-7"))`` registers the actor before its ``init`` runs. As a handle it
    is resolved at each use.
    """

    registry: Registry
    key: Hashable
    value: Any = None  # of the registrant's own choosing

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
    async def call(self, message: object, *, timeout: float | None = 5.0) -> Any:
        """
        Call the holder of the key; errors as ``ActorRef.call``.

        Raises:
            NoSuchActor: Nobody holds it.
        """
        ref = self.whereis()
        if ref is None:
            raise NoSuchActor(f"{self.key!r} of a registry")
        return await ref.call(message, timeout=timeout)

    def cast(self, message: object) -> bool:
        """Cast to the holder of the key; False when nobody holds it."""
        ref = self.whereis()
        return ref is not None and ref.cast(message)

    def send(self, message: object) -> bool:
        """Send to the holder of the key; False when nobody holds it."""
        ref = self.whereis()
        return ref is not None and ref.send(message)
