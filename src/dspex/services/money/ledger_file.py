"""The ledger's file: the cells of budgets by day and month, and the sums that earlier versions wrote."""

from __future__ import annotations

import sqlite3
from decimal import Decimal, InvalidOperation
from typing import Final

from dspex.protocols.money import Spending
from dspex.services.money.purse import coins_of
from dspex.services.shared.purse_cell import PurseCell
from dspex.services.shared.sqlite_cells import SqliteFile

__all__ = ["LedgerFile"]

_EARLIER: Final = "ledger"
"""The origin under which sums of earlier versions are kept."""


class LedgerFile(SqliteFile):
    """Several processes may use it; every method blocks."""

    def first(self, db: sqlite3.Connection, name: str) -> str | None:
        """Return what an earlier version has noted for a day or month."""
        table = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'spent'").fetchone()
        if table is None:
            return None
        period = name.rpartition("/")[2]
        row = db.execute("SELECT usd, tokens, calls, unpriced FROM spent WHERE period = ?", (period,)).fetchone()
        if row is None:
            return None
        try:
            spent = Spending(Decimal(row[0]), *map(int, row[1:]))
            if not spent.usd.is_finite():
                raise ValueError(f"its sum of {period} is not a number")
        except (InvalidOperation, TypeError, ValueError) as error:
            raise sqlite3.DataError(f"its sum of {period} cannot be read: {error}") from error
        return PurseCell(_EARLIER, gone={_EARLIER: coins_of(spent)}).encode()
