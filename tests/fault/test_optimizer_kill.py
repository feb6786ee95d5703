"""Optimizers that are killed: the same result in the end, and nothing that was recorded is paid twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import dspex
from dspex.runtime import ActorRef
from dspex.simulator import FaultPlan, Latency, Simulator, SimulatorProcess
from tests.support.compiling import OPTIMIZERS, Titles, compiled, optimizer, rows, simulated

REPOSITORY = Path(__file__).parents[2]
LATENCY = Latency(median=0.01)
AT_ONCE = 3
ROWS = 8
HOLD = 12


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The result of the job when nobody disturbs it."""

    async def undisturbed() -> dict[str, object]:
        async with Simulator() as sim, simulated(sim.url, tmp_path_factory.mktemp("home")) as app:
            return (await compiled(app)).dump_state()

    return asyncio.run(undisturbed())


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(faults=FaultPlan(latency=LATENCY)) as running:
        yield running


def named(app: dspex.App, name: str) -> ActorRef | None:
    return app.running_tree().runtime.whereis(name)


def search_of(app: dspex.App) -> ActorRef | None:
    runtime = app.running_tree().runtime
    found = [each for each in runtime.processes.values() if each.label == "search of titles" and each.alive]
    return found[0].ref if found else None  # type: ignore[return-value]  # killed like an actor


def supervisor_of(app: dspex.App) -> ActorRef | None:
    runtime = app.running_tree().runtime
    found = [each for each in runtime.processes.values() if each.label.startswith("supervisor of job") and each.alive]
    return found[0].ref if found else None  # type: ignore[return-value]  # killed like an actor


Find = Callable[[dspex.App], ActorRef | None]
VICTIMS: dict[str, Find] = {
    "actor": lambda app: named(app, "job titles"),
    "search": search_of,
    "supervisor": supervisor_of,
    "optimizers": lambda app: named(app, "optimizers"),
    "requests": lambda app: named(app, "requests"),
}


class Killer:
    """Kills something when the job's event of a certain number is told."""

    def __init__(self, app: dspex.App, find: Find, at: set[int]) -> None:
        self.kills = 0
        self._app = app
        self._find = find
        self._at = at
        self._told = 0
        app.telemetry.attach("dspex.job.event", self._on_event)

    def _on_event(self, name: str, numbers: object, facts: object) -> None:
        self._told += 1
        victim = self._find(self._app) if self._told in self._at else None
        if victim is not None:
            self.kills += 1
            victim.kill()


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("at", [{1}, {2}, {5}, {2, 4, 7}, {12}])
async def test_a_killed_part_changes_nothing(
    sim: Simulator, tmp_path: Path, expected: dict[str, object], victim: str, at: set[int]
) -> None:
    async with simulated(sim.url, tmp_path) as app:
        killer = Killer(app, VICTIMS[victim], at)
        job = await app.compile(Titles(), optimizer(), trainset=rows(ROWS), job="titles")
        async with job.events() as following:
            events = [event async for event in following]
        found = await job.result()

    assert found.dump_state() == expected
    assert killer.kills >= 1
    evaluated = [event.data for event in events if event.kind == "evaluation"]
    assert sorted(each["row"] for each in evaluated) == list(range(ROWS))
    assert len({each["key"] for each in evaluated}) == ROWS
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    again = sum(count - 1 for count in sim.stats().arrivals.values())
    assert again <= killer.kills * AT_ONCE
    assert len(sim.stats().arrivals) == ROWS


async def test_killed_too_often_the_job_fails_and_can_be_continued(
    sim: Simulator, tmp_path: Path, expected: dict[str, object]
) -> None:
    async with simulated(sim.url, tmp_path) as app:
        detach = app.telemetry.attach("dspex.job.event", lambda *_: kill(app))
        job = await app.compile(Titles(), optimizer(), trainset=rows(ROWS), job="titles")
        with pytest.raises(dspex.OptimizationError, match="died 6 times"):
            await job.result()
        assert job.status == "failed"
        detach()

        assert (await compiled(app)).dump_state() == expected


def kill(app: dspex.App) -> None:
    victim = named(app, "job titles")
    if victim is not None:
        victim.kill()


async def test_a_killed_search_leaves_no_request_behind(sim: Simulator, tmp_path: Path) -> None:
    sim.set_faults(FaultPlan(rate_hang=1.0))  # else answers may come before the last of the three is sent
    async with simulated(sim.url, tmp_path) as app:
        job = await app.compile(Titles(), optimizer(), trainset=rows(ROWS), job="titles")
        async with asyncio.timeout(10):
            await sim.wait_until(lambda stats: stats.in_flight == AT_ONCE)
        job.cancel()
        with pytest.raises(dspex.JobCancelled):
            await job.result()

        assert app.health()["running"] == 0


# --- real processes -----------------------------------------------------------------------------------------


class Child:
    """A process that compiles, and tells a line for each event."""

    async def lines(self, number: int) -> bool:
        """Read so many lines; False when there are no more."""
        assert self.process.stdout is not None
        for _ in range(number):
            if not await self.process.stdout.readline():
                return False
        return True

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def until(self, kind: str, number: int) -> None:
        """Read its lines until there have been ``number`` of a kind."""
        assert self.process.stdout is not None
        while number:
            line = (await self.process.stdout.readline()).decode().strip()
            assert line, await self.errors()
            number -= line == kind

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()

    async def end(self) -> None:
        _, errors = await self.process.communicate()
        assert self.process.returncode == 0, errors.decode()


