"""Keys to processes: a table whose entries vanish with their owners (Elixir's ``Registry``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from dspex._guard import shown
from dspex.errors import ActorExited, AlreadyRegistered, DspexError, NotRegistered, SpecError
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._context import current_process
from dspex.runtime._locks import KeyLocks
from dspex.runtime._log import get_logger
from dspex.runtime._parking import Parking
from dspex.runtime._process import Process
from dspex.runtime._ref import ActorRef, Itself, NamedRef, ProcessRef
from dspex.runtime._via import Via

__all__ = ["Entry", "Registered", "Registration", "Registry", "Unregistered"]

_log = get_logger("runtime")

T = TypeVar("T")
Strict = tuple[type, Hashable]

Where = Callable[[Any, ProcessRef, Any], object]
"""Picks entries by their key, process and value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One registration: who, and the value it attached."""

    ref: ProcessRef
    value: Any  # of the registrant's own choosing


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration with its key, as ``Registry.select`` lists them."""

    key: Hashable
    ref: ProcessRef
    value: Any  # of the registrant's own choosing


@dataclass(frozen=True, slots=True)
class Registered:
    """``ref`` has registered itself under ``key``; sent to the listeners of a registry."""

    registry: Registry
    key: Hashable
    ref: ProcessRef
    value: Any  # of the registrant's own choosing


@dataclass(frozen=True, slots=True)
class Unregistered:
    """``ref`` has given up ``key``, by a call, not by dying; sent to the listeners of a registry."""

    registry: Registry
    key: Hashable
    ref: ProcessRef


