"""Halves of characters: the quick way through an answer makes no difference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.content import ReasoningPart
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.protocols.surrogates import mended, mended_response

TEXTS = st.text(st.sampled_from(["a", "é", "\ud83d", "\ude00"]), max_size=4)
COMPLETIONS = st.builds(
    Completion,
    text=TEXTS,
    finish_reason=st.one_of(st.just("stop"), TEXTS),
    reasoning=st.one_of(st.just(()), st.tuples(st.builds(ReasoningPart, TEXTS))),
)
RESPONSES = st.builds(
    LMResponse,
    completions=st.lists(COMPLETIONS, max_size=2).map(tuple),
    usage=st.just(Usage()),
    model=TEXTS,
    request_id=st.one_of(st.none(), TEXTS),
    headers=st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@given(RESPONSES)
def test_the_quick_way_mends_as_much(response: LMResponse) -> None:
    """Whatever the quick check passes over has no half character in it."""
    found = mended_response(response)

    assert found == mended(response)
    assert (found is response) == (mended(response) is response)
