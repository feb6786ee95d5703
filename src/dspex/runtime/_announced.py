"""The names and keys that supervisors see to: announced before anybody takes them, given up when nobody will."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from dspex.runtime._child_spec import ChildSpec
    from dspex.runtime._children import Child
    from dspex.runtime._parking import Parking
    from dspex.runtime._process import Process
    from dspex.runtime._runtime import Runtime

__all__ = ["Announcements", "Place", "places_of"]

Place = tuple["Parking[Any]", "Hashable"]


def places_of(runtime: Runtime, spec: ChildSpec) -> tuple[Place, ...]:
    """Return where callers may wait for the child of ``spec``."""
    places: tuple[Place, ...] = ()
    if spec.name is not None:
        places += ((runtime._names.parking, spec.name),)
    if spec.via is not None:
        places += (spec.via.place,)
    return places


class Announcements:
    """
    The announcements of one supervisor, child by child, and those of children that are supervisors in turn.

    The words of a supervisor that has died hold for as long as the one above it means to restart it, and until the
    successor has started and given its own. So a caller of a child parks through the restart of whatever is above.
    """

    __slots__ = ("_below", "_by", "_ended", "_kept", "_places")

    def __init__(self) -> None:
        self._by: Process | None = None
        self._places: dict[Child, tuple[Place, ...]] = {}
        self._below: dict[Child, list[Announcements]] = {}  # of the incarnation that has run, and of one that tries to
        self._kept = False  # by the supervisor above
        self._ended = False

    def add(self, by: Process, child: Child) -> None:
        """Announce the name and the key of ``child``; once, however often it is said."""
        spec = child.spec
        if (spec.name is None and spec.via is None) or child in self._places:
            return
        self._begin(by)
        self._places[child] = places_of(by.runtime, spec)
        for parking, key in self._places[child]:
            parking.expect(key, by)

    def keep(self, by: Process, child: Child, below: Announcements) -> None:
        """Let the words of a child's new incarnation, a supervisor about to start, hold beyond its death."""
        self._begin(by)
        below._kept = True
        words = self._below.setdefault(child, [])
        if len(words) > 1:  # of a restart that has failed: what had run before it still counts
            _release([words.pop()])
        words.append(below)

    def started(self, child: Child) -> None:
        """Forget the words of earlier incarnations: the newest has started, and has said its own."""
        words = self._below.get(child)
        if words is not None and len(words) > 1:
            _release([words.pop(0)])

    def drop(self, child: Child) -> None:
        """Take back what was announced of ``child``, which is not started again by itself; fine when nothing was."""
        if self._by is not None:
            self._withdraw(child)
            _release(self._below.pop(child, ()))

    def _begin(self, by: Process) -> None:
        if self._by is None:
            self._by = by
            by.on_dead(self._died)

    def _died(self) -> None:
        self._ended = True
        if not self._kept:
            _release([self])

    def _withdraw(self, child: Child) -> None:
        assert self._by is not None
        for parking, key in self._places.pop(child, ()):
            parking.no_longer_expect(key, self._by)


def _release(words: Iterable[Announcements]) -> None:
    """Keep these no longer: those of the dead are taken back, and all below them (not on the stack: trees are deep)."""
    left = list(words)
    while left:
        each = left.pop()
        each._kept = False
        if not each._ended:
            continue  # a supervisor that lives sees to its children until it dies
        for child in tuple(each._places):
            each._withdraw(child)
        for below in each._below.values():
            left += below
        each._below.clear()
