"""Jobs: the same again attaches, continues or returns; another under the same name is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.simulator import Simulator
from tests.support.compiling import TitleOf, Titles, compiled, optimizer, rows, same_title, simulated
from tests.support.programs import until


class Held(dspex.Module):
    """Waits until it is let go."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.title = dspex.Predict(TitleOf)
        self.gate = {"gate": gate}

    async def forward(self, passages: list[str], question: str) -> str:
        await self.gate["gate"].wait()
        return question


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[dspex.App]:
    async with dspex.App(home=tmp_path) as running:
        yield running


def always(example: dspex.Example, prediction: object) -> bool:
    return True


async def held_job(app: dspex.App, gate: asyncio.Event, **changes: Any) -> dspex.Job[Held]:
    arguments: dict[str, Any] = {"trainset": rows(3), "job": "held", **changes}
    how = arguments.pop("optimizer", dspex.BootstrapFewShot(always))
    return await app.compile(Held(gate), how, **arguments)


class TestTheSameJobAgain:
    async def test_compile_returns_at_once(self, app: dspex.App) -> None:
        job = await held_job(app, gate := asyncio.Event())

        assert (job.id, job.status) == ("held", "running")
        gate.set()
        assert isinstance(await job.result(), Held)
        assert (job.id, job.status) == ("held", "finished")

    async def test_a_running_job_is_joined(self, app: dspex.App) -> None:
        gate = asyncio.Event()
        first, second = await held_job(app, gate), await held_job(app, gate)
        gate.set()

        assert await first.result() is await second.result()

    async def test_many_at_once_are_one_job(self, app: dspex.App) -> None:
        gate = asyncio.Event()
        jobs = await asyncio.gather(*(held_job(app, gate) for _ in range(5)))
        gate.set()

        assert len({id(await job.result()) for job in jobs}) == 1

    async def test_a_finished_job_is_returned_unpaid_by_a_later_app(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            first = await compiled(app)
        paid = sim.requests["ok"]
        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), optimizer(), trainset=rows(8), job="titles")
            async with job.events() as events:
                kinds = [event.kind async for event in events]
            second = await job.result()

        assert second.dump_state() == first.dump_state()
        assert sim.requests["ok"] == paid
        assert (kinds[0], kinds[-1]) == ("started", "finished")

    async def test_an_app_that_closes_leaves_the_job_to_the_next(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), optimizer(), trainset=rows(8), job="titles")
            async with job.events() as events:
                async for event in events:
                    if event.kind == "evaluation":
                        break
        with pytest.raises(dspex.AppClosed):
            await job.result()
        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), optimizer(), trainset=rows(8), job="titles")
            async with job.events() as events:
                kinds = [event.kind async for event in events]
            await job.result()

        assert kinds.count("evaluation") == 8
        assert kinds.count("resumed") == 1

    async def test_without_a_name_every_job_is_another(self, app: dspex.App) -> None:
        gate = asyncio.Event()
        gate.set()
        first, second = await held_job(app, gate, job=None), await held_job(app, gate, job=None)

        assert first.id != second.id
        assert await first.result() is not await second.result()


