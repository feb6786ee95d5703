"""A whole answer told as the pieces of a stream."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.content import ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMResponse, Usage

_calls = st.builds(
    lambda name, arguments: ToolCall("id", name, arguments),
    st.text(min_size=1),
    st.dictionaries(st.text(), st.integers() | st.text()),
)
_completions = st.builds(
    lambda text, calls, thoughts: Completion(text, "stop", tuple(calls), tuple(map(ReasoningPart, thoughts))),
    st.text(),
    st.lists(_calls, max_size=3),
    st.lists(st.text(), max_size=3),
)


@given(st.lists(_completions, max_size=4))
def test_the_pieces_make_up_the_answer(completions: list[Completion]) -> None:
    """Texts, thoughts and calls of every completion are there, under its number, each in one piece."""
    deltas = LMResponse(tuple(completions), Usage(), "m").deltas()

    for index, completion in enumerate(completions):
        own = [delta for delta in deltas if delta.index == index]
        assert "".join(delta.text for delta in own) == completion.text
        assert "".join(delta.reasoning for delta in own) == "".join(part.text for part in completion.reasoning)
        told = [(delta.tool_name, json.loads(delta.arguments)) for delta in own if delta.tool is not None]
        assert told == [(call.name, call.arguments) for call in completion.tool_calls]
        assert [delta.tool for delta in own if delta.tool is not None] == list(range(len(completion.tool_calls)))
    assert all(delta.text or delta.reasoning or delta.tool is not None for delta in deltas)


def test_arguments_stay_as_they_came() -> None:
    """Also where they are not JSON: the reader of a stream would have seen the same."""
    call = ToolCall("id", "look", None, raw='{"broken')
    (delta,) = LMResponse((Completion("", tool_calls=(call,)),), Usage(), "m").deltas()

    assert delta.arguments == '{"broken'
