"""The memory of forms: which one a signature is asked in, after any history of first turns."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.protocols.forms import ENOUGH, LAST, FormMemory, Move

LADDER = ("auto", "json", "chat")


class Machine(RuleBasedStateMachine):
    """One signature is asked by many at once: answers come late, in any order, in forms that were left."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = FormMemory()
        self.at_work: list[str] = []
        self.told: dict[str, deque[bool]] = {form: deque(maxlen=LAST) for form in LADDER}
        self.moves: list[Move] = []
        self.form = LADDER[0]

    @rule()
    def ask(self) -> None:
        form, move = self.memory.form("s", LADDER)
        assert form == self.form
        assert move == (self.moves[-1] if self.moves else None)
        self.at_work.append(form)

    @precondition(lambda self: self.at_work)
    @rule(which=st.integers(0, 1_000), is_read=st.booleans())
    def end(self, which: int, is_read: bool) -> None:
        form = self.at_work.pop(which % len(self.at_work))
        turns = self.told[form]
        turns.append(is_read)
        move = self.memory.note("s", form, is_read=is_read)
        may_move = form == self.form and turns.count(False) >= ENOUGH
        if move is None:
            was_tried = self.form == LADDER[-1] or len(self.moves) == len(LADDER)
            assert not may_move or was_tried
            return
        assert may_move
        assert (move.form, move.unreadable, move.turns) == (form, turns.count(False), len(turns))
        if form == LADDER[-1]:  # all were tried: the best of them
            shares = {each: told.count(False) / len(told) for each, told in self.told.items()}
            assert shares[move.to] == min(shares.values())
        else:
            assert move.to == LADDER[LADDER.index(form) + 1]
        self.form = move.to
        self.moves.append(move)

    @rule()
    def other_signatures_are_others(self) -> None:
        self.memory.form("other", LADDER)
        self.memory.note("other", "auto", is_read=True)

    @invariant()
    def moves_end(self) -> None:
        assert len(self.moves) <= len(LADDER)
        shown = [each.signature for each in self.memory.moves]
        assert shown == (["s"] if self.form != LADDER[0] else [])


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=settings.default.max_examples // 6 if settings.default else 10, stateful_step_count=40
)


@given(st.lists(st.booleans(), max_size=60))
def test_a_model_that_reads_well_enough_is_never_moved(history: list[bool]) -> None:
    """Two unreadable turns among any ten are chance."""
    memory = FormMemory()
    memory.form("s", LADDER)
    window: deque[bool] = deque(maxlen=LAST)
    for is_read in history:
        kept = is_read or [*window, False][-LAST:].count(False) >= ENOUGH
        window.append(kept)
        assert memory.note("s", "auto", is_read=kept) is None

    assert memory.form("s", LADDER) == ("auto", None)


def test_three_of_ten_move_it_and_its_new_form_has_a_record_of_its_own() -> None:
    memory = FormMemory()
    memory.form("s", LADDER)
    told = [memory.note("s", "auto", is_read=each) for each in (True, False, True, False, True, False, False)]

    assert told == [None, None, None, None, None, Move("s", "auto", "json", 3, 6), None]
    assert memory.form("s", LADDER)[0] == "json"
    assert memory.moves[0].words == "3 of its last 6 first turns as auto could not be read"


def test_the_best_of_bad_forms_is_kept_for_good() -> None:
    memory = FormMemory()
    memory.form("s", LADDER)
    for form, answers in (("auto", (False,) * 3), ("json", (True,) * 3 + (False,) * 3), ("chat", (False,) * 3)):
        for is_read in answers:
            memory.note("s", form, is_read=is_read)

    assert memory.form("s", LADDER)[0] == "json"
    for _ in range(50):
        assert memory.note("s", "json", is_read=False) is None
    assert memory.form("s", LADDER)[0] == "json"


@pytest.mark.parametrize("ladder", [("auto",), ("auto", "chat")])
def test_a_ladder_of_one_form_is_never_left_and_another_ladder_begins_anew(ladder: tuple[str, ...]) -> None:
    memory = FormMemory()
    memory.form("s", LADDER)
    for _ in range(3):
        memory.note("s", "auto", is_read=False)

    assert memory.form("s", ladder) == ("auto", None)
    for _ in range(3):
        memory.note("s", "auto", is_read=False)
    assert memory.form("s", ladder)[0] == ladder[-1]
    assert memory.note("s", "unheard-of", is_read=False) is None
    assert memory.note("unheard-of", "auto", is_read=False) is None


def test_it_is_bounded() -> None:
    """Programs that make signatures as they run do not fill it; those asked lately stay."""
    memory = FormMemory()
    memory.form("kept", LADDER)
    for _ in range(3):
        memory.note("kept", "auto", is_read=False)
    for number in range(3_000):
        memory.form(f"s{number}", LADDER)
        memory.form("kept", LADDER)

    assert memory.form("kept", LADDER)[0] == "json"
    assert memory.note("s0", "auto", is_read=True) is None
    assert len(memory._records) == 1_000
