"""Jobs under way: the best so far, pauses, a person's word, the end of the time, and events older than memory keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigError
from dspex.optimizers import GEPA, Better, Candidate, NoHeadroom, NotShownBetter, Unmeasured, _record
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM
from tests.support.programs import until

ROWS = [dspex.Example(question=f"What is <{n}>?", answer=f"a{n}") for n in range(12)]


def right(example: dspex.Example, prediction: Any) -> dspex.Score:
    good = example.answer == prediction.answer
    return dspex.Score(good, "" if good else f"it should be {example.answer}")


class World:
    """Knows the answers once the instruction says MAGIC; its proposals say so when somebody has hinted at it."""

    def __init__(self) -> None:
        self.asked = 0
        self.stop_at: int | None = None
        self.stopped = asyncio.Event()
        self.go = asyncio.Event()

    async def answer(self, request: LMRequest) -> dict[str, str]:
        self.asked += 1
        if self.asked == self.stop_at:
            self.stopped.set()
            await self.go.wait()
        text = request.messages[-1].text
        if "judgement" in text:
            return {"instruction": f"MAGIC {self.asked}" if "say the word" in text else f"Try {self.asked}."}
        number = text.partition("<")[2].partition(">")[0]
        return {"answer": f"a{number}" if "MAGIC" in str(request.messages[0]) else "?"}


def gepa(children: int = 6) -> GEPA:
    return GEPA(right, max_children=children, minibatch_size=2, merge_share=0.0, width=2)


async def begun(app: dspex.App, optimizer: GEPA, **options: Any) -> dspex.Job[Any]:
    given = {"trainset": ROWS[:8], "holdset": ROWS[8:], "job": "j", **options}
    return await app.compile(dspex.Predict("question -> answer"), optimizer, **given)


async def events_of(job: dspex.Job[Any]) -> list[dspex.JobEvent]:
    async with job.events() as events:
        return [event async for event in events]


async def test_a_hint_reaches_those_who_write_and_is_recorded(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 3
    lm = ScriptedLM(world.answer)
    async with dspex.App(lm, cache=None, home=tmp_path) as app:
        job = await begun(app, gepa(12))
        await world.stopped.wait()
        job.steer(hint="say the word")
        world.go.set()
        found = await job.result()
        steered = [event.data for event in await events_of(job) if event.kind == "steered"]

    assert [each["hint"] for each in steered] == ["say the word"]
    assert isinstance(job.verdict, Better)
    assert "MAGIC" in found.predictors()["self"].signature.instructions
    paid = world.asked
    async with dspex.App(lm, cache=None, home=tmp_path) as app:
        again = await begun(app, gepa(12))
        assert (await again.result()).dump_state() == found.dump_state()
    assert world.asked == paid


async def test_a_candidate_that_a_person_adds_is_tried(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 3
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa(12))
        await world.stopped.wait()
        job.steer(add=Candidate({"self": "MAGIC of a person"}))
        world.go.set()
        found = await job.result()

    assert found.predictors()["self"].signature.instructions == "MAGIC of a person"
    assert isinstance(job.verdict, Better)


async def test_a_word_without_content_is_refused(tmp_path: Path) -> None:
    async with dspex.App(ScriptedLM(World().answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa(1))
        with pytest.raises(ConfigError, match="a hint, a candidate to add"):
            job.steer()
        await job.result()
        job.steer(hint="too late")  # changes nothing


async def test_the_best_so_far_is_there_at_any_time(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 3
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa())
        await world.stopped.wait()
        assert job.verdict is None
        assert job.found is None
        early = await job.best()
        world.go.set()
        last = await job.result()

        assert early.dump_state() == dspex.Predict("question -> answer").dump_state()
        assert (await job.best()).dump_state() == last.dump_state()
        assert isinstance(job.verdict, (NotShownBetter, NoHeadroom))
        assert str(job) == f"job j: finished; {job.verdict}"


async def test_a_paused_job_begins_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 3
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa(), max_concurrency=1)
        await world.stopped.wait()
        job.pause()
        await until(lambda: job.status == "paused")
        world.go.set()
        async with job.events() as events:
            async for event in events:
                if event.kind == "evaluation" and event.data["row"] == 2:
                    break  # the one that was under way has ended
        asked = world.asked
        for _ in range(200):
            await asyncio.sleep(0)
        assert world.asked == asked
        job.resume()
        await job.result()

    assert job.status == "finished"
    assert world.asked > asked


async def test_when_the_time_is_over_the_best_so_far_gets_its_verdict(tmp_path: Path) -> None:
    world = World()
    world.stop_at = 30
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa(500), minutes=0.01)
        await world.stopped.wait()
        async with job.events() as events:
            async for event in events:
                if event.kind == "ended":
                    break
        world.go.set()
        await job.result()
        ended = [event.data for event in await events_of(job) if event.kind == "ended"]

    assert [each["why"] for each in ended] == ["time"]
    assert job.verdict is not None
    assert not isinstance(job.verdict, Unmeasured)


async def test_events_that_memory_has_dropped_are_read_from_the_journal(tmp_path: Path) -> None:
    world = World()
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        job = await begun(app, gepa())
        await job.result()
        kept = await events_of(job)
        record = job._record
        record.events = type(record.events)(record.events, maxlen=5)
        again = await events_of(job)

    assert len(kept) > 20
    assert again == kept
    assert len(kept) <= _record.EVENTS_KEPT


@pytest.mark.parametrize("options", [{"sure": 1.0}, {"sure": -0.1}, {"minutes": 0}, {"max_concurrency": 0}])
async def test_settings_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    async with dspex.App(ScriptedLM(World().answer), home=tmp_path) as app:
        with pytest.raises(ConfigError):
            await begun(app, gepa(), **options)


async def test_a_journal_of_another_release_is_refused_and_says_so(tmp_path: Path) -> None:
    """Not with a list of what has changed: the reader cannot have changed it."""
    from dspex.optimizers.journal import Journal

    journal = Journal(tmp_path / "jobs" / "j.db", "j", {"journal version": "1", "program": "x"})
    journal.take()
    journal.append("started", {})
    journal.close()
    async with dspex.App(ScriptedLM(World().answer), home=tmp_path) as app:
        with pytest.raises(dspex.JobMismatch, match="begun by another release of dspex: finish it with that release"):
            await begun(app, gepa())


async def test_a_budget_covers_the_verdict_and_is_not_exceeded(tmp_path: Path) -> None:
    """The noise is 24 calls and the verdict 16: the search has what is left, and the job ends with a verdict."""
    world = World()
    rows = [dspex.Example(question=f"What is <{n}>?", answer=f"a{n}") for n in range(20)]
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        view = app.options(budget=dspex.Budget(calls=240))
        job = await view.compile(
            dspex.Predict("question -> answer"), gepa(500), trainset=rows[:12], holdset=rows[12:], job="j"
        )
        await job.result()

    assert 100 < world.asked <= 240
    assert job.verdict is not None
    assert not isinstance(job.verdict, Unmeasured)


async def test_a_small_budget_is_not_spent_on_measuring_noise(tmp_path: Path) -> None:
    world = World()
    rows = [dspex.Example(question=f"What is <{n}>?", answer=f"a{n}") for n in range(20)]
    async with dspex.App(ScriptedLM(world.answer), cache=None, home=tmp_path) as app:
        view = app.options(budget=dspex.Budget(calls=30))
        job = await view.compile(
            dspex.Predict("question -> answer"), gepa(500), trainset=rows[:12], holdset=rows[12:], job="j"
        )
        await job.result()

    assert world.asked <= 30
    assert not isinstance(job.verdict, Unmeasured)
