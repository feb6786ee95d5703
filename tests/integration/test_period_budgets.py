"""Budgets by the day and the month: they outlive Apps, ledgers and processes, and begin anew in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import BudgetExceeded, ConfigError
from dspex.protocols.lm import Usage
from dspex.protocols.model import LM
from dspex.protocols.money import Spending
from dspex.services.money.ledger import Booking, LedgerBook
from dspex.services.money.ledger_file import LedgerFile
from dspex.services.money.periods import Periods
from dspex.services.money.purse import spending_of
from dspex.services.shared.purse_cell import PurseCell
from dspex.testing import ScriptedLM
from tests.support.programs import until

DAY = 86_400.0
ASK = dspex.Predict("question -> answer")


def app(home: Path, *budgets: dspex.Budget, model: str = "scripted/model") -> dspex.App:
    prices = {"*": dspex.Price(input=1, output=1)}
    lm = ScriptedLM(lambda _: {"answer": "yes"}, model=model, max_tokens=10)
    return dspex.App(lm, home=home, cache=None, prices=prices, budget=budgets)


def shown(running: dspex.App) -> Any:
    return running.health()["budgets"]


async def test_a_restart_goes_on_where_the_day_was(tmp_path: Path) -> None:
    """The third call of the day is refused, whichever App makes it; each App's own sums begin at nothing."""
    daily = dspex.Budget(calls=2, per="day")
    for spent in (0, 1):
        async with app(tmp_path, daily) as running:
            assert shown(running)[0]["calls"] == {"limit": 2, "spent": spent, "left": 2 - spent}
            await running.run(ASK, question="q")
            assert shown(running)[0]["calls"]["spent"] == spent + 1
    async with app(tmp_path, daily) as running:
        with pytest.raises(
            BudgetExceeded, match=r"this day \(\d{4}-\d\d-\d\d, UTC\) may use 2 calls, of which 0 are left"
        ):
            await running.run(ASK, question="q")
    async with app(tmp_path, dspex.Budget(calls=5, per="day"), dspex.Budget(calls=1)) as running:
        await running.run(ASK, question="q")
        with pytest.raises(BudgetExceeded, match="the App may use 1 calls"):
            await running.run(ASK, question="q")


async def test_dollars_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    monthly = dspex.Budget(usd=1, per="month")
    async with app(tmp_path, monthly) as running:
        await running.run(ASK, question="q")
        first = Decimal(shown(running)[0]["usd"]["spent"])
    async with app(tmp_path, monthly) as running:
        assert Decimal(shown(running)[0]["usd"]["spent"]) == first > 0
        await running.run(ASK, question="q")
        assert Decimal(shown(running)[0]["usd"]["spent"]) == 2 * first
        assert Decimal(shown(running)[0]["usd"]["left"]) == 1 - 2 * first


async def test_a_ledger_that_is_killed_counts_nothing_twice(tmp_path: Path) -> None:
    async with app(tmp_path, dspex.Budget(calls=100, per="day")) as running:
        runtime = running.runtime
        dead: list[object] = [None]
        for _ in range(5):
            await running.run(ASK, question="q")
            ledger = runtime.whereis("ledger")
            assert ledger is not None
            dead.append(ledger)
            ledger.kill()
            await until(lambda: runtime.whereis("ledger") not in dead, "the ledger to be back")
        assert shown(running)[0]["calls"]["spent"] == 5
    async with app(tmp_path, dspex.Budget(calls=100, per="day")) as running:
        assert shown(running)[0]["calls"]["spent"] == 5


