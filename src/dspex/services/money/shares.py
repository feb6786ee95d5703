"""The budgets of a ledger that other processes spend from too: which account has which purse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dspex.protocols.money import Account, Spending
from dspex.services.money.periods import Periods
from dspex.services.money.purse import Purse

__all__ = ["Shares", "Short", "keep_of"]

_DAY: Final = 86_400.0
_KEEP: Final = {"day": 40 * _DAY, "month": 100 * _DAY, "app": 400 * _DAY}

APP: Final = "budget/app"
"""The cell of the budget that an App has for as long as its namespace lasts."""


class Short(NamedTuple):
    """The slice of one purse does not suffice: the others have to be asked."""

    purse: Purse
    account: Account
    amount: Spending


class Shares:
    """
    The purses of one book; plain data that outlives the ledger's actor.

    Args:
        holder: The name of this process among those that share; no other has it, ever.
        periods: The budgets by day and month, which are shared.
        root: The App's own account, where its budget is shared too.

    Attributes:
        former: Purses of days and months that are over, until all is settled with them.
        on_paid: Called after each payment, by whoever paid; None while nobody tells the others.
    """

    __slots__ = ("_periods", "_root", "by_account", "former", "holder", "on_paid")

    def __init__(self, holder: str, periods: Periods, root: Account | None) -> None:
        self.holder = holder
        self._periods = periods
        self._root = root if root is not None and root.budget is not None else None
        self.by_account: dict[Account, Purse] = {}
        self.former: list[Purse] = []
        self.on_paid: Callable[[], object] | None = None
        self.roll()

    def roll(self) -> None:
        """Give each day and month a purse of its own; calls under way pay where they have set aside."""
        cells = {period.account: f"budget/{period.per}/{period.key}" for period in self._periods.each}
        if self._root is not None:
            cells[self._root] = APP
        for account, cell in cells.items():
            purse = self.by_account.get(account)
            if purse is not None and purse.cell == cell:
                continue
            if purse is not None:
                self.former.append(purse)
            assert account.budget is not None
            self.by_account[account] = Purse(cell, account.budget, self.holder)

    def all(self) -> list[Purse]:
        """Return every purse that there is something to tell of."""
        return [*self.by_account.values(), *self.former]

    def find(self, chain: Iterable[Account]) -> list[Purse]:
        """Return the purses of a chain of accounts."""
        return [purse for account in chain if (purse := self.by_account.get(account)) is not None]

    def short(self, chain: Iterable[Account], amount: Spending) -> Short | None:
        """Return a purse of the chain that does not cover ``amount``."""
        for account in chain:
            purse = self.by_account.get(account)
            if purse is not None and not purse.covers(amount):
                return Short(purse, account, amount)
        return None

    def told(self) -> None:
        """Let the accounts show what all processes have spent, and forget what is over and settled."""
        for account, purse in self.by_account.items():
            account.spent = purse.total()
        self.former = [purse for purse in self.former if not purse.is_settled]

    def paid(self) -> None:
        """Say that there is something to tell the others."""
        if self.on_paid is not None:
            self.on_paid()


def keep_of(cell: str) -> float:
    """Return for how many seconds a cell is kept that nobody changes."""
    return _KEEP[cell.split("/")[1]]
