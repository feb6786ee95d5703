"""Hypothesis strategies; hypothesis itself is not among dspex's dependencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from dspex.testing._faults import Action, Delay, Fault, FaultPlan, FaultPoint, KillProcess, Raise

__all__ = ["fault_plans"]


def fault_plans(
    points: Iterable[FaultPoint],
    *,
    max_faults: int = 3,
    max_visit: int = 5,
    actions: Sequence[Action] = (KillProcess(), Raise(RuntimeError, "fault"), Delay(1.0)),
) -> st.SearchStrategy[FaultPlan]:
    """
    Return a strategy of plans over ``points``; a failing one shrinks to few faults at early visits.

    For example::

        @given(fault_plans([("init", "cache"), ("message", "client"), ("event", "dspex.cache.miss")]))
        def test_nothing_is_lost(plan: FaultPlan) -> None: ...

    Args:
        points: Where something may go wrong; what a run under an empty plan has visited, for instance.
        max_faults: The largest number of faults in a plan.
        max_visit: The last visit of a point at which something may go wrong.
        actions: The possible actions; plans shrink to the first.
    """

    def faults_at(point: FaultPoint) -> st.SearchStrategy[Fault]:
        kind, of = point
        possible = [each for each in actions if kind != "event" or not isinstance(each, Delay)]
        return st.builds(Fault, st.just(kind), st.just(of), st.integers(1, max_visit), st.sampled_from(possible))

    somewhere = st.sampled_from(sorted(points)).flatmap(faults_at)
    return st.lists(somewhere, max_size=max_faults).map(lambda faults: FaultPlan(*faults))
