"""The forms that predictors are asked in: the record of how one model wrote them, and the rule that decides by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["ENOUGH", "LAST", "FormMemory", "Move"]

LAST: Final = 10
"""The number of first turns that count, for each form of each signature."""
ENOUGH: Final = 3
"""So many of them unreadable, and the form is left."""
_MOST_SIGNATURES: Final = 1_000
"""More are forgotten, those first that were asked longest ago."""


class Move(NamedTuple):
    """A signature was moved from one form to another, after so many of so many first turns were unreadable."""

    signature: str
    form: str
    to: str
    unreadable: int
    turns: int

    @property
    def words(self) -> str:
        """The reason, for people."""
        return f"{self.unreadable} of its last {self.turns} first turns as {self.form} could not be read"


class _Record:
    """The record of one signature: its first turns by form, and the form that it is asked in."""

    __slots__ = ("form", "is_settled", "ladder", "move", "turns")

    def __init__(self, ladder: tuple[str, ...]) -> None:
        self.ladder = ladder
        self.form = ladder[0]
        self.is_settled = len(ladder) == 1
        self.turns = {form: deque[bool](maxlen=LAST) for form in ladder}
        self.move: Move | None = None


class FormMemory:
    """
    The memory of one model.

    A form is left when 3 of its last 10 first turns could not be read, for the next one of the signature's ladder. When
    the last one fails as well, the signature goes to the form that failed least, and stays there for good: it moves at
    most as often as it has forms, and never to and fro.

    Only turns in the form that a signature is asked in can move it: answers to questions that were on their way when it
    moved count for their own form, and decide nothing.

    Attributes:
        begins_in_thoughts: True when the model's last answer had thoughts whose opening was a part of its prompt, as
            chat templates of reasoning models have it: a stream cannot know them until they end.
    """

    __slots__ = ("_records", "begins_in_thoughts")

    def __init__(self) -> None:
        self.begins_in_thoughts = False
        self._records: dict[str, _Record] = {}

    def form(self, signature: str, ladder: Sequence[str]) -> tuple[str, Move | None]:
        """Return the form to ask in, and the move that led there; ``ladder`` has the signature's forms in order."""
        known = self._records.pop(signature, None)
        if known is None or known.ladder != tuple(ladder):
            known = _Record(tuple(ladder))
            if len(self._records) >= _MOST_SIGNATURES:
                del self._records[next(iter(self._records))]
        self._records[signature] = known  # now the one that was asked last
        return known.form, known.move

    def note(self, signature: str, form: str, *, is_read: bool) -> Move | None:
        """Record how a first turn ended; return the move that follows from it."""
        known = self._records.get(signature)
        if known is None or form not in known.turns:
            return None
        turns = known.turns[form]
        turns.append(is_read)
        unreadable = turns.count(False)
        if form != known.form or known.is_settled or unreadable < ENOUGH:
            return None
        at = known.ladder.index(form) + 1
        to = (
            known.ladder[at]
            if at < len(known.ladder)
            else min(known.ladder, key=lambda each: _share(known.turns[each]))
        )
        known.is_settled = at == len(known.ladder)
        if to == form:
            return None
        known.form = to
        known.move = Move(signature, form, to, unreadable, len(turns))
        return known.move

    @property
    def moves(self) -> list[Move]:
        """The last move of each signature that is not asked in its first form."""
        return [each.move for each in self._records.values() if each.move is not None and each.form != each.ladder[0]]


def _share(turns: deque[bool]) -> float:
    return turns.count(False) / len(turns)
