"""Budgets by the day and the month: accounts that begin anew, and whose sums are kept beyond the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dspex._clock import day_text, wall_time
from dspex.protocols.money import Account, Budget, Spending

__all__ = ["Period", "Periods"]


class Period:
    """
    One budget that begins anew with every day or month, in UTC.

    Attributes:
        per: ``day`` or ``month``.
        key: The running one, ``2030-01-31`` or ``2030-01``.
        account: Its account: what has been paid in it so far, by this process and by others that it knows of.
    """

    __slots__ = ("account", "key", "per")

    def __init__(self, budget: Budget, above: Account | None) -> None:
        assert budget.per is not None
        self.per = budget.per
        self.key = ""
        self.account = Account(f"this {budget.per}", budget, above)

    def key_at(self, now: float) -> str:
        """Return the name of the period that a moment is in."""
        return day_text(now)[: 10 if self.per == "day" else 7]


class Periods:
    """
    The budgets by period of one App; plain data that outlives the ledger's actor.

    Args:
        budgets: Those with a ``per``.
        now: Seconds since the epoch.
    """

    __slots__ = ("_now", "each")

    def __init__(self, budgets: Sequence[Budget], now: Callable[[], float] = wall_time) -> None:
        self._now = now
        above: Account | None = None
        self.each: list[Period] = []
        for budget in budgets:
            period = Period(budget, above)
            above = period.account
            self.each.append(period)
        self.roll()

    @property
    def account(self) -> Account | None:
        """The account that the App's pays into; None where there is no such budget."""
        return self.each[-1].account if self.each else None

    def roll(self) -> bool:
        """
        Begin a new day or month when it is time; True when one has begun.

        Its account is empty then; sums that are set aside stay so.
        """
        begun = False
        for period in self.each:
            key = period.key_at(self._now())
            if key != period.key:
                period.key = key
                period.account.spent = Spending()
                period.account.name = f"this {period.per} ({key}, UTC)"
                begun = True
        return begun

    def keys(self) -> list[str]:
        """Return the running periods."""
        return [period.key for period in self.each]