def test_a_process_that_is_killed_has_written_what_it_told(tmp_path: Path) -> None:
    """SIGKILL as soon as nothing waits to be written: what was paid is in the file, once."""
    script = """
import asyncio, os, signal, sys
from pathlib import Path
import dspex
from tests.integration.test_period_budgets import ASK, app

async def main():
    async with app(Path(sys.argv[1]), dspex.Budget(calls=9, per="day")) as running:
        for _ in range(3):
            await running.run(ASK, question="q")
        shares = running.running_tree().book.shares
        while not all(purse.is_settled for purse in shares.all()):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == -signal.SIGKILL
    periods = Periods([dspex.Budget(calls=9, per="day")])
    file = LedgerFile(tmp_path / "ledger.db")
    cell = file.change(f"budget/day/{periods.keys()[0]}", lambda text, now: (text or "", text), 1.0)
    file.close()
    assert cell is not None
    assert PurseCell.decode(cell).spent().calls == 3


def test_a_new_day_has_a_budget_of_its_own() -> None:
    """The month goes on, and so does what is set aside."""
    now = 0.0
    periods = Periods([dspex.Budget(calls=10, per="day"), dspex.Budget(calls=50, per="month")], lambda: now)
    book = LedgerBook(periods=periods)

    def pay() -> None:
        book.add(Booking(book.root, LM("openai/x"), Usage(1, 1), 1, paid=False))

    pay()
    pay()
    now = DAY
    pay()
    assert periods.keys() == ["1970-01-02", "1970-01"]
    assert [each.account.spent.calls for each in periods.each] == [1, 3]
    now = 31 * DAY
    assert [each["calls"] for each in book.plain()] == [
        {"limit": 10, "spent": 0, "left": 10},
        {"limit": 50, "spent": 0, "left": 50},
    ]
    assert book.root.spent.calls == 3


async def test_apps_share_a_file_to_the_last_call(tmp_path: Path) -> None:
    """However they overlap: ten calls a day are ten, and none of them is left unspent."""
    daily = dspex.Budget(calls=10, per="day")
    async with app(tmp_path, daily) as one, app(tmp_path, daily) as two:
        runs = (each.run(ASK, question=f"q{number}") for number in range(15) for each in (one, two))
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert len(outcomes) - len(refused) == 10
        assert all(isinstance(each, BudgetExceeded) for each in refused)
        assert "may use 10 calls, of which 0 are left" in str(refused[0])
        await until(lambda: shown(one)[0]["calls"].get("others") is None, "both to have said what they spent")


async def test_the_smaller_budget_holds_and_is_told(tmp_path: Path) -> None:
    seen: list[str] = []
    small, large = app(tmp_path, dspex.Budget(calls=3, per="day")), app(tmp_path, dspex.Budget(calls=9, per="day"))
    async with small as one, large as two:
        two.telemetry.attach("dspex.shared.limits_differ", lambda *event: seen.append(str(event[2]["name"])))
        runs = (each.run(ASK, question=f"q{number}") for number in range(6) for each in (one, two))
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert sum(not isinstance(each, BaseException) for each in outcomes) == 3
        assert shown(two)[0]["calls"]["limit"] == 3
        assert len(seen) == 1
        assert seen[0].startswith("budget/day/")


def test_the_sums_of_an_earlier_version_count(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("CREATE TABLE spent (period TEXT PRIMARY KEY, usd TEXT, tokens INT, calls INT, unpriced INT)")
        db.execute("INSERT INTO spent VALUES ('1970-01-01', '0.25', 7, 3, 1)")
    file = LedgerFile(tmp_path / "ledger.db")
    cell = file.change("budget/day/1970-01-01", lambda text, now: (text or "", text), 1.0)
    assert file.change("budget/day/1970-01-02", lambda text, now: (text or "", text), 1.0) is None
    file.close()
    assert cell is not None
    assert spending_of(PurseCell.decode(cell).spent()) == Spending(Decimal("0.25"), 7, 3, 1)


async def test_a_damaged_file_refuses_the_start(tmp_path: Path) -> None:
    """Without it a budget would not hold; the error names the file."""
    (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"ledger\.db cannot be used"):
        async with app(tmp_path, dspex.Budget(calls=1, per="day")):
            pass
    async with app(tmp_path, dspex.Budget(calls=1)) as running:  # no day, no file
        assert "budgets" not in running.health()


def test_a_wrong_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither 'day' nor 'month'"):
        dspex.Budget(usd=1, per="week")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is an App's"):
        app(tmp_path).options(budget=dspex.Budget(usd=1, per="day"))
    with pytest.raises(ConfigError, match="one budget for each"):
        app(tmp_path, dspex.Budget(usd=1, per="day"), dspex.Budget(calls=1, per="day"))
    with pytest.raises(ConfigError, match="must be a Budget"):
        dspex.App(budget=3)  # type: ignore[arg-type]
