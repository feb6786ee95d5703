"""The allowance of a search: set aside before an ask is sent, and counted in the order of the plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from dspex.protocols.money import Budget, Spending

__all__ = ["Allowance", "Charges", "Turn", "fits", "times"]


AHEAD = 0.2
"""The part of a limit that is kept for plans that run ahead of the oldest."""


class Turn(NamedTuple):
    """
    Asks sent at once: rows by the prefix of their keys, other asks as so many rows, and the cost of the others.

    ``aside`` is what those that say their own cost, trainings, were expected to cost.
    """

    rows: tuple[tuple[str, tuple[int, ...]], ...]
    others: int
    paid: Spending
    aside: Spending = Spending()


class Charges:
    """
    The cost of plans: each recorded answer once, whoever asks for it again.

    Args:
        compact: Remember which answers are charged, but not what each has cost; enough where nothing is handed on.
    """

    __slots__ = ("_bits", "_compact", "_costs", "_turns", "total")

    def __init__(self, *, compact: bool = False) -> None:
        self.total = Spending()
        self._turns: list[Turn] = []
        self._compact = compact
        self._bits: dict[str, int] = {}
        self._costs: dict[str, dict[int, Spending]] = {}

    def note(self, prefix: str, row: int, spent: Spending) -> None:
        """Charge an answer, unless it is charged already; ``row`` tells answers with one prefix apart."""
        bits = self._bits.get(prefix, 0)
        if bits >> row & 1:
            return
        self._bits[prefix] = bits | 1 << row
        self.total += spent
        if not self._compact:
            self._costs.setdefault(prefix, {})[row] = spent

    def add(self, other: Charges) -> None:
        """Take over what another, which is not compact, has charged."""
        for prefix, rows in other._costs.items():
            for row, spent in rows.items():
                self.note(prefix, row, spent)
        if not self._compact:
            self._turns += other._turns

    def asked(self, turn: Turn) -> None:
        """Note what was asked at once, after it was answered."""
        self._turns.append(turn)

    def affords(self, other: Charges, limit: Budget, price: Spending) -> bool:
        """
        True when another could have asked all that it did, turn by turn, had it been the oldest from its beginning.

        A plan that has run ahead is held to the same rule as one that has not: else timing would decide.
        """
        total, seen = self.total, Charges(compact=True)
        for turn in other._turns:
            fresh = [(prefix, seen.fresh(prefix, self.fresh(prefix, rows))) for prefix, rows in turn.rows]
            expected = times(price, sum(len(rows) for _, rows in fresh) + turn.others) + turn.aside
            if not fits(limit, total + seen.total + expected):
                return False
            for prefix, rows in fresh:
                for row in rows:
                    seen.note(prefix, row, other._costs[prefix][row])
            seen.total += turn.paid
        return True

    def fresh(self, prefix: str, rows: Iterable[int]) -> list[int]:
        """Return those of ``rows`` that are not charged."""
        bits = self._bits.get(prefix, 0)
        return [row for row in rows if not bits >> row & 1]

    @staticmethod
    def together(levels: Sequence[Charges]) -> Spending:
        """Return what several have charged together; only the first may be compact."""
        first, rest = levels[0], Charges()
        for each in levels[1:]:
            for prefix, rows in each._costs.items():  # noqa: SLF001 - another of our own kind
                for row in first.fresh(prefix, rows):
                    rest.note(prefix, row, rows[row])
        return first.total + rest.total


class Allowance:
    """
    The limit of one search, and what its plans have set aside.

    Only the oldest plan decides that the limit is reached, by what the plans before it have cost: this does not depend
    on timing. Younger plans run ahead with a part of the limit that is kept for them, so that the oldest plan always
    finds what it was promised; they wait when that part is used up, and waiting changes nothing in what they find.

    Args:
        limit: The most that may be spent.
        price: The expected cost of a row.
        ahead: True when plans run ahead of the oldest at all.

    Attributes:
        in_order: The sum that the absorbed plans may cost, the oldest running one included.
    """

    __slots__ = ("_held", "_limit", "_spent", "in_order", "price")

    def __init__(self, limit: Budget, price: Spending, *, ahead: bool) -> None:
        self.in_order = _share(limit, 1 - AHEAD) if ahead else limit
        self.price = price
        self._limit = limit
        self._spent = Spending()
        self._held = Spending()

    def sent(self, expected: Spending) -> None:
        """Set aside what an answer is expected to cost."""
        self._held += expected

    def arrived(self, expected: Spending, spent: Spending) -> None:
        """Replace what was set aside by what was paid."""
        self._held -= expected
        self._spent += spent

    def has_room(self, expected: Spending, counted: Spending) -> bool:
        """
        True when a younger plan may send.

        Args:
            expected: The asks it wants to send.
            counted: The sum paid already in the order of the plans; the rest of the payments ran ahead.
        """
        # All that ran ahead must fit between the two limits, whatever the oldest plan still spends.
        ahead = self._spent + self._held + expected - counted
        return fits(self._limit, _whole(self.in_order) + ahead)


def fits(limit: Budget, spent: Spending) -> bool:
    """True when an amount stays within a budget."""
    return (
        (limit.usd is None or spent.usd <= limit.usd)
        and (limit.tokens is None or spent.tokens <= limit.tokens)
        and (limit.calls is None or spent.calls <= limit.calls)
    )


def times(each: Spending, count: int) -> Spending:
    """Return the multiple of an amount."""
    return Spending(each.usd * count, each.tokens * count, each.calls * count, each.unpriced * count)


def _share(limit: Budget, share: float) -> Budget:
    usd = None if limit.usd is None else limit.usd * Decimal(str(share))
    tokens = None if limit.tokens is None else math.ceil(limit.tokens * share)
    return Budget(usd=usd, tokens=tokens, calls=None if limit.calls is None else math.ceil(limit.calls * share))


def _whole(limit: Budget) -> Spending:
    return Spending(limit.usd or Decimal(0), limit.tokens or 0, limit.calls or 0)
