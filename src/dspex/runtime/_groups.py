"""Groups of actors under a common name (OTP's ``pg``)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dspex._guard import shown
from dspex.errors import ActorExited, NoSuchActor, NotRegistered
from dspex.runtime._context import current_process
from dspex.runtime._ref import ActorRef, Itself

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process

__all__ = ["GroupChange", "Groups"]

Strict = tuple[type, Hashable]


@dataclass(frozen=True, slots=True)
class GroupChange:
    """Members have come or gone; delivered to ``handle_info`` of who monitors, once for each change."""

    monitor: int
    group: Hashable
    kind: Literal["join", "leave"]
    refs: tuple[ActorRef, ...]


class Groups(Itself):
    """
    A scope of named groups: who is in a group, as often as it has joined.

    It is data, not a process; every instance is a scope of its own, and ``Runtime.groups`` is one to start with.
    Groups need not be made: one without members is not there. Names are compared strictly, as in a Registry.
    """

    def __init__(self) -> None:
        self._members: dict[Strict, dict[ActorProcess, int]] = {}
        self._joined: dict[Process, set[Strict]] = {}
        self._monitors: dict[int, tuple[ActorProcess, Strict | None]] = {}
        self._watching: dict[Process, set[int]] = {}

    def join(self, group: Hashable, *refs: ActorRef) -> None:
        """
        Add ``refs`` to ``group``, or the calling actor; who joins again is in it once more.

        Raises:
            NoSuchActor: One of them is dead; nobody was added.
            ActorExited: The caller is dying.
            RuntimeError: No ref was given and the caller is not an actor.
        """
        strict = (type(group), group)
        refs = refs or (_caller("join").ref,)
        _refuse_the_dying()
        for ref in refs:
            if not ref.alive:
                raise NoSuchActor(ref._process.label)
        members = self._members.setdefault(strict, {})
        for ref in refs:
            process = ref._process
            members[process] = members.get(process, 0) + 1
            if process not in self._joined:
                self._joined[process] = set()
                process.own(process, self._forget_member)
            self._joined[process].add(strict)
        self._tell(strict, "join", refs)

    def leave(self, group: Hashable, *refs: ActorRef) -> None:
        """
        Take ``refs`` out of ``group``, or the calling actor, once for each time they are named.

        Raises:
            NotRegistered: None of them is a member.
            ActorExited: The caller is dying.
            RuntimeError: No ref was given and the caller is not an actor.
        """
        strict = (type(group), group)
        refs = refs or (_caller("leave").ref,)
        _refuse_the_dying()
        left = tuple(ref for ref in refs if self._remove_one(strict, ref._process))
        if not left:
            raise NotRegistered(f"a member of {shown(group)}", ", ".join(map(repr, refs)))
        self._tell(strict, "leave", left)

    def members(self, group: Hashable) -> tuple[ActorRef, ...]:
        """Return the living members, each as often as it has joined, the oldest member first."""
        counts = self._members.get((type(group), group), {})
        return tuple(
            process.ref for process, count in counts.items() if process.exit_reason is None for _ in range(count)
        )

    def which_groups(self) -> tuple[Hashable, ...]:
        """Return the names of the groups that have members."""
        return tuple(
            group for (_, group), members in self._members.items() if any(each.exit_reason is None for each in members)
        )

    def monitor(self, group: Hashable) -> tuple[int, tuple[ActorRef, ...]]:
        """
        Have every change of ``group`` from now on sent to the calling actor.

        Returns:
            The number that ``GroupChange.monitor`` carries, and the members now.

        Raises:
            RuntimeError: The caller is not an actor.
        """
        return self._watch((type(group), group)), self.members(group)

    def monitor_all(self) -> tuple[int, Mapping[Hashable, tuple[ActorRef, ...]]]:
        """Have every change of every group sent to the calling actor; return the number and all members now."""
        return self._watch(None), {group: self.members(group) for group in self.which_groups()}

    def demonitor(self, monitor: int) -> None:
        """Forget a monitor of the calling actor, and take what it sent out of the mailbox; fine when unknown."""
        watcher = _caller("demonitor")
        if self._monitors.get(monitor, (None,))[0] is not watcher:
            return
        del self._monitors[monitor]
        self._watching[watcher].discard(monitor)
        for item in tuple(watcher.mailbox.items or ()):
            if isinstance(item, GroupChange) and item.monitor == monitor:
                watcher.mailbox.remove(item)

    # --- inside ---------------------------------------------------------------------------------------------

    def _watch(self, strict: Strict | None) -> int:
        _refuse_the_dying()
        watcher = _caller("monitor")
        number = watcher.runtime.next_pid()
        self._monitors[number] = (watcher, strict)
        if watcher not in self._watching:
            self._watching[watcher] = set()
            watcher.own(watcher, self._forget_watcher)
        self._watching[watcher].add(number)
        return number

    def _remove_one(self, strict: Strict, process: ActorProcess) -> bool:
        members = self._members.get(strict, {})
        count = members.get(process, 0)
        if count > 1:
            members[process] = count - 1
        elif count == 1:
            self._remove_all(strict, process)
            self._joined[process].discard(strict)
        return count > 0

    def _remove_all(self, strict: Strict, process: ActorProcess) -> int:
        members = self._members[strict]
        count = members.pop(process)
        if not members:
            del self._members[strict]
        return count

    def _forget_member(self, process: ActorProcess) -> None:
        for strict in self._joined.pop(process, ()):
            count = self._remove_all(strict, process)
            self._tell(strict, "leave", (process.ref,) * count)

    def _forget_watcher(self, process: ActorProcess) -> None:
        for number in self._watching.pop(process, ()):
            self._monitors.pop(number, None)

    def _tell(self, strict: Strict, kind: Literal["join", "leave"], refs: tuple[ActorRef, ...]) -> None:
        for number, (watcher, watched) in self._monitors.items():
            if (watched is None or watched == strict) and watcher.exit_reason is None:
                watcher.mailbox.put_always(GroupChange(number, strict[1], kind, refs))


def _caller(what: str) -> ActorProcess:
    process = current_process()
    if process is None:
        raise RuntimeError(f"{what} is for actors here: call it from a handler, or name the actors")
    return process.as_actor(what)


def _refuse_the_dying() -> None:
    process = current_process()
    if process is not None and process.dead_to_the_world:
        raise ActorExited(process.label, process.exit_reason)
