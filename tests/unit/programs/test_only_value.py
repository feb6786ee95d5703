"""A value that stands in a short sentence is read where a person would be sure of it, and nowhere else."""

from __future__ import annotations

from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import given

import dspex
from dspex.errors import ResponseUnparsable
from dspex.programs.adapters.auto import AutoAdapter

AUTO = AutoAdapter()
Level = Literal["low", "medium", "high", "not applicable"]
Reply = Literal["yes", "no"]
SIGNATURES: dict[object, type[dspex.Signature]] = {
    kind: dspex.Signature.from_string("question -> answer: Kind", types={"Kind": kind})
    for kind in (int, float, bool, Level, Reply)
}


def told(kind: object, text: str) -> object:
    """Return the value, or None where the model is asked again."""
    try:
        return AUTO.parse(SIGNATURES[kind], text).outputs["answer"]
    except ResponseUnparsable:
        return None


@given(
    sign=st.sampled_from(["-", "\N{MINUS SIGN}"]),
    words=st.sampled_from(["{}", "{}.", "**{}**", "It is {}.", "x = {}", "\\boxed{{{}}}", "answer: {}"]),
    number=st.integers(1, 999_999),
)
def test_a_sign_is_never_lost(sign: str, words: str, number: int) -> None:
    assert told(int, words.format(f"{sign}{number}")) == -number
    assert told(float, words.format(f"{sign}{number}.5")) == -number - 0.5


@given(
    words=st.sampled_from(["{}", "It is {}.", "€{}", "{} kg"]),
    whole=st.integers(0, 99_999),
    mark=st.sampled_from([",", "'", " ", "_", "."]),
    rest=st.from_regex(r"\A[0-9]{1,6}\Z"),
)
def test_the_mark_between_digits_is_understood_or_refused(words: str, whole: int, mark: str, rest: str) -> None:
    text = words.format(f"{whole}{mark}{rest}")
    is_grouped = mark == "," and len(rest) == 3 and 0 < whole < 1000
    may_be = {int(f"{whole}{rest}")} if is_grouped or mark == "_" else set()
    if mark == "." and set(rest) == {"0"}:
        may_be = {whole}

    found = told(int, text)

    assert found is None or found in may_be
    if mark in ",'":
        assert told(float, text) is None


@pytest.mark.parametrize(
    "text",
    [
        "not 12",
        "It isn't 12.",
        "It isn\N{RIGHT SINGLE QUOTATION MARK}t 12.",
        "never 12",
        "anything but 12",
        "at least 12",
        "more than 12",
        "up to 12",
        "> 12",
        "minus 12",
        "- 12",
        "x = - 12",
        "12 or so, or 13",
        "12 thousand",
        "12k",
        "12th",
        "12 and a half",
        "12/4",
        "12:30",
        "10^12",
        "No. 12",
        "Is it 12?",
        "12\n13",
        "12\n\n**13**",
        "GPT-4",
    ],
)
def test_a_number_that_is_unsure_is_asked_for_again(text: str) -> None:
    assert told(int, text) is None
    assert told(float, text) is None


@pytest.mark.parametrize(
    "text", ["about 12", "12 apples", "#12", "$12", "(12)", "12!", "GPT-4 says 12", "12\n\n9 + 3 is 12.", "12\n12"]
)
def test_a_number_among_words_that_do_not_change_it_is_read(text: str) -> None:
    assert told(int, text) == 12


def test_a_percentage_is_a_whole_number_and_not_a_fraction() -> None:
    assert told(int, "5%") == 5
    assert told(float, "5%") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is True.", True),
        ("It is false", False),
        ("Yes, 2 of them", True),
        ("not true", None),
        ("It isn't false", None),
        ("No. 1 reason", None),
        ("true or false", None),
        ("Is it true?", None),
        ("There is 1 reason.", None),
        ("yes\nno", None),
    ],
)
def test_a_truth_value_is_read_from_its_words_alone(text: str, value: bool | None) -> None:
    assert told(bool, text) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is high.", "high"),
        ("very high", "high"),
        ("It is not applicable.", "not applicable"),
        ("not high", None),
        ("It isn't low", None),
        ("never low", None),
        ("anything but low", None),
        ("no, high", None),
        ("non-low", None),
        ("high-low", None),
        ("Is it low?", None),
        ("low\nhigh", None),
        ("low\n\nIt could not be high, or so.", "low"),
    ],
)
def test_a_choice_that_is_denied_or_contradicted_is_asked_for_again(text: str, value: str | None) -> None:
    assert told(Level, text) == value


def test_no_is_a_choice_where_it_is_one() -> None:
    assert told(Reply, "I would say no.") == "no"
    assert told(Reply, "not yes") is None
