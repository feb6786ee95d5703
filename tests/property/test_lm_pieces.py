"""Pieces that came together are joined, and say the same."""

from collections.abc import Iterable
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.lm import LMDelta
from dspex.services.lm.pieces import joined

WORDS = st.sampled_from(["", "a", "b ", "\ud83d", "\ude00"])
PIECES = st.lists(
    st.one_of(
        st.builds(LMDelta, st.integers(0, 1), text=WORDS),
        st.builds(LMDelta, st.integers(0, 1), reasoning=WORDS),
        st.builds(LMDelta, st.integers(0, 1), text=WORDS, reasoning=WORDS),
        st.builds(LMDelta, tool=st.integers(0, 1), tool_name=st.sampled_from(["", "", "add"]), arguments=WORDS),
    ),
    max_size=12,
)
Said = tuple[int, str, int | None, str]


def letters(deltas: Iterable[LMDelta]) -> list[Said]:
    """Return what is added to where, one character after the other: of one piece, its thoughts come first."""
    said: list[Said] = []
    for each in deltas:
        if each.tool_name:
            said.append((each.index, "tool_name", each.tool, each.tool_name))
        for name in ("reasoning", "text", "arguments"):
            said += [(each.index, name, each.tool, letter) for letter in getattr(each, name)]
    return said


@given(PIECES)
def test_joined_pieces_say_the_same_in_the_same_order(deltas: list[LMDelta]) -> None:
    """Nothing is lost, doubled or moved."""
    assert letters(joined(deltas)) == letters(deltas)


@given(PIECES)
def test_joined_pieces_are_not_joined_again(deltas: list[LMDelta]) -> None:
    """No two neighbours that add text to the same answer are left."""
    made = joined(deltas)
    plain = [each.index if each.text and not each.reasoning and each.tool is None else None for each in made]

    assert joined(made) == made
    assert all(place is None or len(list(group)) == 1 for place, group in groupby(plain))


def test_the_beginning_of_a_call_begins_a_piece() -> None:
    """Its arguments follow it, and another call does not."""
    begun, more = LMDelta(tool=0, tool_name="add", arguments='{"a"'), LMDelta(tool=0, arguments=": 1}")
    other = LMDelta(tool=1, tool_name="add", arguments="{}")

    assert joined([begun, more, other]) == [LMDelta(tool=0, tool_name="add", arguments='{"a": 1}'), other]
