"""Keys to processes: a table whose entries vanish with their owners (Elixir's ``Registry``)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from dspex.errors import ActorExited, AlreadyRegistered
from dspex.runtime._context import current_process
from dspex.runtime._process import Process
from dspex.runtime._ref import ProcessRef

__all__ = ["Entry", "Registry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One registration: who, and the value it attached."""

    ref: ProcessRef
    value: Any  # of the registrant's own choosing


class Registry:
    """
    A table of keys, with one (``"unique"``) or many (``"duplicate"``) entries each.

    It is data, not a process: it cannot crash, and a process registers itself synchronously. Keys are compared
    strictly: ``1``, ``1.0`` and ``True`` are three keys.
    """

    def __init__(self, keys: Literal["unique", "duplicate"] = "unique") -> None:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f"keys must be 'unique' or 'duplicate', not {keys!r}")
        self.keys_kind = keys
        self._entries: dict[tuple[type, Hashable], list[tuple[Process, Any]]] = {}
        self._owned: dict[Process, set[tuple[type, Hashable]]] = {}

    def register(self, key: Hashable, value: object = None) -> None:
        """
        Register the calling process under ``key``.

        Raises:
            AlreadyRegistered: The key is unique and taken, be it by the caller itself.
            ActorExited: The caller is dying.
            RuntimeError: The caller is no process.
        """
        owner = _caller()
        if owner.dead_to_the_world:
            raise ActorExited(owner.label, owner.exit_reason)
        strict = (type(key), key)
        entries = self._entries.setdefault(strict, [])
        if self.keys_kind == "unique":
            entries[:] = [each for each in entries if each[0].exit_reason is None]
            if entries:
                raise AlreadyRegistered(repr(key), entries[0][0].ref)
        entries.append((owner, value))
        if owner not in self._owned:
            self._owned[owner] = set()
            owner.own(owner, self._forget)
        self._owned[owner].add(strict)

    def unregister(self, key: Hashable) -> None:
        """Remove the calling process's entries under ``key``; fine when there are none."""
        owner = _caller()
        strict = (type(key), key)
        self._remove(owner, strict)
        self._owned.get(owner, set()).discard(strict)

    def lookup(self, key: Hashable) -> tuple[Entry, ...]:
        """Return the live entries of ``key``, oldest first."""
        entries = self._entries.get((type(key), key), ())
        return tuple(Entry(owner.ref, value) for owner, value in entries if owner.exit_reason is None)

    def keys(self, ref: ProcessRef) -> tuple[Hashable, ...]:
        """Return the keys a process is registered under."""
        return tuple(key for _, key in self._owned.get(ref._process, ()))

    def dispatch(self, key: Hashable, function: Callable[[tuple[Entry, ...]], object]) -> None:
        """Call ``function`` with the entries of ``key``, in the caller; not at all when there are none."""
        entries = self.lookup(key)
        if entries:
            function(entries)

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def _forget(self, owner: Process) -> None:
        for strict in self._owned.pop(owner, ()):
            self._remove(owner, strict)

    def _remove(self, owner: Process, strict: tuple[type, Hashable]) -> None:
        left = [each for each in self._entries.get(strict, ()) if each[0] is not owner]
        if left:
            self._entries[strict] = left
        else:
            self._entries.pop(strict, None)


def _caller() -> Process:
    process = current_process()
    if process is None:
        raise RuntimeError("only a process can register itself: call this from a handler")
    return process