class TestAnotherJobOfThatName:
    @pytest.mark.parametrize(
        ("changes", "changed"),
        [
            ({"trainset": rows(4)}, ["trainset"]),
            ({"valset": rows(1)}, ["valset"]),
            ({"seed": 1}, ["seed"]),
            ({"optimizer": dspex.BootstrapFewShot(always, threshold=0.5)}, ["optimizer"]),
            ({"optimizer": dspex.BootstrapFewShot(same_title)}, ["metric"]),
            ({"optimizer": dspex.LabeledFewShot()}, ["optimizer", "metric"]),
            ({"metric_version": "2"}, ["metric"]),
        ],
    )
    @pytest.mark.parametrize("later", [False, True])
    async def test_it_is_refused(self, tmp_path: Path, changes: Any, changed: list[str], later: bool) -> None:
        gate = asyncio.Event()
        gate.set()
        async with dspex.App(home=tmp_path) as app:
            await (await held_job(app, gate)).result()
            if not later:
                with pytest.raises(dspex.JobMismatch) as caught:
                    await held_job(app, gate, **changes)
        if later:
            async with dspex.App(home=tmp_path) as app:
                with pytest.raises(dspex.JobMismatch) as caught:
                    await held_job(app, gate, **changes)

        assert list(caught.value.changed) == changed

    async def test_another_program_is_refused(self, app: dspex.App) -> None:
        job = await held_job(app, gate := asyncio.Event())
        with pytest.raises(dspex.JobMismatch, match=r"predictor .*demos"):
            await app.compile(
                Held(gate).with_demos(rows(1)), dspex.BootstrapFewShot(always), trainset=rows(3), job="held"
            )
        job.cancel()

    async def test_another_model_is_refused_but_another_key_is_not(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            await compiled(app)
        lm = dspex.LM("openai/rules", api_base=sim.url, api_key="another", temperature=0.0)
        async with dspex.App(lm, home=tmp_path) as app:
            await compiled(app)
        async with dspex.App(dspex.LM("openai/rules", api_base=sim.url, api_key="x"), home=tmp_path) as app:
            with pytest.raises(dspex.JobMismatch, match="lm"):
                await compiled(app)

    async def test_concurrency_is_no_other_job_but_the_width_is(self, app: dspex.App) -> None:
        gate = asyncio.Event()
        gate.set()
        await (await held_job(app, gate)).result()

        await held_job(app, gate, max_concurrency=1)
        with pytest.raises(dspex.JobMismatch, match="optimizer"):
            await held_job(app, gate, optimizer=dspex.BootstrapFewShot(always, width=1))

    async def test_a_file_that_is_no_journal_is_left_alone(self, app: dspex.App, tmp_path: Path) -> None:
        (tmp_path / "jobs").mkdir()
        (tmp_path / "jobs" / "held.db").write_bytes(b"something else entirely, and long enough to be looked at" * 9)

        with pytest.raises(dspex.OptimizationError, match="is damaged or not a journal"):
            await held_job(app, asyncio.Event())


class TestCancelling:
    async def test_a_cancelled_job_says_so_and_can_be_continued(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), optimizer(), trainset=rows(8), job="titles")
            async with job.events() as events:
                async for event in events:
                    if event.kind == "evaluation":
                        job.cancel()
                    last = event.kind
            with pytest.raises(dspex.JobCancelled):
                await job.result()
            assert (job.status, last) == ("cancelled", "cancelled")

            await compiled(app)

    async def test_cancelling_twice_or_late_does_nothing(self, app: dspex.App) -> None:
        job = await held_job(app, gate := asyncio.Event())
        job.cancel()
        job.cancel()
        with pytest.raises(dspex.JobCancelled):
            await job.result()
        gate.set()
        job = await held_job(app, gate)
        await job.result()
        job.cancel()

        assert job.status == "finished"

    async def test_who_stops_waiting_does_not_stop_the_job(self, app: dspex.App) -> None:
        job = await held_job(app, gate := asyncio.Event())
        waiting = asyncio.ensure_future(job.result())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()

        assert isinstance(await job.result(), Held)


class TestEvents:
    async def test_everyone_sees_the_same_events_from_the_first(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), optimizer(), trainset=rows(8), job="titles")
            async with job.events() as events:
                early = [event async for event in events]
            async with job.events() as events:
                late = [event async for event in events]

        assert early == late
        assert [event.seq for event in early] == sorted({event.seq for event in early})
        assert early[0].data["learn"] == 8

    async def test_one_who_has_seen_enough_may_leave(self, app: dspex.App) -> None:
        job = await held_job(app, gate := asyncio.Event())
        async with job.events() as events:
            assert (await anext(events)).kind == "started"
        gate.set()
        await job.result()

        with pytest.raises(StopAsyncIteration):
            await anext(events)


class TestWhatIsNoJob:
    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 101])
    async def test_a_name_must_be_a_file_name(self, app: dspex.App, name: str) -> None:
        with pytest.raises(dspex.ConfigError, match="job="):
            await held_job(app, asyncio.Event(), job=name)

    async def test_a_row_without_inputs_is_told_by_its_number(self, app: dspex.App) -> None:
        with pytest.raises(dspex.MissingInput, match="row 1"):
            await held_job(app, asyncio.Event(), trainset=[rows(1)[0], {"question": "?"}])

    async def test_a_metric_without_source_needs_a_version(self, app: dspex.App) -> None:
        made: dict[str, Any] = {}
        exec("def metric(example, prediction): return True", made)
        how = dspex.BootstrapFewShot(made["metric"])

        with pytest.raises(dspex.ConfigError, match="metric_version"):
            await held_job(app, asyncio.Event(), optimizer=how)
        job = await held_job(app, asyncio.Event(), optimizer=how, metric_version="1")
        job.cancel()

    async def test_an_app_that_does_not_run_has_no_jobs(self, tmp_path: Path) -> None:
        with pytest.raises(dspex.AppNotRunning):
            await held_job(dspex.App(home=tmp_path), asyncio.Event())


async def test_nothing_is_left_of_a_job_but_its_journal(app: dspex.App, tmp_path: Path) -> None:
    gate = asyncio.Event()
    gate.set()
    await (await held_job(app, gate)).result()
    await until(lambda: not [node for node in app.tree().walk() if "held" in node.label])

    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["held.db"]
