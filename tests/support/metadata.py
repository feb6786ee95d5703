"""Strategies for metadata and filters: few names and values, so that filters often fit."""

from __future__ import annotations

from hypothesis import strategies as st

from dspex.protocols.filters import And, Equals, Exists, Filter, Not, OneOf, Or, Range

__all__ = ["filters", "metadata", "scalars"]

names = st.sampled_from(["year", "lang", "tags", "x.y", "it's", "", "größe", "a\0b"])
numbers = st.sampled_from([0, 1, 2, -1, 1.0, 1.5, -0.0, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, -(2**63), 1e300, 0.1])
texts = st.sampled_from(["", "a", "b", "B", "1", "é", "日本", "\U0001f600", "\uffff", "a\0b", "a\0c", "true", "%", "'"])
scalars = st.one_of(numbers, texts, st.booleans(), st.none())
metadata = st.dictionaries(names, scalars | st.lists(scalars, max_size=3), max_size=4)
_bounds = st.one_of(
    *(
        st.fixed_dictionaries({}, optional=dict.fromkeys(["at_least", "at_most", "above", "below"], of)).filter(bool)
        for of in (numbers, texts)
    )
)
_conditions: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equals, names, scalars),
    st.builds(OneOf, names, st.lists(scalars, max_size=3)),
    st.builds(lambda name, bounds: Range(name, **bounds), names, _bounds),
    st.builds(Exists, names),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    _conditions,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: And(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: Or(*parts)),
        inner.map(Not),
    ),
    max_leaves=5,
)
