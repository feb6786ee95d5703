"""This process's part of a budget that several share: what it may spend without asking. Pure, told the time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from dspex.errors import SharedError
from dspex.protocols.money import Budget, Spending
from dspex.services.shared.cells import Step
from dspex.services.shared.purse_cell import NO_COINS, Coins, Limits, PurseAnswer, PurseAsk, PurseCell, exchange

__all__ = ["Purse", "coins_of", "spending_of", "step_of"]

_NANO: Final = Decimal(1_000_000_000)

AHEAD: Final = 1.0
"""Seconds of spending at the present rate that a slice is to last."""

FRESH: Final = 0.1
"""Seconds for which a refusal is repeated without asking again."""

_NOTHING: Final = Spending()


@dataclass(slots=True)
class Purse:
    """
    One process's view of a shared budget.

    It may spend ``granted`` in all, which counts up like ``spent``: the difference is its slice. Sums are exact here
    and rounded up to billionths of a dollar where the others hear of them: they are never told less than was spent.

    Attributes:
        cell: The name of the budget's cell.
        budget: As this process was configured.
        holder: This process's name in the cell.
        spent: All that it has paid from this budget.
        reserved: Set aside by calls under way.
        granted: All that it may ever have spent, as far as it was told.
        heard: The latest answer; None before the first.
        remembered: The cell as it was last seen.
    """

    cell: str
    budget: Budget
    holder: str
    spent: Spending = _NOTHING
    reserved: Spending = _NOTHING
    granted: Coins = NO_COINS
    heard: PurseAnswer | None = None
    remembered: str | None = None
    _heard_at: float = 0.0
    _turn: int = 0
    _told: Coins | None = None
    """The sum that the cell knows of; None while that is not known."""
    _held: Coins | None = None
    """The slice that the cell counts; None while that is not known."""
    _rate: tuple[float, ...] = (0.0, 0.0, 0.0)
    _rated: Coins = NO_COINS
    _rated_at: float | None = None

    @property
    def limits(self) -> Limits:
        """The limits of the budget, in whole numbers; dollars are rounded down."""
        budget = self.budget
        usd = None if budget.usd is None else int(budget.usd * _NANO)
        return usd, budget.tokens, budget.calls

    def in_force(self) -> Budget:
        """Return the budget that holds: the smallest of those that live processes were configured with."""
        usd, tokens, calls = self.heard.limits if self.heard is not None else self.limits
        return Budget(None if usd is None else Decimal(usd) / _NANO, tokens, calls, self.budget.per)

    def limits_differ(self) -> bool:
        """True when another live process was configured with a smaller limit than this one."""
        return self.heard is not None and self.heard.limits != self.limits

    def lack(self, amount: Spending = _NOTHING) -> Coins:
        """Return what is missing of the slice for ``amount`` to be set aside as well; nothing where it suffices."""
        used = coins_of(self.spent + self.reserved + amount)
        limits = self.heard.limits if self.heard is not None else self.limits
        lacking = [
            0 if limit is None else max(0, need - have)
            for limit, need, have in zip(limits, used[:3], self.granted[:3], strict=True)
        ]
        return Coins(*lacking)

    def covers(self, amount: Spending) -> bool:
        """True when ``amount`` may be set aside without asking."""
        return not any(self.lack(amount))

    @property
    def is_settled(self) -> bool:
        """True when the others know all, and nothing is held that could be given back."""
        return self.reserved == _NOTHING and coins_of(self.spent) == self._told and self._held == NO_COINS

    @property
    def hungry(self) -> bool:
        """True while somebody has to go without: nothing more is kept than is needed."""
        return self.heard is not None and self.heard.hunger > 0

    def ask(
        self, now: float, needs: Spending | None = None, wanted: Spending = _NOTHING, *, leave: bool = False
    ) -> PurseAsk:
        """
        Return the next word to the cell. From now on only what it keeps may be spent.

        Args:
            now: The runtime's clock.
            needs: A call that waits for it; None where none does.
            wanted: The sum of the others that wait.
            leave: Keep nothing that is not set aside.
        """
        spent, used = coins_of(self.spent), coins_of(self.spent + self.reserved)
        ahead = NO_COINS if self.hungry or leave else self._ahead(now)
        reserved = used.minus(spent)
        slice_ = self.granted.minus(spent)
        keep = Coins(*(max(one, min(two, one + more)) for one, two, more in zip(reserved, slice_, ahead, strict=True)))
        self.granted = spent.plus(keep)
        need = self.lack(needs) if needs is not None else NO_COINS
        want = need.plus(coins_of(wanted)).plus(ahead)
        self._turn += 1
        self._told = self._held = None
        yields = self.heard.hunger if self.heard is not None else 0
        leaves = leave and not any(keep)
        return PurseAsk(self.holder, self._turn, spent, keep, need, want, self.limits, yields, leaves)

    def hear(self, ask: PurseAsk, answer: PurseAnswer, remembered: str, now: float) -> None:
        """Take what was granted, and what is known of the others."""
        self.heard, self.remembered, self._heard_at = answer, remembered, now
        self.granted = self.granted.plus(answer.granted)
        self._told, self._held = ask.spent, ask.keep.plus(answer.granted)

    def total(self) -> Spending:
        """Return what all processes have spent, as far as it is known here."""
        if self.heard is None or self._told is None:
            return self.spent
        return spending_of(self.heard.spent.minus(self._told)) + self.spent

    def refuses(self, amount: Spending, now: float) -> bool:
        """True when ``amount`` cannot be had: by a fresh answer there is too little, and nothing will come back."""
        heard = self.heard
        if heard is None or not heard.final or now - self._heard_at > FRESH:
            return False
        slice_ = self.granted.minus(coins_of(self.spent))
        room = heard.room(slice_)
        return any(most is not None and need > most for most, need in zip(room, self.lack(amount)[:3], strict=True))

    def _ahead(self, now: float) -> Coins:
        """Return what may be spent until one is asked again: as in the last second, or so far in this one."""
        spent = coins_of(self.spent)
        if self._rated_at is None:
            self._rated_at, self._rated = now, spent
        lately = spent.minus(self._rated)[:3]
        elapsed = now - self._rated_at
        if elapsed >= AHEAD:
            self._rate = tuple(each * AHEAD / elapsed for each in lately)
            self._rated_at, self._rated = now, spent
        return Coins(*(max(0, int(max(each, rate))) for each, rate in zip(lately, self._rate, strict=True)))


def coins_of(amount: Spending) -> Coins:
    """Return an amount in whole numbers, rounded up."""
    usd = int((amount.usd * _NANO).to_integral_value(ROUND_CEILING)) if amount.usd else 0
    return Coins(usd, amount.tokens, amount.calls, amount.unpriced)


def spending_of(amount: Coins) -> Spending:
    """Return an amount with dollars as people count them."""
    return Spending(Decimal(amount.usd) / _NANO, amount.tokens, amount.calls, amount.unpriced)


def step_of(purse: Purse, ask: PurseAsk, origin: str) -> Step[tuple[PurseAnswer, str]]:
    """
    Return what changes the purse's cell by one word, with the answer and the cell's new text.

    Args:
        purse: The purse; it is not changed.
        ask: The word.
        origin: The name of the cell's first text, should there be none.
    """
    remembered = purse.remembered

    def step(text: str | None, now: float) -> tuple[str, tuple[PurseAnswer, str]]:
        try:
            known = PurseCell.decode(remembered) if remembered is not None else None
            cell = PurseCell.decode(text) if text is not None else PurseCell(origin)
        except ValueError as error:
            raise SharedError(f"the shared budget {purse.cell!r} cannot be read: {error}") from error
        answer = exchange(cell, ask, now, known)
        written = cell.encode()
        return written, (answer, written)

    return step
