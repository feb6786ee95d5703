"""Jobs that index passages are killed: the same index in the end, and nothing that was written is embedded twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import dspex
from dspex.optimizers.control import JobFolder
from dspex.runtime import ActorRef
from dspex.simulator import FaultPlan, Latency, Simulator, SimulatorProcess
from tests.support.indexing import BATCH, content, index_of, passages, simulated

REPOSITORY = Path(__file__).parents[2]
LATENCY = Latency(median=0.01)
AT_ONCE = 3
COUNT = 60


def named(name: str) -> Callable[[dspex.App], ActorRef | None]:
    return lambda app: app.running_tree().runtime.whereis(name)


def labelled(label: str) -> Callable[[dspex.App], ActorRef | None]:
    def find(app: dspex.App) -> ActorRef | None:
        runtime = app.running_tree().runtime
        found = [each for each in runtime.processes.values() if each.label.startswith(label) and each.alive]
        return found[0].ref if found else None  # type: ignore[return-value]  # killed like an actor

    return find


VICTIMS = {
    "actor": named("job index-v"),
    "work": labelled("indexing of"),
    "supervisor": labelled("supervisor of job"),
    "indexings": named("indexings"),
    "requests": named("requests"),
    "evaluations": named("evaluations"),
}


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_killed_part_changes_nothing(tmp_path: Path, victim: str) -> None:
    """Killed at the second and at the fifth batch."""
    path, index, kills, told = tmp_path / "v.db", index_of(tmp_path / "v.db"), 0, 0

    def on_progress(*_: object) -> None:
        nonlocal kills, told
        told += 1
        ref = VICTIMS[victim](app) if told in (2, 5) else None
        if ref is not None:
            kills += 1
            ref.kill()

    async with Simulator(faults=FaultPlan(latency=LATENCY)) as sim, simulated(sim.url, tmp_path / "home") as app:
        app.telemetry.attach("dspex.index.progress", on_progress)
        job = await app.index(list(passages(COUNT)), index, batch=BATCH, max_concurrency=AT_ONCE)
        report = await job.result()
        arrivals = sim.stats().arrivals
    index.close()

    assert kills >= 1
    assert (report.size, len(arrivals)) == (COUNT, COUNT // BATCH)
    assert sum(count - 1 for count in arrivals.values()) <= kills * AT_ONCE
    assert [each[0] for each in content(path)] == sorted(each.id for each in passages(COUNT))


async def test_passages_that_can_be_read_only_once_are_not_lost_in_silence(tmp_path: Path) -> None:
    """The rest of a generator is not all of it: the job ends, and the next start goes on."""
    path = tmp_path / "birds.db"
    async with dspex.App(home=tmp_path / "home") as app:
        app.telemetry.attach("dspex.index.progress", lambda *_: kill_once(app))
        job = await app.index(passages(COUNT), path, batch=BATCH)
        with pytest.raises(dspex.ConfigError, match="can be read only once"):
            await job.result()
        assert not await asyncio.to_thread(path.exists)
        report = await (await app.index(list(passages(COUNT)), path)).result()
    assert report.size == COUNT
    # How many of them the first start had written down is chance: it is killed when the first batch is told.
    assert report.counts.added + report.counts.unchanged == COUNT


def kill_once(app: dspex.App) -> None:
    ref = named("job index-birds")(app)
    if ref is not None and app.running_tree().index_service.table.jobs["index-birds"].incarnations == 1:
        ref.kill()


# --- real processes -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def child(url: str, home: Path, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = [url, str(home), str(path), COUNT, AT_ONCE]
    code = f"from tests.support.indexing import child; child(*{arguments!r})"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, cwd=REPOSITORY, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def kill_after(process: asyncio.subprocess.Process, batches: int) -> None:
    """Kill it when so many batches are in the index; what it does at that moment is left to chance."""
    assert process.stdout is not None
    assert process.stderr is not None
    while batches >= 0:
        line = await process.stdout.readline()
        assert line, (await process.stderr.read()).decode()
        batches -= line in (b"started\n", b"batch\n")
    process.send_signal(signal.SIGKILL)
    await process.communicate()


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(0, 1), pytest.param(1, 3, marks=pytest.mark.slow), pytest.param(2, 3, marks=pytest.mark.slow)],
)
async def test_a_killed_process_goes_on_and_embeds_nothing_twice(tmp_path: Path, seed: int, kills: int) -> None:
    """
    Killed at random: the index is that of an undisturbed run.

    The simulator counts the texts: those of batches that were on their way when the process was killed may have come
    twice, since nobody can know them; no others.
    """
    chance = random.Random(seed)
    async with SimulatorProcess(faults=FaultPlan(latency=LATENCY)) as sim:
        async with simulated(sim.url, tmp_path / "undisturbed") as app:
            index = index_of(tmp_path / "expected.db")
            await (await app.index(passages(COUNT), index, batch=BATCH)).result()
            index.close()
        await sim.reset()
        path = tmp_path / "v.db"
        for _ in range(kills):
            async with child(sim.url, tmp_path / "home", path) as process:
                await kill_after(process, chance.randint(0, 4))
        assert not path.exists()  # nothing is there before all is there
        async with child(sim.url, tmp_path / "home", path) as process:
            out, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        arrivals = (await sim.stats()).arrivals
        written = len(arrivals)

    assert out.decode().splitlines()[-1].endswith(f"the index holds {COUNT} passages")
    assert content(path) == content(tmp_path / "expected.db")
    assert written == COUNT // BATCH
    assert sum(count - 1 for count in arrivals.values()) <= kills * AT_ONCE
    assert JobFolder(tmp_path / "home" / "jobs").show("index-v").status == "finished"
