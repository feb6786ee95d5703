"""Every write of a job's journal: the process that dies behind it, and the write that fails."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dspex
from dspex.simulator import Simulator
from tests.support.compiling import OPTIMIZERS, Titles, rows, simulated

ROWS = 8
HOLD = 12
AT_ONCE = 3


@dataclass(frozen=True)
class Ended:
    """The end of a job, and the number of calls that were paid for it."""

    state: bytes
    verdict: str
    calls: int


@dataclass(frozen=True)
class Whole:
    """A job that nobody disturbed, and its journal."""

    ended: Ended
    journal: Path

    def records(self) -> list[str]:
        """The kinds of its records, oldest first."""
        with contextlib.closing(sqlite3.connect(self.journal)) as journal:
            return [kind for (kind,) in journal.execute("SELECT kind FROM records ORDER BY seq")]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


async def run(sim: Simulator, home: Path, name: str) -> Ended:
    """Run a job, or go on with it."""
    before = sum(sim.stats().arrivals.values())
    async with simulated(sim.url, home) as app:
        job = await app.compile(
            Titles(),
            OPTIMIZERS[name](),
            trainset=rows(ROWS),
            holdset=rows(ROWS + HOLD)[ROWS:],
            job="titles",
            max_concurrency=AT_ONCE,
        )
        (await job.result()).save(home / "result.json")
        verdict = str(job.verdict)
    calls = sum(sim.stats().arrivals.values()) - before
    return Ended((home / "result.json").read_bytes(), verdict, calls)


def begun(whole: Whole, home: Path, count: int, *, failing: int = 0) -> Path:
    """
    Make a home whose journal has the first records alone, as a process leaves it that dies behind that write.

    Args:
        whole: The job that was not disturbed.
        home: The folder to make.
        count: The number of records to keep.
        failing: The number of a record that cannot be written, as on a full disk; 0 for none.
    """
    journal = home / "jobs" / "titles.db"
    journal.parent.mkdir(parents=True)
    shutil.copy(whole.journal, journal)
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as db:
        (kept,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'records_kept'").fetchone()
        db.execute("DROP TRIGGER records_kept")
        db.execute("DELETE FROM records WHERE seq > ?", (count,))
        db.execute(kept)
        db.execute("UPDATE writer SET pid = NULL")
        if failing:
            condition = f"WHEN NEW.seq = {failing} BEGIN SELECT RAISE(ABORT, 'no space'); END"
            db.execute(f"CREATE TRIGGER full AFTER INSERT ON records {condition}")
    return journal


@pytest.fixture
async def whole(sim: Simulator, name: str, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The undisturbed job of an optimizer."""
    home = tmp_path_factory.mktemp("whole")
    ended = await run(sim, home, name)
    with contextlib.closing(sqlite3.connect(home / "jobs" / "titles.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Whole(ended, home / "jobs" / "titles.db")


def bought(kinds: list[str]) -> int:
    return sum(kind in ("evaluation", "answer") for kind in kinds)


SPARED = 2 * AT_ONCE
"""Calls that a job may make more or fewer: rows begun ahead of a decision that did not need them."""

each_optimizer = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "bootstrap" else []) for name in OPTIMIZERS]
)


@each_optimizer
async def test_a_process_that_dies_behind_any_write_is_continued_to_the_same_bytes(
    sim: Simulator, whole: Whole, name: str, tmp_path: Path
) -> None:
    """A recorded answer is not paid again."""
    kinds = whole.records()
    for count in range(len(kinds)):
        home = tmp_path / str(count)
        begun(whole, home, count)
        ended = await run(sim, home, name)
        assert (ended.state, ended.verdict) == (whole.ended.state, whole.ended.verdict), f"behind record {count}"
        assert ended.calls <= whole.ended.calls - bought(kinds[:count]) + SPARED, f"behind record {count}"


@each_optimizer
async def test_any_write_may_fail_and_the_job_goes_on_when_there_is_room(
    sim: Simulator, whole: Whole, name: str, tmp_path: Path
) -> None:
    """The job ends with a typed error that names the journal; the next start ends as if nothing had happened."""
    for number in range(1, len(whole.records()) + 1):
        home = tmp_path / str(number)
        journal = begun(whole, home, 0, failing=number)
        before = sum(sim.stats().arrivals.values())
        try:
            await run(sim, home, name)
        except dspex.OptimizationError as error:
            assert "titles.db" in str(error)  # noqa: PT017 - a run that began fewer rows ahead has fewer records
            assert "no space" in str(error)  # noqa: PT017
        else:
            with contextlib.closing(sqlite3.connect(journal)) as db:
                assert db.execute("SELECT max(seq) FROM records").fetchone()[0] < number
            continue
        spent = sum(sim.stats().arrivals.values()) - before
        with contextlib.closing(sqlite3.connect(journal)) as db:
            db.execute("DROP TRIGGER full")
            (kept,) = db.execute("SELECT count(*) FROM records WHERE kind IN ('evaluation', 'answer')").fetchone()
        ended = await run(sim, home, name)
        assert (ended.state, ended.verdict) == (whole.ended.state, whole.ended.verdict), f"at record {number}"
        assert ended.calls <= whole.ended.calls - kept + SPARED, f"at record {number}"
        assert spent + ended.calls <= whole.ended.calls + 2 * SPARED, f"at record {number}"
