"""Context variables of whoever calls: seen in every way to run a program, by programs, tools, rewards and metrics."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.testing import ScriptedLM
from tests.support.programs import Ask

WHO = contextvars.ContextVar("who", default="nobody")
ROWS = [{"id": number, "question": str(number)} for number in range(3)]


class Who(dspex.Module):
    """Says who called."""

    async def forward(self, question: str) -> str:
        return WHO.get()


class Nested(dspex.Module):
    """Maps inside a request."""

    def __init__(self, app: list[dspex.App]) -> None:
        self.app = app

    async def forward(self) -> list[str]:
        WHO.set("inside")
        async with self.app[0].map(Who(), ROWS) as results:
            return [each.value async for each in results if isinstance(each, dspex.Ok)]


class Threaded(dspex.Module):
    """Calls a tool that blocks."""

    async def forward(self, question: str) -> str:
        (seen,) = await dspex.call_tools([who_blocks], dspex.ToolCalls([("who_blocks", {})]))
        return str(seen.content)


def who_blocks() -> str:
    """Say who called, from a thread."""
    assert threading.current_thread().name.startswith("dspex-tool")
    return WHO.get()


@pytest.fixture(autouse=True)
def caller() -> None:
    WHO.set("caller")


def sure(example: dspex.Example, answer: object) -> bool:
    return WHO.get() == "caller"


async def surely(example: dspex.Example, answer: object) -> bool:
    return WHO.get() == "caller"


async def test_map_sees_what_the_caller_had_when_it_was_called() -> None:
    """Also from an asynchronous source, and when the variable changes while rows are under way."""

    async def source() -> AsyncIterator[dict[str, Any]]:
        for row in ROWS:
            yield row

    async with dspex.App() as app:
        for rows in (ROWS, source()):
            async with app.map(Who(), rows) as results:
                WHO.set("another")
                assert [each.value async for each in results if isinstance(each, dspex.Ok)] == ["caller"] * 3
                WHO.set("caller")


async def test_a_journalled_map_sees_the_one_who_runs_the_rest(tmp_path: Path) -> None:
    """Recorded rows stay as they were."""
    async with dspex.App() as app:
        found = []
        for who, count in (("first", 1), ("second", 3)):
            WHO.set(who)
            async with app.map(Who(), ROWS[:count], journal=tmp_path / "rows.db", ordered=True) as results:
                found.append([each.value async for each in results if isinstance(each, dspex.Ok)])
    assert found == [["first"], ["first", "second", "second"]]


@pytest.mark.parametrize("metric", [sure, surely])
async def test_evaluate_sees_it_in_programs_and_metrics(metric: Any) -> None:
    """The same for metrics of both kinds."""
    async with dspex.App() as app:
        report = await app.evaluate(Who(), ROWS, metric)
    assert report.score == 1.0
    assert [each.value for each in report.scored] == ["caller"] * 3


@pytest.mark.parametrize("metric", [sure, surely])
async def test_compile_sees_it_after_a_resume_too(metric: Any, tmp_path: Path) -> None:
    """Programs, metrics and the reward see whoever compiles; the one who continues a job is seen by what is left."""
    seen = []

    def answer(request: Any) -> dict[str, str]:
        seen.append(WHO.get())
        return {"answer": "a"}

    trainset = [{"question": str(number)} for number in range(4)]
    learn = dspex.BootstrapFewShot(metric, max_bootstrapped_demos=4, max_labeled_demos=0)
    async with dspex.App(ScriptedLM(answer), cache=None, home=tmp_path) as app:
        job = await app.compile(Ask(), learn, trainset=trainset, job="j")
        best = await job.result()
    assert set(seen) == {"caller"}
    assert len(best.answer.demos) == 4


async def test_a_killed_optimizer_continues_in_the_same_context(tmp_path: Path) -> None:
    """Its successor has what the caller had, whoever restarts it."""
    seen: list[str] = []

    async def answer(request: Any) -> dict[str, str]:
        seen.append(WHO.get())
        if len(seen) == 2:
            found = app.running_tree().runtime.whereis("job j")
            assert found is not None
            found.kill()
        return {"answer": "a"}

    app = dspex.App(ScriptedLM(answer), cache=None, home=tmp_path)
    async with app:
        learn = dspex.BootstrapFewShot(sure, max_bootstrapped_demos=3, max_labeled_demos=0, width=1)
        job = await app.compile(Ask(), learn, trainset=ROWS, job="j")
        WHO.set("another")
        await job.result()
        async with job.events() as events:
            assert [each.kind async for each in events].count("resumed") == 1
    assert set(seen) == {"caller"}


async def test_a_map_inside_a_request_sees_the_request() -> None:
    """A variable that ``forward`` has set is the caller's there."""
    apps: list[dspex.App] = []
    async with dspex.App() as app:
        apps.append(app)
        assert await app.run(Nested(apps)) == ["inside"] * 3


async def test_threads_of_tools_see_it() -> None:
    """The same for run, stream, map and evaluate."""
    program = Threaded()
    async with dspex.App() as app:
        assert await app.run(program, question="q") == "caller"
        async with app.stream(program, question="q") as stream:
            assert await stream.result() == "caller"
        async with app.map(program, ROWS) as results:
            assert [each.value async for each in results if isinstance(each, dspex.Ok)] == ["caller"] * 3


def test_plain_code_has_context_variables_too(tmp_path: Path) -> None:
    """The App's loop is in another thread, and sees the caller's all the same."""
    with dspex.App(ScriptedLM(lambda request: {"answer": WHO.get()}), cache=None, home=tmp_path).sync() as app:
        assert app.run(Who(), question="q") == "caller"
        assert app.run(Threaded(), question="q") == "caller"
        with app.map(Who(), ROWS) as results:
            assert [each.value for each in results if isinstance(each, dspex.Ok)] == ["caller"] * 3
        assert app.evaluate(Who(), ROWS, sure).score == 1.0
        learn = dspex.BootstrapFewShot(sure, max_labeled_demos=0)
        best = app.compile(Ask(), learn, trainset=ROWS, job="j").result()
        assert {each["answer"] for each in best.answer.demos} == {"caller"}


def test_the_option_is_the_apps_own() -> None:
    """Nobody hands a context to ``options``."""
    with pytest.raises(dspex.ConfigError, match="unknown option 'context'"):
        dspex.App().options(context=contextvars.copy_context())  # type: ignore[call-arg]  # on purpose
