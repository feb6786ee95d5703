"""Answers that the tiers are to forget, and that are refused until they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dspex.protocols.lm import LMResponse

__all__ = ["Refused", "Removal"]

_MOST: Final = 10_000
"""Keys of which answers are refused; a tier that cannot be written leaves them here, and the oldest are let go."""


@dataclass(slots=True, eq=False)
class Removal:
    """
    One answer that is to go: each time that somebody asks for it, a record of its own.

    Attributes:
        key: Its key.
        response: The answer; another one under the key stays.
        left: How many tiers may still come up with it.
    """

    key: str
    response: LMResponse
    left: int = 0


class Refused:
    """The removals that are under way, or have failed, by key."""

    __slots__ = ("_removals",)

    def __init__(self) -> None:
        self._removals: dict[str, list[Removal]] = {}

    def __iter__(self) -> Iterator[Removal]:
        return iter([each for removals in self._removals.values() for each in removals])

    def add(self, key: str, response: LMResponse) -> Removal:
        """Refuse an answer from now on."""
        removal = Removal(key, response)
        if key not in self._removals and len(self._removals) >= _MOST:
            del self._removals[next(iter(self._removals))]
        self._removals.setdefault(key, []).append(removal)
        return removal

    def holds(self, key: str, response: LMResponse) -> bool:
        """Tell whether an answer is refused."""
        return any(each.response == response for each in self._removals.get(key, ()))

    def one_less(self, removal: Removal) -> None:
        """Note that one more tier is without the answer; without the last one it is refused no longer."""
        removal.left -= 1
        removals = self._removals.get(removal.key, [])
        if removal.left <= 0 and removal in removals:  # by identity: the same answer may be on its way out twice
            removals.remove(removal)
            if not removals:
                del self._removals[removal.key]

    def forget(self, key: str) -> None:
        """Refuse nothing under a key any more: another answer has taken its place."""
        self._removals.pop(key, None)
