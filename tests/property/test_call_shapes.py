"""Tool calls as text: what is read is what was meant, and nothing that was cut off is read at all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.call_shapes import arguments_of, calls_in_text, is_cut, named_call

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=3)


@given(arguments=OBJECTS, times=st.integers(1, 2))
def test_arguments_are_read_as_they_were_meant(arguments: dict[str, Any], times: int) -> None:
    """Also where the object was written as a JSON string."""
    text: object = arguments
    for _ in range(times):
        text = json.dumps(text)

    assert arguments_of(text)[1] == arguments
    assert arguments_of(arguments)[1] == arguments


@given(arguments=OBJECTS, data=st.data())
def test_cut_arguments_are_never_read(arguments: dict[str, Any], data: st.DataObject) -> None:
    """Whatever the place of the cut is: half of what a model meant is not carried out."""
    whole = json.dumps(arguments)
    text = whole[: data.draw(st.integers(1, len(whole) - 1))]

    assert arguments_of(text)[1] is None
    assert is_cut(text)
    assert not is_cut(whole)


@given(text=st.text(max_size=60) | st.sampled_from(["<tool_call>", "```json\n{", "[TOOL_CALLS]", "<function=f>{"]))
def test_any_text_is_calls_or_none(text: str) -> None:
    """Untrusted text raises nothing, and other names are not called."""
    assert all(name == "f" for name, _, _ in calls_in_text(text, {"f"}))


@given(value=st.dictionaries(st.sampled_from(["name", "tool", "function", "arguments", "parameters"]), VALUES))
def test_any_object_is_a_call_or_none(value: dict[str, Any]) -> None:
    found = named_call(value)

    assert found is None or (isinstance(found[0], str) and found[0])
