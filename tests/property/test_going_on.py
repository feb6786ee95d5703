"""The rest of a cut answer is joined to its beginning, however the server sends it and the stream cuts it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex.programs._go_on import Seam, is_looping
from dspex.protocols.lm import Completion

WORDS = st.text(st.sampled_from("ab \n1."), max_size=30)
BEGUN = WORDS.map(lambda text: f"Forty-two characters at the least, of which none is a loop: {text}")
SIZES = st.lists(st.integers(1, 9), min_size=1)


def in_pieces(seam: Seam, text: str, sizes: list[int]) -> str:
    """Feed a text in pieces of these sizes, over and over."""
    said, at, turn = "", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        said += seam.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    return said + seam.finish()


@given(BEGUN, WORDS, SIZES, st.booleans())
def test_a_stream_and_a_whole_answer_say_the_same(begun: str, rest: str, sizes: list[int], says_all: bool) -> None:
    sent = begun.rstrip() + rest if says_all else rest
    seam = Seam(begun)
    said = begun + in_pieces(seam, sent, sizes)

    assert not seam.is_anew
    assert said == seam.joined(Completion(sent)).text
    assert "".join(said.split()) == "".join((begun + rest).split())


@given(BEGUN, WORDS, SIZES)
def test_an_answer_that_begins_anew_is_the_answer(begun: str, rest: str, sizes: list[int]) -> None:
    anew = f"{begun[:45]}: something else. {rest}"
    seam = Seam(begun)

    assert in_pieces(seam, anew, sizes) == ""
    assert seam.is_anew
    assert seam.joined(Completion(anew)).text == anew


@given(st.text(max_size=60), st.text(st.sampled_from("abc de"), min_size=24, max_size=200), st.integers(0, 60))
def test_what_is_said_four_times_and_often_enough_is_a_loop(before: str, said: str, cut: int) -> None:
    text = before + said * (4 + 300 // len(said)) + said[: cut % len(said)]
    has_a_word = any(len(word) >= 3 for word in (said * 2).split())

    assert is_looping(text) or not has_a_word


@given(st.lists(st.text(min_size=1, max_size=40), max_size=40, unique=True))
def test_different_lines_are_not_a_loop(lines: list[str]) -> None:
    assert not is_looping("\n".join(f"{at * at} {line} {at}" for at, line in enumerate(lines)))


def test_data_may_repeat_themselves() -> None:
    assert not is_looping('{"status": "open", "is_paid": true}, ' * 40)
    assert not is_looping("1. yes\n2. yes\n3. yes\n4. yes\n" * 3)
    assert not is_looping("| the same cell | the same cell |\n" * 40)
