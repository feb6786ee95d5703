"""Budgets by the day and the month: accounts whose sums a file keeps beyond the process."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from dspex._clock import day_text, wall_time
from dspex._files import make_folder, make_private
from dspex.errors import ConfigError
from dspex.protocols.money import Account, Budget, Spending

__all__ = ["Period", "PeriodFile", "Periods"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    period TEXT PRIMARY KEY, usd TEXT NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL,
    unpriced INTEGER NOT NULL
) WITHOUT ROWID
"""

Payment = tuple[str, Spending]
"""A sum, and the period that it was paid in."""


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

    def plain(self) -> dict[str, object]:
        """Return limits and sums for a health endpoint."""
        budget, spent = self.account.budget, self.account.spent
        assert budget is not None
        found: dict[str, object] = {"per": self.per, "period": self.key}
        for name, limit, used in (
            ("usd", budget.usd, spent.usd),
            ("tokens", budget.tokens, spent.tokens),
            ("calls", budget.calls, spent.calls),
        ):
            if limit is not None:
                shown = str if name == "usd" else int
                found[name] = {"limit": shown(limit), "spent": shown(used), "left": shown(max(limit - used, 0))}
        return found


class Periods:
    """
    The budgets by period of one App; plain data that outlives the ledger's actor.

    Args:
        budgets: Those with a ``per``.
        now: Seconds since the epoch.

    Attributes:
        unwritten: Payments that the file does not have yet, oldest first.
        on_paid: Called after each payment, by whoever paid; None while nobody writes.
    """

    __slots__ = ("_now", "each", "on_paid", "unwritten")

    def __init__(self, budgets: Sequence[Budget], now: Callable[[], float] = wall_time) -> None:
        self._now = now
        above: Account | None = None
        self.each: list[Period] = []
        for budget in budgets:
            period = Period(budget, above)
            above = period.account
            self.each.append(period)
        self.unwritten: deque[Payment] = deque()
        self.on_paid: Callable[[], object] | None = None
        self.roll()

    @property
    def account(self) -> Account | None:
        """The account that the App's pays into; None where there is no such budget."""
        return self.each[-1].account if self.each else None

    def roll(self) -> None:
        """Begin a new day or month when it is time: its account is empty then; sums that are set aside stay so."""
        for period in self.each:
            key = period.key_at(self._now())
            if key != period.key:
                period.key = key
                period.account.spent = Spending()
                period.account.name = f"this {period.per} ({key}, UTC)"

    def note(self, amount: Spending) -> None:
        """Keep a payment for the file; the accounts have it already."""
        self.unwritten.extend((period.key, amount) for period in self.each)
        if self.on_paid is not None:
            self.on_paid()

    def plain(self) -> list[dict[str, object]]:
        """Return limits and sums for a health endpoint, as they are now."""
        self.roll()
        return [period.plain() for period in self.each]

    def keys(self) -> list[str]:
        """Return the running periods."""
        return [period.key for period in self.each]

    def agree(self, sums: dict[str, Spending]) -> None:
        """Take over the file's sums, which have other processes' payments too; what it lacks is added."""
        for period in self.each:
            if period.key in sums:
                lacking = (amount for key, amount in self.unwritten if key == period.key)
                period.account.spent = sum(lacking, sums[period.key])


class PeriodFile:
    """
    The sums of each day and month, in a file that several processes may write; every method blocks.

    Args:
        path: The SQLite file; made when missing.

    Raises:
        ConfigError: It cannot be used: without it a budget would not hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._told():
            make_folder(path)
            make_private(path)
            with self._opened() as db:
                db.execute(_SCHEMA)

    def add(self, unwritten: deque[Payment], keys: Sequence[str]) -> dict[str, Spending]:
        """
        Take payments from the left and write them, and return the sums of these periods; with an error, none is taken.

        Others may append meanwhile. They are taken here, in the thread that writes: a ledger that is killed in between
        leaves none that its successor would write again.
        """
        count = len(unwritten)
        with self._told(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            changed: dict[str, Spending] = {}
            for key, amount in [unwritten[at] for at in range(count)]:
                changed[key] = changed.get(key, Spending()) + amount
            for key, amount in changed.items():
                whole = _read(db, key) + amount
                row = (key, str(whole.usd), whole.tokens, whole.calls, whole.unpriced)
                db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?, ?)", row)
            sums = {key: _read(db, key) for key in keys}
            db.execute("COMMIT")
            for _ in range(count):
                unwritten.popleft()
            return sums

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=10.0, isolation_level=None)) as db:
            yield db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, InvalidOperation, TypeError, ValueError) as error:
            raise ConfigError(f"the ledger {self._path} cannot be used: {error}") from error


def _read(db: sqlite3.Connection, key: str) -> Spending:
    row = db.execute("SELECT usd, tokens, calls, unpriced FROM spent WHERE period = ?", (key,)).fetchone()
    if row is None:
        return Spending()
    usd, tokens, calls, unpriced = Decimal(row[0]), *map(int, row[1:])
    if not usd.is_finite():
        raise ValueError(f"its sum of {key} is not a number")
    return Spending(usd, tokens, calls, unpriced)
