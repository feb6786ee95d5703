"""Filters obey the laws of logic and the comparisons of JSON."""

from __future__ import annotations

import json

from hypothesis import given

from dspex.protocols.filters import And, Equals, Filter, Not, OneOf, Or, as_filter, filter_to_json, fits
from dspex.protocols.metadata import Metadata, Scalar, checked_metadata
from tests.support.metadata import filters, metadata, scalars


@given(one=filters, other=filters, about=metadata)
def test_and_or_and_not_are_those_of_logic(one: Filter, other: Filter, about: Metadata) -> None:
    """De Morgan's laws hold, and nothing holds together with its opposite."""
    assert fits(And(one, other), about) == (fits(one, about) and fits(other, about))
    assert fits(Not(And(one, other)), about) == fits(Or(Not(one), Not(other)), about)
    assert fits(one, about) != fits(Not(one), about)


@given(value=scalars, other=scalars, name=scalars.map(str))
def test_values_are_equal_as_json_has_them(value: Scalar, other: Scalar, name: str) -> None:
    """One form in JSON is one value; numbers are compared by what they are worth, and never with other kinds."""
    equal = fits(Equals(name, value), {name: other})

    assert equal == fits(Equals(name, other), {name: value})
    assert fits(Equals(name, value), {name: [None, value]})
    if json.dumps(value) == json.dumps(other):
        assert equal
    if equal:
        assert value == other
        assert isinstance(value, bool) == isinstance(other, bool)
    assert fits(OneOf(name, [value, other]), {name: other})


@given(asked=filters, about=metadata)
def test_a_filter_is_itself_as_filter_and_as_json(asked: Filter, about: Metadata) -> None:
    """Indexes are given the meaning that the user wrote."""
    whole = as_filter(asked)

    assert fits(whole, about) == fits(asked, about)
    assert json.loads(json.dumps(filter_to_json(asked)))


@given(about=metadata)
def test_metadata_is_kept_as_it_was_given(about: Metadata) -> None:
    """In a copy."""
    kept = checked_metadata(about)

    assert kept == about
    assert kept is not about