@contextlib.asynccontextmanager
async def child(url: str, home: Path, result: Path, name: str = "bootstrap", hold: int = 0) -> AsyncIterator[Child]:
    arguments = [url, str(home), str(result), name, hold]
    code = f"from tests.support.compiling import child; child(*{arguments!r})"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, cwd=REPOSITORY, stdout=pipe, stderr=pipe
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def recorded(home: Path) -> int:
    with contextlib.closing(sqlite3.connect(home / "jobs" / "titles.db")) as journal:
        count: int = journal.execute("SELECT count(*) FROM records WHERE kind = 'evaluation'").fetchone()[0]
    return count


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param("started", 1, marks=pytest.mark.slow),
        pytest.param("evaluation", 2, marks=pytest.mark.slow),
        ("evaluation", 6),
    ],
)
async def test_a_killed_process_is_continued_to_the_same_bytes(tmp_path: Path, kind: str, number: int) -> None:
    async with SimulatorProcess(faults=FaultPlan(latency=LATENCY)) as sim:
        async with child(sim.url, tmp_path / "undisturbed", tmp_path / "expected.json") as process:
            await process.end()
        await sim.reset()

        home, result = tmp_path / "killed", tmp_path / "result.json"
        async with child(sim.url, home, result) as process:
            await process.until(kind, number)
            await process.kill()
        kept, paid = recorded(home), sum((await sim.stats()).arrivals.values())
        async with child(sim.url, home, result) as process:
            await process.end()
        arrivals = (await sim.stats()).arrivals

    assert result.read_bytes() == (tmp_path / "expected.json").read_bytes()
    assert recorded(home) == ROWS
    assert paid - kept <= AT_ONCE
    assert sum(arrivals.values()) == paid + ROWS - kept
    assert sum(count > 1 for count in arrivals.values()) <= AT_ONCE


@pytest.mark.slow
async def test_a_process_killed_after_the_end_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    """The result that stands in the journal is written down just as it was when it was found."""
    async with SimulatorProcess(faults=FaultPlan(latency=LATENCY)) as sim:
        home, first, second = tmp_path / "home", tmp_path / "first.json", tmp_path / "second.json"
        for result in (first, second):
            async with child(sim.url, home, result) as process:
                await process.end()
        arrivals = (await sim.stats()).arrivals

    assert first.read_bytes() == second.read_bytes()
    assert sum(arrivals.values()) == ROWS


async def test_a_job_belongs_to_one_living_process(tmp_path: Path) -> None:
    async with SimulatorProcess(faults=FaultPlan(rate_hang=1.0)) as sim, simulated(sim.url, tmp_path) as app:
        async with child(sim.url, tmp_path, tmp_path / "result.json") as process:
            await process.until("started", 1)
            with pytest.raises(dspex.JobBusy) as caught:
                await app.compile(Titles(), optimizer(), trainset=rows(ROWS), job="titles")
            assert caught.value.pid == process.process.pid
            await process.kill()
        await sim.set_faults(FaultPlan())

        assert len((await compiled(app)).answer.predict.demos) == ROWS


KILLS = 10
"""How often each optimizer is killed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
async def test_killed_at_any_instant_every_optimizer_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    """The process is killed after a number of events, again and again, in the noise, the search and the verdict."""
    async with SimulatorProcess(faults=FaultPlan(latency=LATENCY)) as sim:
        async with child(sim.url, tmp_path / "undisturbed", tmp_path / "expected.json", name, HOLD) as process:
            await process.end()
        whole = answers(tmp_path / "undisturbed")
        await sim.reset()

        home, result = tmp_path / "killed", tmp_path / "result.json"
        source = random.Random(name)
        kills = 0
        for _ in range(KILLS):
            async with child(sim.url, home, result, name, HOLD) as process:
                if not await process.lines(1 + source.randrange(12)):
                    break  # it had ended before
                await process.kill()
                kills += 1
        async with child(sim.url, home, result, name, HOLD) as process:
            await process.end()
        arrived = sum((await sim.stats()).arrivals.values())

    assert result.read_bytes() == (tmp_path / "expected.json").read_bytes()
    assert (tmp_path / "result.json.verdict").read_text() == (tmp_path / "expected.json.verdict").read_text()
    assert kills >= 1
    # Each answer in the journal was bought once. Beyond them only what was on the wire at a kill, and what had come and
    # was about to be written down: its place was taken by the next row meanwhile.
    assert arrived <= answers(home) + kills * 2 * AT_ONCE
    assert abs(answers(home) - whole) <= 16 * (kills + 1)


def answers(home: Path) -> int:
    with contextlib.closing(sqlite3.connect(home / "jobs" / "titles.db")) as journal:
        query = "SELECT count(*) FROM records WHERE kind IN ('evaluation', 'answer')"
        count: int = journal.execute(query).fetchone()[0]
    return count
