"""The engine of ordered plans: any algorithm, any order, any pool, any kills, any budget, one result."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import OptimizationError
from dspex.optimizers import DONE, WAIT, Algorithm, Candidate, Plan, Run, Search, Signal, Task, Write, race
from dspex.optimizers._shelf import Shelf
from dspex.protocols.money import Budget
from dspex.testing.conformance import ScriptedWorld, Simulated, rows_of, simulate

ROWS = rows_of(20)
HOLD = rows_of(6, 20)


def metric(example: object, prediction: object) -> bool:
    return True


@dataclass(frozen=True)
class State:
    task: Task
    results: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Any_(Algorithm[State]):
    """
    Does whatever a script says: for each plan, how many steps it has and of which kind.

    Every decision depends on everything that is absorbed, so that a plan which sees another state does another thing.
    """

    script: tuple[tuple[int, ...], ...] = ()
    width: int = 3
    inner: Algorithm[Any] | None = None
    waits: frozenset[int] = frozenset()
    stops: int | None = None
    metric = staticmethod(metric)

    def begin(self, task: Task) -> State:
        return State(task)

    def plan(self, state: State, k: int, chance: random.Random) -> Plan | Signal:
        if k >= len(self.script):
            return DONE
        if k in self.waits and len(state.results) < k:
            return WAIT
        return self._steps(state, k, chance)

    def _steps(self, state: State, k: int, chance: random.Random) -> Plan:
        seen = repr(state.results)[-40:]
        made = state.task.start
        total: list[object] = []
        for kind in self.script[k]:
            if kind == 0:
                written = yield Write("told -> text", {"told": seen, "number": chance.random()}, k)
                made = made.with_instructions({"self": written.text("text")})
                total.append(written.outputs)
            elif kind == 1:
                rows = tuple(chance.sample(state.task.choose, 4))
                total.append([each.score for each in (yield Run(made, rows))])
            elif kind == 2:
                answers = yield (Run(made, state.task.learn[:2]), Run(Candidate(), state.task.learn[1:5], 1))
                total.append([each.score for answer in answers for each in answer])
            elif kind == 3 and self.inner is not None:
                found = yield Search(self.inner, start=made)
                total.append(found.candidate.key)
            elif kind == 4:
                raced = yield from race([Candidate(), made], state.task.choose[:8], first=2, step=2)
                total.append(raced.best)
            elif kind == 5:
                raise LookupError("scripted")
        return made, tuple(map(repr, total))

    def absorb(self, state: State, k: int, result: Any) -> State:
        assert len(state.results) == k, "plans are absorbed in order"
        return replace(state, results=(*state.results, result))

    def enough(self, state: State) -> bool:
        return self.stops is not None and len(state.results) >= self.stops

    def best(self, state: State) -> Candidate:
        kept = [each[0] for each in state.results if each is not None]
        return kept[-1] if kept else state.task.start

    def summary(self, state: State) -> list[dict[str, Any]]:
        return [{"results": repr(state.results)}]


steps = st.lists(st.integers(0, 4), max_size=4).map(tuple)
inners = st.builds(Any_, script=st.lists(steps, max_size=3).map(tuple), width=st.integers(1, 4))
algorithms = st.builds(
    Any_,
    script=st.lists(steps, max_size=7).map(tuple),
    width=st.integers(1, 5),
    inner=st.none() | inners,
    waits=st.frozensets(st.integers(0, 7), max_size=2),
    stops=st.none() | st.integers(1, 7),
)


def run(algorithm: Algorithm[Any], order: int, pool: int, **options: Any) -> Simulated:
    return simulate(algorithm, ScriptedWorld(), order=random.Random(order), learn=ROWS, hold=HOLD, pool=pool, **options)


@given(algorithms, st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 64)), min_size=1, max_size=3))
@settings(deadline=None)
def test_neither_order_nor_pool_changes_the_result(algorithm: Any_, runs: list[tuple[int, int]]) -> None:
    expected = run(algorithm, 0, 1)

    assert {run(algorithm, order, pool).state for order, pool in runs} == {expected.state}


@given(algorithms, st.data())
@settings(deadline=None)
def test_any_history_of_kills_ends_the_same_and_buys_nothing_twice(algorithm: Any_, data: st.DataObject) -> None:
    expected = run(algorithm, 0, 1)
    journal: dict[str, Any] = {}
    for _ in range(8):
        kill_after = data.draw(st.integers(0, max(1, expected.paid)))
        order, pool = data.draw(st.integers(0, 1000)), data.draw(st.integers(1, 16))
        found = run(algorithm, order, pool, journal=journal, kill_after=kill_after)  # asserts that no key comes twice
        if found.outcome is not None:
            break
    else:
        found = run(algorithm, 1, 4, journal=journal)

    assert found.state == expected.state


@given(algorithms, st.integers(60, 400), st.integers(0, 1000), st.integers(1, 32))
@settings(deadline=None)
def test_a_budget_is_kept_and_ends_the_search_at_one_place(algorithm: Any_, calls: int, order: int, pool: int) -> None:
    one = run(algorithm, 0, 1, limit=Budget(calls=calls))
    other = run(algorithm, order, pool, limit=Budget(calls=calls))

    assert one.state == other.state
    assert max(one.spent.calls, other.spent.calls) <= calls


def test_a_plan_that_raises_fails_alone() -> None:
    found = run(Any_(script=((0,), (5,), (0,), (5,), (5,), (1,)), width=2), 0, 4)

    assert found.outcome is not None
    assert found.outcome.plans == 6


def test_several_failed_plans_in_a_row_end_the_job() -> None:
    with pytest.raises(OptimizationError, match=r"3 plans of Any_ in a row failed.*scripted"):
        run(Any_(script=((0,), (5,), (5,), (5,), (1,)), width=2), 0, 4)


def test_an_algorithm_that_waits_for_nothing_is_told() -> None:
    class Stuck(Any_):
        def plan(self, state: State, k: int, chance: random.Random) -> Signal:
            return WAIT

    with pytest.raises(OptimizationError, match="Stuck waits before plan 0"):
        run(Stuck(), 0, 1)


@pytest.mark.parametrize("method", ["begin", "plan", "absorb", "best"])
def test_what_an_algorithm_raises_names_it(method: str) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("scripted")

    wrong = type("Wrong", (Any_,), {method: broken})
    with pytest.raises((OptimizationError, ZeroDivisionError), match="scripted"):
        run(wrong(script=((0,), (1,))), 0, 1)


def test_a_plan_that_yields_something_else_fails() -> None:
    class Odd(Any_):
        def plan(self, state: State, k: int, chance: random.Random) -> Plan:
            def plan() -> Plan:
                yield "run it"  # type: ignore[misc]  # that is the mistake

            return plan()

    with pytest.raises(OptimizationError, match="yields asks"):
        run(Odd(script=((0,),)), 0, 1)


def test_rows_that_are_asked_twice_at_once_are_answered_twice() -> None:
    class Twice(Any_):
        def plan(self, state: State, k: int, chance: random.Random) -> Plan | Signal:
            return self._twice(state) if k == 0 else DONE

        def _twice(self, state: State) -> Plan:
            row = state.task.learn[0]
            answer = yield Run(Candidate(), (row, row))
            again = yield Run(Candidate(), (row, state.task.learn[1], row))
            return Candidate(), ([each.row for each in answer], [each.row for each in again])

    found = run(Twice(), 3, 4)
    assert found.outcome is not None
    assert "([0, 0], [0, 1, 0])" in str(found.outcome.summary)


@given(
    st.sets(st.tuples(st.sampled_from(["run/a/0", "run/b/0", "run/a/1@1"]), st.integers(0, 300))), st.sets(st.text())
)
def test_the_shelf_is_a_set_of_keys(runs: set[tuple[str, int]], others: set[str]) -> None:
    others = {f"write/{each}" for each in others}
    shelf = Shelf()
    for prefix, row in runs:
        shelf.add(f"{prefix}/{row}")
        shelf.add(f"{prefix}/{row}")
    for each in others:
        shelf.add(each)

    assert set(shelf) == others | {f"{prefix}/{row}" for prefix, row in runs}
    assert len(shelf) == len(runs) + len(others)
    assert all(each in shelf for each in shelf)
    assert shelf.known("run/a/0", range(300)) == sorted(
        row for prefix, row in runs if prefix == "run/a/0" and row < 300
    )
