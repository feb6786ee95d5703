"""Verdicts, races and splits: what they say of worlds whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.evaluation import Row
from dspex.optimizers import (
    Better,
    Candidate,
    Evaluation,
    NoHeadroom,
    NotShownBetter,
    Raced,
    Run,
    Tally,
    Unmeasured,
    Worse,
    cheapest,
    race,
)
from dspex.optimizers.race import WORTH, expected_gain, surely_worse, worth_more_rows
from dspex.optimizers.split import MIN_HOLD, split_rows
from dspex.optimizers.verdict import judge, measure_noise, plain_verdict, verdict_of
from dspex.protocols.money import Spending
from dspex.testing.conformance import rows_of


def runs(scores: Sequence[float | None]) -> list[Evaluation]:
    return [Evaluation(number, score) for number, score in enumerate(scores)]


class TestVerdicts:
    def test_a_better_mean_is_handed_out_unless_more_is_demanded(self) -> None:
        before, after = runs([0, 0, 1, 1, 0]), runs([0, 1, 1, 1, 0])

        verdict = judge(before, after, same=False)
        assert isinstance(verdict, Better)
        assert verdict.by == pytest.approx(0.2)
        assert (verdict.pairs, verdict.failed) == (5, 0)
        assert verdict.interval.low <= 0.2 <= verdict.interval.high
        assert isinstance(judge(before, after, same=False, sure=0.9), NotShownBetter)

    def test_surely_better_is_better_for_those_who_demand_it(self) -> None:
        assert isinstance(judge(runs([0] * 30), runs([1] * 25 + [0] * 5), same=False, sure=0.99), Better)

    def test_surely_worse_is_worse(self) -> None:
        assert isinstance(judge(runs([1] * 20), runs([0] * 12 + [1] * 8), same=False), Worse)

    def test_a_little_worse_is_not_shown_better(self) -> None:
        assert isinstance(judge(runs([1, 0] * 10), runs([1, 0] * 9 + [0, 0]), same=False), NotShownBetter)

    def test_a_perfect_student_has_no_headroom(self) -> None:
        assert isinstance(judge(runs([1] * 40), runs([1] * 40), same=False), NoHeadroom)

    def test_failures_are_excluded_pairwise_and_counted(self) -> None:
        verdict = judge(runs([0, None, 0, 1]), runs([1, 1, None, 1]), same=False)

        assert isinstance(verdict, Better)
        assert (verdict.pairs, verdict.failed, verdict.by) == (2, 2, 0.5)

    def test_a_candidate_that_breaks_rows_is_worse_whatever_it_scores(self) -> None:
        verdict = judge(runs([0] * 40), runs([1] * 30 + [None] * 10), same=False)

        assert isinstance(verdict, Worse)
        assert "fails on 10 rows, the student on 0" in str(verdict)

    def test_without_a_pair_nothing_is_measured(self) -> None:
        assert isinstance(judge(runs([None]), runs([1]), same=False), Unmeasured)

    @given(st.lists(st.tuples(*[st.none() | st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=1), st.floats(0, 0.99))
    def test_every_verdict_is_written_and_read(
        self, pairs: list[tuple[float | None, float | None]], sure: float
    ) -> None:
        verdict = judge(runs([a for a, _ in pairs]), runs([b for _, b in pairs]), same=False, sure=sure)

        assert repr(verdict_of(plain_verdict(verdict))) == repr(verdict)
        assert str(verdict)
        if isinstance(verdict, Better):
            assert verdict.by > 0
            assert 0 <= verdict.shrunken <= verdict.by

    @pytest.mark.slow
    def test_who_demands_to_be_sure_is_seldom_handed_a_worse_program(self) -> None:
        """Candidates that are two points worse: by the mean alone a third pass 100 rows, sure of it one in twenty."""
        source = random.Random(5)
        passed = {0.0: 0, 0.9: 0}
        for _ in range(300):
            before = [float(source.random() < 0.60) for _ in range(100)]
            after = [float(source.random() < 0.58) for _ in range(100)]
            for sure in passed:
                passed[sure] += isinstance(judge(runs(before), runs(after), same=False, sure=sure), Better)

        assert passed[0.9] <= 0.05 * 300
        assert passed[0.9] < passed[0.0] < 0.5 * 300


def test_noise_is_the_spread_of_two_runs() -> None:
    noise = measure_noise(runs([0, 1, 1, 0]), runs([1, 1, 0, 0]), 100)

    assert noise is not None
    assert (noise.rows, noise.score) == (4, 0.5)
    assert noise.spread == pytest.approx(math.sqrt(2 / 3))
    assert noise.detectable == pytest.approx(2.802 * noise.spread / 10)
    assert measure_noise(runs([1]), runs([None]), 100) is None


# --- races ------------------------------------------------------------------------------------------------------


def raced(qualities: Sequence[float], rows: Sequence[Row], seed: int, **options: float) -> tuple[Raced, int]:
    """Return how a race ends between candidates of these true qualities, and how many rows it took."""
    candidates = [Candidate({"self": str(number)}) for number in range(len(qualities))]
    source = random.Random(f"rows {seed}")  # the qualities have a source of their own
    hard = {row.index: source.random() for row in rows}  # a hard row is hard for most: that is what pairs are good for
    scores = {
        (each.key, row.index): float((hard[row.index] if source.random() < 0.7 else source.random()) < quality)
        for each, quality in zip(candidates, qualities, strict=True)
        for row in rows
    }
    plan = race(candidates, rows, **options)  # type: ignore[arg-type]  # numbers of rows are whole here
    taken, answers = 0, None
    while True:
        try:
            asks: tuple[Run, ...] = plan.send(answers)
        except StopIteration as stop:
            return stop.value, taken
        taken += sum(len(ask.rows) for ask in asks)
        answers = tuple(
            tuple(Evaluation(row.index, scores[ask.candidate.key, row.index]) for row in ask.rows) for ask in asks
        )


def test_a_race_finds_a_good_candidate_for_a_quarter_of_the_rows() -> None:
    """16 candidates on 200 rows would be 3,200 runs; the regret is what is lost against the truly best one."""
    regrets, taken = [], []
    for seed in range(30):
        source = random.Random(seed)
        qualities = [min(0.95, max(0.05, source.gauss(0.6, 0.05))) for _ in range(16)]
        found, rows = raced(qualities, rows_of(200), seed)
        regrets.append(max(qualities) - qualities[found.best])
        taken.append(rows)

    assert sum(taken) / 30 < 1000
    assert sum(regrets) / 30 < 0.02


def test_equal_rows_decide_nothing() -> None:
    assert not surely_worse(dict.fromkeys(range(10), 1.0), dict.fromkeys(range(10), 1.0), 2.0)
    assert surely_worse(dict.fromkeys(range(10), 1.0), dict.fromkeys(range(10), 0.0), 2.0)
    assert worth_more_rows([dict.fromkeys(range(10), 1.0)] * 3, WORTH) == [0, 1, 2]
    assert worth_more_rows([dict.fromkeys(range(10), 0.0), dict.fromkeys(range(10), 1.0)], WORTH) == [1]


def test_who_is_surely_as_good_is_not_worth_more_rows() -> None:
    """A race by significance runs two equal candidates to the last row."""
    scores = {n: float(n % 2) for n in range(2000)}
    other = {**scores, 4: 1.0, 5: 0.0}

    assert not surely_worse(scores, other, 1.5)
    assert worth_more_rows([scores, other], WORTH) == [0]
    few = {n: scores[n] for n in range(100)}
    assert worth_more_rows([few, {n: other[n] for n in few}], WORTH) == [0, 1]


@given(
    st.lists(st.dictionaries(st.integers(0, 12), st.sampled_from([0.0, 0.25, 1.0])), max_size=6),
    st.floats(1e-3, 1e3),
    st.floats(-1e3, 1e3),
)
def test_a_race_does_not_depend_on_the_scale_of_scores(
    scores: list[dict[int, float]], scale: float, shift: float
) -> None:
    """The leader stays, whoever has no score goes, and points are as good as shares."""
    found = worth_more_rows(scores, WORTH)
    moved = [{row: scale * value + shift for row, value in each.items()} for each in scores]

    assert found == sorted(set(found))
    assert all(scores[each] for each in found)
    assert bool(found) == any(scores)
    sums = [(sum(each.values()) / len(each), number) for number, each in enumerate(scores) if each]
    assert not sums or max(sums, key=lambda each: (each[0], -each[1]))[1] in found
    if len({round(mean, 9) for mean, _ in sums}) == len(sums):  # where means are equal, rounding names the leader
        assert worth_more_rows(moved, WORTH) == found


@given(st.floats(-5, 5), st.floats(1e-3, 5))
def test_the_expected_gain_is_that_of_the_normal_distribution(mean: float, spread: float) -> None:
    step = spread / 200
    heights = [
        math.exp(-(((n + 0.5) * step - mean) ** 2) / (2 * spread**2)) * (n + 0.5) * step * step
        for n in range(int((max(mean, 0.0) + 8 * spread) / step))
    ]

    assert expected_gain(mean, spread) == pytest.approx(sum(heights) / (spread * math.sqrt(2 * math.pi)), abs=1e-4)


def test_without_a_race_everybody_runs_on_everything_and_the_first_best_wins() -> None:
    found, taken = raced([0.0, 1.0, 1.0], rows_of(20), 0, on=False)

    assert (found.best, taken) == (1, 60)


def test_of_candidates_that_are_as_good_the_cheapest_wins() -> None:
    scores = {n: float(n % 2) for n in range(40)}
    near = {**scores, 1: 0.0, 2: 1.0}
    dear = Tally(Candidate({"a": "1"}), scores, 0, Spending(tokens=4000))
    cheap = Tally(Candidate({"a": "2"}), near, 0, Spending(tokens=400))
    bad = Tally(Candidate({"a": "3"}), dict.fromkeys(range(40), 0.0), 0, Spending(tokens=4))

    assert cheapest([dear, cheap, bad]) == 1
    assert cheapest([dear, bad]) == 0


def test_answers_of_a_cache_make_nobody_cheap() -> None:
    """They cost nothing this time; on the next question they would."""
    scores = {n: float(n % 2) for n in range(40)}
    near = {**scores, 1: 0.0, 2: 1.0}
    leader = Tally(Candidate({"a": "1"}), scores, 0, Spending(tokens=4000), 40)
    cached = Tally(Candidate({"a": "2"}), near, 0, Spending(), 0)
    half = Tally(Candidate({"a": "3"}), near, 0, Spending(tokens=2100), 20)
    runs = [
        Evaluation(row, 1.0, spent=Spending(tokens=10, calls=row % 2) if row % 2 else Spending()) for row in range(4)
    ]

    assert cheapest([leader, cached]) == 0
    assert cheapest([leader, half]) == 0  # 105 tokens a row that was paid for, not 52
    assert cheapest([replace(leader, spent=Spending(), paid=0), half]) == 0
    assert Tally.of(Candidate({"a": "4"}), runs).price == 10


# --- splits -----------------------------------------------------------------------------------------------------


def rows_with(count: int, prefix: str = "q") -> list[Row]:
    return [
        Row(n, dspex.Example(question=f"{prefix}{n}", answer="a"), {"question": f"{prefix}{n}"}) for n in range(count)
    ]


class TestSplits:
    @given(st.integers(0, 400), st.integers(0, 60), st.integers(0, 60), st.booleans(), st.booleans())
    def test_no_row_is_lost_and_none_is_held_and_read(
        self, train: int, val: int, hold: int, chooses: bool, hold_out: bool
    ) -> None:
        split = split_rows(
            rows_with(train), rows_with(val, "v"), rows_with(hold, "h"), chooses=chooses, hold_out=hold_out
        )
        held = {row.index for row in split.hold}

        assert [row.index for row in split.rows] == list(range(train + val + hold))
        assert not held & {row.index for row in (*split.learn, *split.choose)}
        assert bool(split.missing) == (not split.hold)
        if not hold and not (val and not chooses):
            assert not held or len(held) >= MIN_HOLD

    def test_a_row_stays_where_it_is_when_others_are_added(self) -> None:
        few = split_rows(rows_with(400), [], [], chooses=True)
        many = split_rows(rows_with(800), [], [], chooses=True)
        for part in ("learn", "choose", "hold"):
            before = {row.example.question for row in getattr(few, part)}
            assert before <= {row.example.question for row in getattr(many, part)}

    def test_equal_rows_stay_together(self) -> None:
        rows = rows_with(300)
        twice = [*rows, *(replace(row, index=row.index + 300) for row in rows)]
        split = split_rows(twice, [], [], chooses=True)
        parts = [{row.example.question for row in part} for part in (split.learn, split.choose, split.hold)]

        assert not parts[0] & parts[1]
        assert not parts[2] & (parts[0] | parts[1])

    def test_few_rows_serve_both_purposes_and_none_are_held_out(self) -> None:
        split = split_rows(rows_with(20), [], [], chooses=True)

        assert split.learn == split.choose
        assert (len(split.learn), split.hold) == (20, ())
        assert "fewer than 50" in split.missing


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("worth", "taken", "lost"), [(0.008, 900, 1.23), (0.005, 1160, 1.11), (0.0, 3200, 0.96)])
def test_the_figures_of_races_are_those_of_the_docs(worth: float, taken: int, lost: float) -> None:
    """Means of 1,000 worlds: 16 candidates, true qualities 5 points apart, 200 rows that are as hard for most."""
    regrets, rows = [], []
    for seed in range(1000):
        source = random.Random(seed)
        qualities = [min(0.95, max(0.05, source.gauss(0.6, 0.05))) for _ in range(16)]
        found, paid = raced(qualities, rows_of(200), seed, worth=worth, on=bool(worth))
        regrets.append(max(qualities) - qualities[found.best])
        rows.append(paid)

    assert (round(sum(rows) / 1000, -1), round(100 * sum(regrets) / 1000, 2)) == (taken, lost)
