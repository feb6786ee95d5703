"""A closing App lets rows end: of maps, of evaluations and of jobs. No further row is begun, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import AppClosed
from dspex.protocols.executor import Ok
from tests.support.programs import until


class Row(dspex.Signature):
    """Answer with the row's number."""

    number: int = dspex.InputField()
    answer: int = dspex.OutputField()


entered: list[int] = []
may_end = asyncio.Event()


@pytest.fixture(autouse=True)
def fresh() -> None:
    global may_end
    entered.clear()
    may_end = asyncio.Event()


class Number(dspex.Module):
    """Each row ends when it may."""

    def __init__(self) -> None:
        self.step = dspex.Predict(Row)

    async def forward(self, number: int) -> int:
        entered.append(number)
        await may_end.wait()
        return number


ROWS = [{"id": number, "number": number} for number in range(8)]


async def test_rows_of_a_map_end_and_no_more_are_begun(tmp_path: Path) -> None:
    """Those that ended are in the journal, and the same map goes on from them."""
    app = await dspex.App(drain=60.0).start()

    async def consume() -> None:
        async with app.map(Number(), ROWS, max_concurrency=3, journal=tmp_path / "rows.db") as results:
            async for result in results:
                assert isinstance(result, Ok)

    async with asyncio.TaskGroup() as group:
        consuming = group.create_task(_raised(consume()))
        await until(lambda: len(entered) == 3)
        closing = group.create_task(app.aclose())
        await until(lambda: app.health()["ready"] is False)
        assert not closing.done()
        may_end.set()
    assert sorted(entered) == [0, 1, 2]
    assert str(consuming.result()).startswith("the App is closed: the map was interrupted after ")
    assert "the same map goes on from them" in str(consuming.result())

    async with (
        dspex.App() as again,
        again.map(Number(), ROWS, journal=tmp_path / "rows.db", ordered=True) as results,
    ):
        ended = [result async for result in results]
    assert [each.value for each in ended if isinstance(each, Ok)] == list(range(8))
    assert [each.recorded for each in ended] == [True] * 3 + [False] * 5
    assert sorted(entered) == [0, 1, 2, 3, 4, 5, 6, 7]


async def test_rows_of_an_evaluation_end_and_say_how_many() -> None:
    app = await dspex.App(drain=60.0).start()
    scored: list[int] = []

    def metric(example: Any, answer: int) -> bool:
        scored.append(answer)
        return True

    async with asyncio.TaskGroup() as group:
        work = app.evaluate(Number(), ROWS, metric, max_concurrency=2, progress=False)
        evaluating = group.create_task(_raised(work))
        await until(lambda: len(entered) == 2)
        group.create_task(app.aclose())
        await until(lambda: app.health()["ready"] is False)
        may_end.set()
    assert str(evaluating.result()).startswith("the App is closed: the evaluation was interrupted")
    assert sorted(scored) == sorted(entered) == [0, 1]


async def test_rows_of_a_job_end_and_are_recorded(tmp_path: Path) -> None:
    """The next run of the App goes on behind them; nothing is paid twice."""
    examples = [dspex.Example(number=number, answer=number) for number in range(6)]
    search = dspex.BootstrapFewShot(_good, max_bootstrapped_demos=6)
    options: dict[str, Any] = {"trainset": examples, "job": "drained", "max_concurrency": 2, "progress": False}
    app = await dspex.App(home=tmp_path, drain=60.0).start()
    job = await app.compile(Number(), search, **options)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_raised(job.result()))
        await until(lambda: len(entered) == 2)
        group.create_task(app.aclose())
        await until(lambda: app.health()["ready"] is False)
        may_end.set()
    assert isinstance(waiting.result(), AppClosed)
    first = sorted(entered)
    assert len(first) == 2

    async with dspex.App(home=tmp_path) as again:
        await (await again.compile(Number(), search, **options)).result()
    assert len(entered) == len(set(entered))


def _good(example: Any, answer: int) -> bool:
    return bool(example.answer == answer)


async def _raised(work: Any) -> AppClosed:
    with pytest.raises(AppClosed) as caught:
        await work
    return caught.value