class Registry(Itself):
    """
    A table of keys, with one (``"unique"``) or many (``"duplicate"``) entries each.

    It is data, not a process: it cannot crash, and a process registers itself synchronously. Keys are compared
    strictly: ``1``, ``1.0`` and ``True`` are three keys.

    Args:
        keys: ``"unique"`` allows one entry for a key, ``"duplicate"`` allows many.
        listeners: The process that is sent ``Registered`` and ``Unregistered``. A death sends nothing: monitor who
            registers.
    """

    def __init__(
        self, keys: Literal["unique", "duplicate"] = "unique", *, listeners: Iterable[ActorRef | NamedRef] = ()
    ) -> None:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f"keys must be 'unique' or 'duplicate', not {keys!r}")
        self.keys_kind = keys
        self._entries: dict[Strict, list[tuple[Process, object]]] = {}
        self._owned: dict[Process, set[Strict]] = {}
        self._listeners = tuple(listeners)
        self._locks = KeyLocks()
        self._parking = Parking(self._holder, lambda: self._entries, _text, _place)

    def register(self, key: Hashable, value: object = None) -> None:
        """
        Register the calling process under ``key``.

        Raises:
            AlreadyRegistered: The key is unique and taken, be it by the caller itself.
            ActorExited: The caller is dying.
            RuntimeError: The caller is not a process.
        """
        self.enter(_caller(), key, value)

    def enter(self, owner: Process, key: Hashable, value: object) -> None:
        """Register ``owner`` under ``key``; for the runtime, which enters an actor before it runs."""
        if owner.dead_to_the_world:
            raise ActorExited(owner.label, owner.exit_reason)
        self.refuse_if_taken(key)
        strict = (type(key), key)
        self._entries.setdefault(strict, []).append((owner, value))
        if owner not in self._owned:
            self._owned[owner] = set()
            owner.own(owner, self._forget)
        self._owned[owner].add(strict)
        self._tell(Registered(self, key, owner.ref, value))
        self._wake(strict, owner)

    def refuse_if_taken(self, key: Hashable) -> None:
        """Raise AlreadyRegistered when ``key`` is unique and a living process holds it."""
        entries = self._entries.get((type(key), key))
        if self.keys_kind == "unique" and entries:
            entries[:] = [each for each in entries if each[0].exit_reason is None]
            if entries:
                raise AlreadyRegistered(key, entries[0][0].ref)

    def unregister(self, key: Hashable) -> None:
        """Remove the calling process's entries under ``key``; fine when there are none."""
        owner = _caller()
        strict = (type(key), key)
        owned = self._owned.get(owner, set())
        if strict in owned:
            owned.discard(strict)
            self._remove(owner, strict)
            self._tell(Unregistered(self, key, owner.ref))

    def update_value(self, key: Hashable, function: Callable[[Any], T]) -> T:
        """
        Replace the value of the calling process's entry by ``function(value)``, and return it.

        Raises:
            NotRegistered: The caller does not hold the key.
            SpecError: The keys of this registry are not unique.
            ActorExited: The caller is dying.
        """
        if self.keys_kind != "unique":
            raise SpecError("keys", self.keys_kind, "'unique': a duplicate key has no one value")
        owner = _caller()
        if owner.dead_to_the_world:
            raise ActorExited(owner.label, owner.exit_reason)
        entries = self._entries.get((type(key), key), [])
        for position, (holder, value) in enumerate(entries):
            if holder is owner:
                new = function(value)
                entries[position] = (owner, new)
                return new
        raise NotRegistered(repr(key), owner.ref)

    def lookup(self, key: Hashable) -> tuple[Entry, ...]:
        """Return the live entries of ``key``, oldest first."""
        entries = self._entries.get((type(key), key), ())
        return tuple(Entry(owner.ref, value) for owner, value in entries if owner.exit_reason is None)

    def keys(self, ref: ProcessRef | None = None) -> tuple[Hashable, ...]:
        """Return the keys a process is registered under; without one, all keys with a live entry, oldest first."""
        if ref is not None:
            return tuple(key for _, key in self._owned.get(ref._process, ()))
        return tuple(
            key for (_, key), entries in self._entries.items() if any(owner.exit_reason is None for owner, _ in entries)
        )

    def select(self, where: Where | None = None) -> tuple[Registration, ...]:
        """
        Return the live entries of all keys, or those for which ``where(key, ref, value)`` is true; the oldest first.

        It looks at every entry: for one key there is ``lookup``.
        """
        live = [
            Registration(key, owner.ref, value)
            for (_, key), entries in self._entries.items()
            for owner, value in entries
            if owner.exit_reason is None
        ]  # a list of its own, for ``where`` is the user's, and may register or unregister
        return tuple(each for each in live if where is None or where(each.key, each.ref, each.value))

    def count(self, where: Where | None = None) -> int:
        """Return how many live entries there are, or for how many of them ``where(key, ref, value)`` is true."""
        return len(self.select(where))

    def dispatch(self, key: Hashable, function: Callable[[tuple[Entry, ...]], object]) -> None:
        """Call ``function`` with the entries of ``key``, in the caller; not at all when there are none."""
        entries = self.lookup(key)
        if entries:
            function(entries)

    @overload
    async def lock(self, key: Hashable, function: Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def lock(self, key: Hashable, function: Callable[[], T]) -> T: ...
    async def lock(self, key: Hashable, function: Callable[[], object]) -> object:
        """
        Run ``function`` in the caller while nobody else runs one under a lock of this key; return its result.

        The lock is free again when the function ends or its process is dead. Locks and entries have nothing to do
        with each other: ``key`` need not be registered.

        Raises:
            CallCycle: The function of a lock asks for the same lock.
            ActorExited: The caller is dying.
        Cancellation: the function is cancelled, or never called; the lock goes to the next.
        """
        return await self._locks.run((type(key), key), function)

    def via(self, key: Hashable, value: object = None) -> Via:
        """
        Return ``key`` as the name of an actor, for ``Runtime.start(via=...)``, for ``ChildSpec`` and for calls.

        Raises:
            SpecError: The keys of this registry are not unique.
        """
        if self.keys_kind != "unique":
            raise SpecError("keys", self.keys_kind, "'unique': a duplicate key names nobody")
        return Via(self, key, value)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    # --- inside ---------------------------------------------------------------------------------------------

    def ready(self, strict: Strict) -> ActorRef | None:
        """Return the actor that holds a key (with its type, as of ``Via.place``) and is initialised, or None."""
        process = self._holder(strict)
        if process is None or process.exit_reason is not None or process.started is not None or process.stopping:
            return None
        return process.ref

    def _holder(self, strict: Strict) -> ActorProcess | None:
        """Return the actor that has a key, be it dying; plain tasks, which may register too, cannot be called."""
        return next((owner for owner, _ in self._entries.get(strict, ()) if isinstance(owner, ActorProcess)), None)

    def _wake(self, strict: Strict, owner: Process) -> None:
        """Wake those who wait for a key once its new owner is initialised."""
        if not isinstance(owner, ActorProcess):
            return
        started = owner.started
        if started is None:
            self._parking.taken(strict, owner.ref)
        else:
            started.add_done_callback(
                lambda _: self._parking.taken(strict, owner.ref) if owner.exit_reason is None else None,
                context=owner.runtime.context,
            )

    def _tell(self, message: Registered | Unregistered) -> None:
        for listener in self._listeners:
            try:
                listener.send(message)
            except DspexError as error:  # it lives in another loop: who registers must not suffer from that
                says = "{listener} cannot hear of {key}: {error}"
                key = shown(message.key)
                _log.error("listener not told", says=says, listener=shown(listener), key=key, exc_info=error)

    def _forget(self, owner: Process) -> None:
        for strict in self._owned.pop(owner, ()):
            try:
                self._remove(owner, strict)
            except BaseException as error:  # noqa: BLE001 - a key may be hashed by anybody's code; the others must go
                owner.runtime.contain(error)
                says = "the key {key} of a dead process stays in its registry: {error}"
                _log.error("key not removed", says=says, key=shown(strict[1]), exc_info=error)

    def _remove(self, owner: Process, strict: Strict) -> None:
        left = [each for each in self._entries.get(strict, ()) if each[0] is not owner]
        if left:
            self._entries[strict] = left
        else:
            self._entries.pop(strict, None)
            self._parking.dismiss(strict)


def _caller() -> Process:
    process = current_process()
    if process is None:
        raise RuntimeError("only a process can register itself: call this from a handler")
    return process


def _text(strict: Strict) -> str | None:
    return strict[1] if isinstance(strict[1], str) else None


def _place(strict: Strict) -> str:
    return f"the key {shown(strict[1])} of a registry"
