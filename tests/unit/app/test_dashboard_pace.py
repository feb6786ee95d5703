"""When snapshots are made: never more of the time than their share, and soon after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.app.dashboard.pace import AFTER, EVERY, SELDOM, SHARE, SOON, URGENT, LookPace

COSTS = st.floats(0.0001, 3.0)


def made(pace: LookPace, at: float, cost: float, *, down: bool = False) -> float:
    pace.made(at, at + cost, down=down)
    return at + cost


@given(st.lists(COSTS, min_size=1, max_size=12))
def test_the_dearer_the_less_often_within_bounds(costs: list[float]) -> None:
    pace, now = LookPace(), 0.0
    for number, cost in enumerate(costs, 1):
        now = made(pace, now, cost)
        least = min(costs[:number][-5:])
        assert pace.due - now == pytest.approx(min(SELDOM, max(EVERY, least / SHARE)))
        now = pace.due


@given(COSTS, st.floats(0.0, 2.0))
def test_a_restart_that_comes_alone_is_told_at_once(cost: float, after: float) -> None:
    """However dear a look is."""
    pace = LookPace()
    ended = made(pace, 0.0, cost)
    assert pace.restarted(ended + after)
    assert pace.due <= ended + after + SOON + 1e-9


@given(st.floats(0.001, 1.0), st.integers(1, 60), st.booleans())
def test_a_storm_of_restarts_takes_no_more_than_its_share(cost: float, count: int, down: bool) -> None:
    """Looks in a hurry: one at once, the others as their share allows."""
    pace = LookPace()
    begun = now = made(pace, 0.0, cost)
    for _ in range(count):
        pace.restarted(now)
        now = made(pace, max(now, pace.due), cost, down=down)
    assert now - begun >= (count - 1) * min(SELDOM, max(EVERY, cost / URGENT)) - 1e-6


def test_who_is_not_back_yet_is_looked_at_again_soon() -> None:
    pace = LookPace()
    now = made(pace, 0.0, 0.02)
    assert pace.due == now + SELDOM
    pace.restarted(now)
    assert not pace.restarted(now), "of a storm, the first wakes"
    begun = pace.due
    assert begun == now + SOON
    now = made(pace, begun, 0.02, down=True)
    assert pace.due == pytest.approx(begun + 0.02 / URGENT)
    now = made(pace, pace.due, 0.02, down=False)
    assert pace.due == now + SELDOM
    now = made(pace, now + AFTER, 0.02, down=True)
    assert pace.due == now + SELDOM, "who stays down is looked at like everything else"
