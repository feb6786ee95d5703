"""Numbers and texts made up within any bounds that leave room for one."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types as at
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.programs.placeholders import placeholder
from dspex.programs.signature import plan_of


def made_up(annotation: Any) -> Any:
    signature = dspex.Predict("q -> a").signature.with_updated_fields("a", type_=annotation)
    return placeholder(plan_of(signature).fields["a"])


@given(st.integers(-100, 100), st.integers(0, 50), st.booleans(), st.booleans())
def test_whole_numbers(low: int, room: int, open_below: bool, open_above: bool) -> None:
    """Between two bounds, each in or out."""
    least, most = low - open_below, low + room + open_above
    bounds = [at.Gt(least) if open_below else at.Ge(least), at.Lt(most) if open_above else at.Le(most)]
    assert low <= made_up(Annotated[int, *bounds]) <= low + room


@given(st.floats(-100, 100), st.floats(0.01, 50), st.booleans())
def test_fractions(low: float, room: float, is_open: bool) -> None:
    """An open interval has a middle."""
    bounds = [at.Gt(low), at.Lt(low + room)] if is_open else [at.Ge(low), at.Le(low + room)]
    assert low <= made_up(Annotated[float, *bounds]) <= low + room


@given(st.integers(0, 600), st.integers(0, 600))
def test_lengths(least: int, room: int) -> None:
    """Of texts and of lists."""
    assert least <= len(made_up(Annotated[str, at.MinLen(least), at.MaxLen(least + room)])) <= least + room
    assert least <= len(made_up(Annotated[list[int], at.MinLen(least)]))
