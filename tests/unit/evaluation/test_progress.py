"""Progress: every row is told of once, as it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

import dspex
from dspex.evaluation import Progress, Scored
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from tests.support.programs import until


class Gated(dspex.Module):
    """Ends its rows when it is told to; row 1 fails."""

    def __init__(self, count: int) -> None:
        self.shared = SimpleNamespace(gates=[asyncio.Event() for _ in range(count)], begun=0)

    async def forward(self, number: int) -> float:
        self.shared.begun += 1
        await self.shared.gates[number].wait()
        if number == 1:
            raise LookupError("number 1")
        return number / 2


def value(example: dspex.Example, found: float) -> float:
    return found


@pytest.fixture
async def app() -> AsyncIterator[dspex.App]:
    async with dspex.App() as running:
        yield running


async def test_each_row_is_told_of_when_it_ends(app: dspex.App) -> None:
    """In the order in which rows end, with what is known by then."""
    program, told = Gated(3), list[Progress]()
    evaluation = asyncio.ensure_future(
        app.evaluate(program, [{"number": n} for n in range(3)], value, max_failed=0.5, on_progress=told.append)
    )
    for count, number in enumerate([2, 1, 0]):
        program.shared.gates[number].set()
        await until(lambda count=count: len(told) > count)  # type: ignore[misc]  # a lambda with a default
    report = await evaluation

    assert [each.row for each in told] == [2, 1, 0]
    assert [(each.done, each.failed, each.score) for each in told] == [(1, 0, 1.0), (2, 1, 1.0), (3, 1, 0.5)]
    assert {each.total for each in told} == {3}
    assert [each.outcome for each in told] == [report.outcomes[row] for row in (2, 1, 0)]
    assert isinstance(told[1].outcome, Failed)
    assert (told[-1].score, told[-1].usage, told[-1].cost) == (report.score, report.usage, report.cost)


async def test_what_it_raises_ends_the_evaluation(app: dspex.App) -> None:
    """So that a run that goes wrong can be left early; no row is left running."""
    program = Gated(3)

    def enough(progress: Progress) -> None:
        raise TimeoutError(str(progress))

    program.shared.gates[0].set()
    with pytest.raises(TimeoutError, match="1 of 3 rows"):
        await app.evaluate(program, [{"number": n} for n in range(3)], value, on_progress=enough)

    assert app.health()["running"] == 0


async def test_an_async_function_is_refused(app: dspex.App) -> None:
    """Its coroutines would never run; it is said before anything is started."""
    program = Gated(1)

    async def late(progress: Progress) -> None: ...

    with pytest.raises(dspex.ConfigError, match="plain function"):
        await app.evaluate(program, [{"number": 0}], value, on_progress=late)
    assert program.shared.begun == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "3 of 8 rows, score 0.500, 0.012500 USD"),
        ({"failed": 2}, "3 of 8 rows, 2 failed, score 0.500, 0.012500 USD"),
        ({"score": None, "failed": 3, "cost": None}, "3 of 8 rows, 3 failed, no score yet, price unknown"),
    ],
)
def test_progress_prints_as_a_line(changes: dict[str, Any], text: str) -> None:
    """``on_progress=print`` is enough for a terminal; a cost that is not known is not zero."""
    row = Scored(dspex.Example(), 1, dspex.Score(1.0))
    fields: dict[str, Any] = {
        "done": 3,
        "total": 8,
        "failed": 0,
        "score": 0.5,
        "usage": Usage(),
        "cost": Decimal("0.0125"),
        "row": 2,
    }

    assert str(Progress(**{**fields, "outcome": row, **changes})) == text
