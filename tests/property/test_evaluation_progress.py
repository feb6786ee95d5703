"""The last progress of an evaluation is its report."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import ActorExited, AppClosed, RateLimited
from dspex.evaluation import Progress, Report, Score, Scored
from dspex.evaluation.progress import ProgressTally
from dspex.evaluation.report import RowOutcome
from dspex.programs import Example
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.protocols.scope import RequestTotals
from dspex.runtime import KILL

costs = st.none() | st.decimals(0, 10, places=9, allow_nan=False)
counts = st.integers(0, 10_000)
totals = st.builds(
    lambda read, written, cost: RequestTotals("r1", Usage(read, written), 1, 0, (), 0, 0, 1.0, cost),
    counts,
    counts,
    costs,
)
scored = st.builds(
    lambda value, took: Scored(Example(), "answer", Score(value), totals=took), st.floats(-1e6, 1e6), totals
)
reasons = st.sampled_from([RateLimited("slow down"), AppClosed(), ActorExited("row 0", KILL)])
failed = st.builds(lambda reason, took: Failed(reason, Example(), took), reasons, st.none() | totals)


@given(st.lists(scored | failed, min_size=1, max_size=30))
def test_the_last_word_is_the_report(outcomes: list[RowOutcome]) -> None:
    """Whatever the rows were; and what is told on the way only ever grows."""
    told = list[Progress]()
    tally = ProgressTally(len(outcomes), told.append)
    for row, outcome in enumerate(outcomes):
        tally.add(row, outcome)
    report = Report("Program", tuple(Example() for _ in outcomes), tuple(outcomes), 1.0)

    last = told[-1]
    assert (last.done, last.failed, last.usage, last.cost) == (
        len(outcomes),
        len(report.failed),
        report.usage,
        report.cost,
    )
    assert last.score == (pytest.approx(report.score) if report.scored else None)
    assert [each.done for each in told] == list(range(1, len(outcomes) + 1))
    known = [each.cost for each in told]
    assert all(before is not None or after is None for before, after in itertools.pairwise(known))
    assert sorted(each for each in known if each is not None) == [each for each in known if each is not None]
    assert isinstance(last.cost, Decimal | None)
