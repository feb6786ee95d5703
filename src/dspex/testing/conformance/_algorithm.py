"""The contract of every optimizer, ours and yours."""

from __future__ import annotations

import inspect
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

from dspex._random import generator
from dspex.errors import NoCandidate, OptimizationError
from dspex.evaluation import Row
from dspex.optimizers import Algorithm, Candidate, Run, Task, Write
from dspex.programs import Module, Predict
from dspex.protocols.money import Budget
from dspex.testing._world import Data, ScriptedWorld, Simulated, rows_of, simulate

__all__ = ["AlgorithmContract"]


class _Broken(ScriptedWorld):
    """Every row fails, and no model writes."""

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float | None:
        return None

    def write(self, ask: Write, key: str) -> None:
        return None


class AlgorithmContract(ABC):
    """
    Tests of one optimizer: inherit from this, say which, and let pytest collect the class.

    For example::

        class TestMine(AlgorithmContract):
            def algorithm(self):
                return MyOptimizer(metric=always)

    No model and no event loop take part: a ``ScriptedWorld`` answers.
    """

    limit: int = 120
    """Calls that the budget test allows; enough for a few plans, too few for all."""

    learn_rows: int = 40
    choose_rows: int = 30
    hold_rows: int = 20

    @abstractmethod
    def algorithm(self) -> Algorithm:
        """Return the optimizer, small enough for a few hundred rows."""

    def world(self) -> ScriptedWorld:
        """Return who answers."""
        return ScriptedWorld()

    def program(self) -> Module | None:
        """Return the student; None is one predictor from a question to an answer."""
        return None

    def run(
        self,
        world: ScriptedWorld | None = None,
        *,
        order: int = 0,
        seed: int = 0,
        pool: int = 8,
        hold: Sequence[Row] | None = None,
        journal: dict[str, Data] | None = None,
        kill_after: int | None = None,
        limit: Budget | None = None,
    ) -> Simulated:
        """Run a whole job; ``simulate`` has the meaning of the options."""
        rows = rows_of(self.learn_rows + self.choose_rows + self.hold_rows)
        learn = rows[: self.learn_rows]
        choose = rows[self.learn_rows : self.learn_rows + self.choose_rows]
        return simulate(
            self.algorithm(),
            world if world is not None else self.world(),
            order=generator(order),
            learn=learn,
            choose=choose,
            hold=rows[self.learn_rows + self.choose_rows :] if hold is None else hold,
            program=self.program(),
            seed=seed,
            pool=pool,
            journal=journal,
            kill_after=kill_after,
            limit=limit,
        )

    # --- the tests ------------------------------------------------------------------------------------------

    def test_the_result_depends_on_neither_timing_nor_pool(self) -> None:
        """The same answers in any order, many at once or one: the same outcome, and the same answers bought."""
        runs = [self.run(order=number, pool=pool) for number, pool in enumerate((1, 3, 8, 64))]

        assert len({each.state for each in runs}) == 1
        if self.algorithm().width == 1:
            assert len({frozenset(each.journal) for each in runs}) == 1

    def test_killed_anywhere_it_ends_the_same(self) -> None:
        """However often it is killed: the same outcome, and no recorded answer is bought again."""
        whole = self.run()
        for history in range(6):
            source = generator(history)
            journal: dict[str, Data] = {}
            for _ in range(100):
                kill_after = source.randrange(1, max(2, whole.paid // 2)) if whole.paid else None
                run = self.run(order=source.randrange(10**6), journal=journal, kill_after=kill_after)
                if run.outcome is not None:
                    break
            assert run.state == whole.state

    def test_a_finished_search_is_replayed_unpaid(self) -> None:
        """With every answer recorded, nothing is bought."""
        whole = self.run(pool=1)
        again = self.run(pool=1, journal=dict(whole.journal))

        assert again.paid == 0
        assert again.state == whole.state

    def test_another_process_finds_the_same(self) -> None:
        """Sets and dicts of strings are in another order there: nothing may depend on it."""
        found = {_elsewhere(type(self)) for _ in range(2)}

        assert found == {self.fingerprint()}

    def fingerprint(self) -> str:
        """Return the outcome as text."""
        return self.run().state

    def test_another_seed_is_another_run(self) -> None:
        """All chance comes from the seed; the same seed is the same run."""
        assert self.run(seed=1).state == self.run(seed=1, order=9).state

    def test_the_budget_is_never_exceeded(self) -> None:
        """Before anything is sent, it is set aside; the verdict's rows included."""
        runs = [self.run(limit=Budget(calls=self.limit), order=order, pool=pool) for order, pool in ((0, 1), (1, 16))]

        assert all(each.spent.calls <= self.limit for each in runs)
        assert runs[0].state == runs[1].state

    def test_rows_that_are_held_out_are_not_read(self) -> None:
        """Only the job itself runs them, after the search."""
        run = self.run()
        first = self.learn_rows + self.choose_rows
        held = [key for key in run.places if key.startswith("run/") and int(key.rpartition("/")[2]) >= first]

        assert all(len(run.places[key]) == 2 for key in held)

    def test_there_is_a_best_at_any_time(self) -> None:
        """After each plan ``best`` names a candidate that fits the program."""
        program = self.program()
        for each in self.run().bests:
            assert isinstance(each, Candidate)
            if program is not None and not each.program:
                each.applied(program)

    def test_its_functions_change_nothing(self) -> None:
        """The same state gives the same plan, and the same best, however often it is asked."""
        algorithm = self.algorithm()
        rows = rows_of(self.learn_rows)
        student = self.program() or Predict("question -> answer")
        task = Task(student, rows, rows, programs=algorithm.programs(student))
        one, two = algorithm.begin(task), algorithm.begin(task)
        before = repr(one)
        asked = [_first_ask(algorithm, state) for state in (one, two, one)]

        assert repr(one) == repr(two) == before
        assert asked[0] == asked[1] == asked[2]

    def test_failures_are_outcomes(self) -> None:
        """Where every row fails and no model writes, it ends: with the student, or saying that there is nothing."""
        try:
            run = self.run(_Broken(), hold=())
        except (NoCandidate, OptimizationError):
            return
        assert run.outcome is not None


def _first_ask(algorithm: Algorithm, state: object) -> str:  # a state is the algorithm's own
    made = algorithm.plan(state, 0, generator(3))
    if not inspect.isgenerator(made):
        return repr(made)
    try:
        asked = next(made)
    except StopIteration as stop:
        return repr(stop.value)
    made.close()
    asks = asked if isinstance(asked, tuple) else (asked,)
    return repr(
        [(each.candidate.key, [row.index for row in each.rows]) if isinstance(each, Run) else each for each in asks]
    )


def _elsewhere(contract: type[AlgorithmContract]) -> str:
    """Return the outcome in a process of its own."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        f"from {contract.__module__} import {contract.__name__} as contract\n"
        f"print(contract().fingerprint(), end='')"
    )
    command = [sys.executable, "-R", "-c", code]  # hashes of strings are others in each process
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert done.returncode == 0, done.stderr
    return done.stdout
