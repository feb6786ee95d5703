"""A playbook: lessons are added, counted and dropped, never rewritten."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.evaluation import Row
from dspex.optimizers import Candidate, Playbook, Write
from dspex.optimizers.playbook import Additions, Bullet, merged
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class Taught(ScriptedWorld):
    """A program with the lesson "count twice" is right more often; "guess" misleads."""

    def __init__(self) -> None:
        self.shown: list[Mapping[str, object]] = []

    def quality(self, candidate: Candidate) -> float:
        text = "".join(candidate.instructions.values())
        return 0.4 + 0.4 * ("count twice" in text) - 0.2 * ("guess" in text)

    def write(self, ask: Write, key: str) -> Mapping[str, object] | None:
        self.shown.append(ask.inputs)
        playbook = str(ask.inputs["playbook"])
        if "work" in ask.inputs:
            harmful = [line[1 : line.index("]")] for line in playbook.splitlines() if "guess" in line]
            return {"insights": "It miscounts.", "helpful": ["[b1]", "b99"], "harmful": harmful}
        return {"lessons": ["Always count twice.", "When unsure, guess."] if not playbook else ["always COUNT twice"]}


def test_lessons_that_help_stay_and_those_that_mislead_go() -> None:
    world, rows = Taught(), rows_of(180)
    run = simulate(
        Playbook(metric, width=1), world, order=random.Random(0), learn=rows[:40], choose=rows[40:120], hold=rows[120:]
    )
    assert run.outcome is not None
    text = run.outcome.candidate.instructions["self"]

    assert run.outcome.verdict.kind == "better"
    assert text.count("count twice") == 1
    assert "guess" not in text
    assert any("answer 3" in str(each.get("work")) for each in world.shown)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(dspex.ConfigError, match="at least 1"):
        Playbook(metric, block_size=0)


class Failing(ScriptedWorld):
    def score(self, candidate: Candidate, row: Row, rollout: int) -> float | None:
        return None


def test_rows_that_fail_teach_nothing() -> None:
    rows = rows_of(20)
    run = simulate(Playbook(metric), Failing(), order=random.Random(0), learn=rows, choose=rows)

    assert run.outcome is not None
    assert run.outcome.found == Candidate()


TEXTS = st.sampled_from(["count", "Count.", "guess", "read it twice", "", "x" * 700])
DELTAS = st.builds(
    Additions,
    st.lists(TEXTS, max_size=4).map(tuple),
    st.lists(st.sampled_from(["b1", "b2", "b9"])).map(tuple),
    st.lists(st.sampled_from(["b1", "b2", "?"])).map(tuple),
)


@given(st.lists(DELTAS, max_size=12), st.integers(1, 4))
def test_marks_are_never_given_twice_and_the_playbook_stays_small(deltas: list[Additions], most: int) -> None:
    bullets: tuple[Bullet, ...] = ()
    given_marks, seen = 0, dict[str, str]()
    for delta in deltas:
        bullets, given_marks = merged(bullets, delta, given_marks, most)
        for each in bullets:
            assert seen.setdefault(each.mark, each.text) == each.text
        assert len(bullets) <= most
        assert len({each.mark for each in bullets}) == len(bullets)
        assert all(each.harmful - each.helpful < 2 and 0 < len(each.text) <= 600 for each in bullets)


def test_deltas_commute_but_for_the_marks() -> None:
    """Blocks that run side by side add the same lessons in any order."""
    one, two = Additions(("count",), ("b1",), ()), Additions(("guess", "read"), (), ("b1",))
    start = (Bullet("b1", "old"),)
    there = merged(merged(start, one, 1, 9)[0], two, 2, 9)[0]
    back = merged(merged(start, two, 1, 9)[0], one, 3, 9)[0]

    assert {(each.text, each.helpful, each.harmful) for each in there} == {
        (each.text, each.helpful, each.harmful) for each in back
    }
