"""Bootstrapped demonstrations: what the teacher is shown, what is kept, and that order beats timing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers import Better
from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Simulator
from tests.support.compiling import TitleOf, Titles, rows, same_title, simulated
from tests.support.programs import collect


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


async def bootstrapped(
    app: dspex.App, trainset: Sequence[dspex.Example] | None = None, seed: int = 0, **options: Any
) -> tuple[Titles, list[dspex.JobEvent]]:
    at_once = options.pop("max_concurrency", 64)
    optimizer = dspex.BootstrapFewShot(options.pop("metric", same_title), **options)
    job = await app.compile(Titles(), optimizer, trainset=trainset or rows(8), seed=seed, max_concurrency=at_once)
    async with job.events() as following:
        events = [event async for event in following]
    return await job.result(), events


def demos_of(program: Titles) -> list[dict[str, Any]]:
    return [dict(demo) for demo in program.answer.predict.demos]


class TestWhatIsKept:
    async def test_calls_of_rows_the_teacher_got_right_come_first(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            program, events = await bootstrapped(app, max_bootstrapped_demos=2, max_labeled_demos=5)

        demos = demos_of(program)
        assert [demo.get("augmented", False) for demo in demos] == [True, True, False, False, False]
        assert [demo["question"] for demo in demos[:2]] == [row.question for row in rows(2)]
        assert all("reasoning" in demo for demo in demos[:2])
        assert {demo["question"] for demo in demos[2:]} & {demo["question"] for demo in demos[:2]} == set()
        assert [event.data["found"] for event in events if event.kind == "progress"] == [1, 2]

    async def test_it_helps(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            before = await app.evaluate(Titles(), rows(12), same_title)
            program, _ = await bootstrapped(app)
            after = await app.evaluate(program, rows(12), same_title)

        assert before.score == 0
        assert after.score == 1

    async def test_the_given_program_is_untouched(self, sim: Simulator, tmp_path: Path) -> None:
        given = Titles()
        state = given.dump_state()
        async with simulated(sim.url, tmp_path) as app:
            found = await (await app.compile(given, dspex.BootstrapFewShot(same_title), trainset=rows(4))).result()

        assert given.dump_state() == state != found.dump_state()
        assert type(found) is Titles

    async def test_rows_below_the_threshold_are_not_kept(self, sim: Simulator, tmp_path: Path) -> None:
        def graded(example: dspex.Example, prediction: TitleOf) -> dspex.Score:
            return dspex.Score(0.9 if example.question.endswith("3?") else 0.5, "close")

        async with simulated(sim.url, tmp_path) as app:
            program, _ = await bootstrapped(app, metric=graded, threshold=0.8, max_labeled_demos=0)

        assert [demo["question"] for demo in demos_of(program)] == [rows(4)[3].question]

    async def test_failed_rows_are_no_bad_rows_and_are_told(self, sim: Simulator, tmp_path: Path) -> None:
        def touchy(example: dspex.Example, prediction: TitleOf) -> bool:
            if example.question == rows(1)[0].question:
                raise LookupError("no such row")
            return True

        async with simulated(sim.url, tmp_path) as app:
            program, events = await bootstrapped(app, metric=touchy, max_bootstrapped_demos=7, max_labeled_demos=0)

        failed = [event.data for event in events if event.kind == "evaluation" and event.data["score"] is None]
        assert [(data["row"], data["failed"]) for data in failed] == [(0, "metric")]
        assert "LookupError" in failed[0]["error"]
        assert len(demos_of(program)) == 7

    async def test_if_no_row_can_be_evaluated_there_is_no_candidate(self, sim: Simulator, tmp_path: Path) -> None:
        def broken(example: dspex.Example, prediction: TitleOf) -> bool:
            raise LookupError("always")

        async with simulated(sim.url, tmp_path) as app:
            with pytest.raises(dspex.NoCandidate, match=r"none of the 8 rows.*LookupError"):
                await bootstrapped(app, metric=broken)

    async def test_the_valset_is_held_out_for_the_verdict(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            optimizer = dspex.BootstrapFewShot(same_title)
            job = await app.compile(Titles(), optimizer, trainset=rows(6), valset=rows(9)[6:])
            found = await job.result()

        verdict = job.verdict
        assert isinstance(verdict, Better)
        assert (verdict.by, verdict.pairs, verdict.failed, verdict.before, verdict.after) == (1.0, 3, 0, 0.0, 1.0)
        assert len(demos_of(found)) == 6


class TestTheTeacher:
    async def test_it_never_sees_the_row_it_is_asked_about(self, sim: Simulator, tmp_path: Path) -> None:
        shown: list[tuple[str, str]] = []

        class Spy(Titles):
            async def forward(self, passages: list[str], question: str) -> TitleOf:
                shown.extend((question, demo["question"]) for demo in self.answer.predict.demos)
                return await super().forward(passages, question)

        async with simulated(sim.url, tmp_path) as app:
            job = await app.compile(Spy(), dspex.BootstrapFewShot(same_title), trainset=rows(4))
            await job.result()

        assert len(shown) == 4 * 3
        assert not [pair for pair in shown if pair[0] == pair[1]]

    async def test_its_own_demonstrations_are_used(self, sim: Simulator, tmp_path: Path) -> None:
        teacher = Titles().with_demos(rows(20)[19:])
        async with simulated(sim.url, tmp_path) as app:
            program, events = await bootstrapped(app, teacher=teacher, max_labeled_demos=0)

        scores = [event.data["score"] for event in events if event.kind == "evaluation"]
        assert set(scores) == {1.0}
        assert rows(20)[19].question not in {demo["question"] for demo in demos_of(program)}

    async def test_another_kind_of_program_is_refused(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            with pytest.raises(dspex.ConfigError, match="same paths"):
                await bootstrapped(app, teacher=dspex.Predict(TitleOf))

    async def test_later_rounds_sample(self, sim: Simulator, tmp_path: Path) -> None:
        settings: list[tuple[int | None, float | None]] = []

        class Spy(Titles):
            async def forward(self, passages: list[str], question: str) -> TitleOf:
                params = self.answer.predict.params
                settings.append((params.seed, params.temperature))
                return await super().forward(passages, question)

        optimizer = dspex.BootstrapFewShot(lambda example, prediction: False, max_rounds=3)
        async with simulated(sim.url, tmp_path) as app:
            await (await app.compile(Spy(), optimizer, trainset=rows(1))).result()

        assert settings == [(None, None), (1, 1.0), (2, 1.0)]


class TestDeterminism:
    @pytest.mark.parametrize("seed", [0, 5])
    async def test_neither_timing_nor_concurrency_changes_the_result(self, seed: int, tmp_path: Path) -> None:
        states = []
        for number, concurrency in enumerate((1, 3, 16)):
            plan = FaultPlan(seed=number, latency=Latency(median=0.004, p95=0.02))
            async with Simulator(faults=plan) as sim, simulated(sim.url, tmp_path / str(number)) as app:
                program, _ = await bootstrapped(
                    app,
                    rows(12),
                    seed,
                    max_bootstrapped_demos=3,
                    max_labeled_demos=6,
                    width=concurrency,
                    max_concurrency=17 - concurrency,
                )
                states.append(program.dump_state())

        assert states[0] == states[1] == states[2]

    async def test_another_seed_fills_up_with_other_rows(self, sim: Simulator, tmp_path: Path) -> None:
        async with simulated(sim.url, tmp_path) as app:
            one, _ = await bootstrapped(app, rows(30), 1, max_bootstrapped_demos=1, max_labeled_demos=6)
            two, _ = await bootstrapped(app, rows(30), 2, max_bootstrapped_demos=1, max_labeled_demos=6)

        assert demos_of(one)[0]["question"] == demos_of(two)[0]["question"]
        assert demos_of(one)[1:] != demos_of(two)[1:]


class TestOutages:
    async def test_an_outage_pauses_the_search_and_teaches_it_nothing(self, tmp_path: Path) -> None:
        from dspex.services.lm.limits import ClientLimits
        from dspex.services.lm.retry import RetryPolicy

        once = ClientLimits(retry=RetryPolicy(max_attempts=1))
        down = (Fault(kind=FaultKind.SERVER_ERROR, status=503),) * 2
        plan = FaultPlan(script={"/v1/chat/completions": down})
        async with Simulator() as sim, simulated(sim.url, tmp_path / "up") as app:
            expected, _ = await bootstrapped(app)
        async with Simulator(faults=plan) as sim, simulated(sim.url, tmp_path / "down", limits=once) as app:
            with collect(app, "dspex.job.event") as told:
                program, events = await bootstrapped(app, max_concurrency=2)

        # The rows ask at once, and pause once; where one is so late that the other has asked again, each pauses once.
        assert [event.kind for event in events].count("paused") in (1, 2)
        assert "ServerFailed" in next(event for event in events if event.kind == "paused").data["error"]
        assert {event.data["score"] for event in events if event.kind == "evaluation"} == {1.0}
        assert program.dump_state() == expected.dump_state()
        assert [facts["event"] for _, facts in told] == events

    async def test_a_wrong_key_ends_the_job_at_once(self, tmp_path: Path) -> None:
        async with Simulator(key="right") as sim, simulated(sim.url, tmp_path) as app:
            job = await app.compile(Titles(), dspex.BootstrapFewShot(same_title), trainset=rows(4))
            with pytest.raises(dspex.AuthFailed):
                await job.result()

        assert job.status == "failed"


@pytest.mark.parametrize(
    "options", [{"max_rounds": 0}, {"width": 0}, {"max_bootstrapped_demos": -1}, {"max_labeled_demos": -1}]
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(dspex.ConfigError):
        dspex.BootstrapFewShot(same_title, **options)
