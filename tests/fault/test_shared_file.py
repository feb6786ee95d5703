"""A file as the shared store: four processes keep one limit and one budget, whatever happens to them or to it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import App
from dspex.errors import ConfigError
from dspex.services.lm.limits import ClientLimits
from dspex.simulator import FaultPlan, Latency, Simulator
from dspex.simulator.limits import Limits
from tests.support.programs import Ask, until
from tests.support.sharing_worker import workers

pytestmark = pytest.mark.timeout(240)  # processes of their own start slowly on a busy machine


def at(folder: Path) -> str:
    return f"sqlite:///{folder}/shared.db"


# --- four processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_nearly_all_of_the_limit_is_used_and_nothing_more(tmp_path: Path) -> None:
    """By the provider's own count nothing is too much, and at least 95 % of what it allows is used."""
    rpm, each = 240, 75
    async with (
        Simulator(limits=Limits(rpm=rpm), faults=FaultPlan(latency=Latency(median=0.02))) as simulator,
        workers(4, url=simulator.url, shared=at(tmp_path), home=tmp_path, limits={"rpm": rpm}, calls=each) as running,
    ):
        loop = asyncio.get_running_loop()
        began = loop.time()
        for worker in running:
            worker.go()
        await asyncio.gather(*(worker.finished() for worker in running))
        seconds = loop.time() - began
        assert simulator.requests == {"ok": 4 * each}, "the provider had to refuse"
        used = 4 * each / (rpm + rpm / 60 * seconds)
        assert used >= 0.95, f"{used:.0%} of what was allowed in {seconds:.1f} s"


@pytest.mark.slow
async def test_a_killed_process_leaves_the_file_to_the_others(tmp_path: Path) -> None:
    """SIGKILL in the middle: the budget is never passed, and the living spend all that the dead one did not hold."""
    budget, calls = 60, 30
    given: dict[str, Any] = {"shared": at(tmp_path), "home": tmp_path, "calls": calls, "budget": {"calls": budget}}
    async with (
        Simulator(faults=FaultPlan(latency=Latency(median=0.02))) as simulator,
        workers(4, url=simulator.url, at_once=2, **given) as running,
    ):
        for worker in running:
            worker.go()
        await running[0].hear_until(4)
        running[0].process.kill()
        await asyncio.gather(*(worker.finished() for worker in running[1:]))
        errors = [error for worker in running[1:] for error in worker.errors]
        assert all(error.startswith("BudgetExceeded") for error in errors), errors
        account = running[1].last["health"]["budgets"][0]["calls"]
        sent = sum(simulator.requests.values())
        assert sent <= budget
        assert account["left"] == 0
        living = sum(worker.answered for worker in running[1:])
        assert living <= account["spent"] <= budget
        assert living >= budget / 2, "the slice of the dead one is small beside what was left"


# --- the file ---------------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file as a backup program does that copies it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


async def ask(app: App, count: int) -> list[BaseException]:
    runs = (app.run(Ask(), question=f"{number}") for number in range(count))
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    return [each for each in outcomes if isinstance(each, BaseException)]


def told(app: App) -> list[str]:
    names: list[str] = []
    app.telemetry.attach("dspex.shared.", lambda name, _numbers, _about: names.append(name))
    return names


def app_at(simulator: Simulator, folder: Path, **options: Any) -> App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", max_tokens=20)
    shared = dspex.Shared(at(folder), timeout=options.pop("timeout", 0.1))
    return App(lm, cache=None, shared=shared, home=folder, limits=ClientLimits(rpm=6_000), deadline=20.0, **options)


async def test_a_locked_file_is_gone_without_and_used_again(tmp_path: Path) -> None:
    async with Simulator() as simulator, app_at(simulator, tmp_path) as app:
        assert await ask(app, 3) == []
        names = told(app)
        with locked(tmp_path / "shared.db"):
            assert await ask(app, 20) == []
            await until(lambda: "dspex.shared.alone" in names, "the outage to be told")
        await until(lambda: "dspex.shared.up" in names, "the file to be used again")
        assert await ask(app, 3) == []


async def test_a_file_that_was_removed_is_not_used_on(tmp_path: Path) -> None:
    """It would be by us alone, while others share a new one; what was spent stays spent."""
    async with Simulator() as simulator, app_at(simulator, tmp_path, timeout=5.0, budget=dspex.Budget(calls=40)) as app:
        assert await ask(app, 10) == []
        names = told(app)
        remove(tmp_path)
        async with asyncio.timeout(20.0):
            while "dspex.shared.down" not in names:
                await ask(app, 1)
        await until(lambda: "dspex.shared.up" in names, "a new file to be used")
        errors = await ask(app, 60)
        assert all(isinstance(each, dspex.BudgetExceeded) for each in errors), errors
        assert simulator.requests == {"ok": 40}


async def test_a_damaged_file_keeps_no_app_from_starting(tmp_path: Path) -> None:
    """It is told in the tree, and once it has been removed another one is used."""
    path = tmp_path / "shared.db"
    async with Simulator() as simulator:
        async with app_at(simulator, tmp_path) as app:
            assert await ask(app, 1) == []
        damage(path, kept=4_096)  # the list of its tables
        async with app_at(simulator, tmp_path, timeout=5.0) as app:
            assert "down: DatabaseError" in app.tree().children[0].note
            assert await ask(app, 3) == []
            names = told(app)
            remove(tmp_path)
            await until(lambda: "dspex.shared.up" in names, "another file to be used")
        assert simulator.requests == {"ok": 4}


def remove(folder: Path) -> None:
    for each in folder.glob("shared.db*"):
        each.unlink()


def damage(path: Path, kept: int) -> None:
    """All but its beginning."""
    content = path.read_bytes()
    path.write_bytes(content[:kept] + b"?" * (len(content) - kept))


@pytest.mark.parametrize("given", ["text", "another", "damaged", "folder"])
def test_something_else_is_refused_before_anything_is_changed(tmp_path: Path, given: str) -> None:
    path = tmp_path / "shared.db"
    if given == "folder":
        path.mkdir()
    elif given == "text":
        path.write_text("a text of yours" * 100)
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE customers (name TEXT)")
        if given == "damaged":
            damage(path, kept=100)
    before = None if given == "folder" else path.read_bytes()
    for option in ("shared", "cache"):
        with pytest.raises(ConfigError, match=r"shared\.db"):
            App(**{option: at(tmp_path)})  # type: ignore[arg-type]  # either takes an address
    assert before is None or path.read_bytes() == before
