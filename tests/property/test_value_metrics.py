"""Metrics of values: what is the same always matches, whatever its form, and nothing makes them raise."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.evaluation import Metric, json_match, numeric_match
from dspex.evaluation.value_metrics import number_in
from dspex.programs import Example

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def value(metric: Metric[Any], wanted: object, given: object) -> float:
    found: Any = metric(Example(answer=wanted), {"answer": given})
    return float(found.value)


@given(VALUES)
def test_json_is_itself_in_any_form(whole: object) -> None:
    for metric in (json_match(), json_match(partial=True)):
        assert value(metric, json.dumps(whole), json.dumps(whole, indent=1, sort_keys=True)) == 1.0


@given(VALUES, VALUES)
def test_a_part_is_a_share_and_all_of_it_is_a_match(one: object, two: object) -> None:
    part = value(json_match(partial=True), json.dumps(one), json.dumps(two))

    assert 0.0 <= part <= 1.0
    assert (part == 1.0) == (value(json_match(), json.dumps(one), json.dumps(two)) == 1.0)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{}", "so it is {}.", "${}"]))
def test_a_number_is_found_again(number: float, words: str) -> None:
    assert value(numeric_match(tolerance=1e-9), number, words.format(number)) == 1.0


@given(st.text() | st.floats() | st.from_regex(r"[-+0-9.,eE ]{0,40}", fullmatch=True))
def test_anything_is_read_as_a_finite_number_or_none(text: object) -> None:
    found = number_in(text)

    assert found is None or found.is_finite()
