"""An object that begins inside of the text of an output is not taken for the answer."""

from __future__ import annotations

import pytest

import dspex
from dspex.errors import ResponseUnparsable
from dspex.programs.adapters.json_object import JSONAdapter

ANSWER = dspex.Signature.from_string("question -> out: str")


@pytest.mark.parametrize("before", ["", "see ", 'a \\" and '])
def test_quotes_that_were_not_escaped_are_asked_for_again(before: str) -> None:
    """It may be a part of the text, and nobody can tell where the text ends."""
    with pytest.raises(ResponseUnparsable, match="inside the text of an output"):
        JSONAdapter().parse(ANSWER, f'{{"out": "{before}{{"other": 5, "out": "x"}}')


@pytest.mark.parametrize("answer", ['note: {"out": "x"} end', '{"a": {"out": "x"}}', 'a "word": {"out": "x"}'])
def test_an_object_elsewhere_is_found(answer: str) -> None:
    assert JSONAdapter().parse(ANSWER, answer).outputs == {"out": "x"}
