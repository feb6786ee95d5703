"""A reader's view of an answer, whichever way it came and whenever the step that told it died."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import StreamTruncated
from dspex.protocols.content import ReasoningPart, ToolCall
from dspex.protocols.lm import AttemptLog, Completion, LMDelta, LMResponse, Usage

texts = st.text(max_size=8)
completions = st.builds(
    Completion,
    texts,
    reasoning=st.lists(st.builds(ReasoningPart, texts), max_size=2).map(tuple),
    tool_calls=st.lists(st.builds(ToolCall, texts, texts, st.just({}), texts), max_size=2).map(tuple),
)
responses = st.builds(
    LMResponse, st.lists(completions, min_size=1, max_size=3).map(tuple), st.just(Usage()), st.just("m")
)


class Reader:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.seen: list[LMDelta] = []

    async def read(self, delta: LMDelta) -> None:
        self.seen.append(delta)

    def texts(self) -> dict[int, str]:
        found: dict[int, str] = defaultdict(str)
        for delta in self.seen:
            found[delta.index] += delta.text
        return found


def run(work: object) -> None:
    """Run a coroutine that never waits."""
    with pytest.raises(StopIteration):
        work.send(None)  # type: ignore[attr-defined]  # a coroutine


@given(responses, st.integers(0, 12))
def test_a_whole_answer_is_told_once_whatever_dies_between(response: LMResponse, told: int) -> None:
    """The second step goes on with the piece that the first did not come to."""
    log, reader = AttemptLog("k"), Reader()
    log.response = response
    for delta in log.rest()[:told]:
        run(log.tell(reader.read, delta))
    run(log.tell_rest(reader.read))

    assert reader.seen == response.deltas()
    assert log.rest() == []


@given(responses, st.data())
def test_what_the_pieces_of_a_stream_left_out_follows_at_its_end(response: LMResponse, data: st.DataObject) -> None:
    """A last event without its empty line, say: the texts are whole nevertheless."""
    log, reader = AttemptLog("k"), Reader()
    for index, completion in enumerate(response.completions):
        end = data.draw(st.integers(0, len(completion.text)))
        for at in range(end):
            run(log.tell(reader.read, LMDelta(index, completion.text[at])))
    log.response = response
    run(log.tell_rest(reader.read))

    found = reader.texts()
    assert [found[index] for index in range(len(response.completions))] == [each.text for each in response.completions]


def test_a_step_that_died_in_the_middle_of_a_piece_leaves_no_second_reading() -> None:
    """Nobody knows how much of that piece the reader has: neither again nor not at all would be right."""

    class Waiting:
        def __await__(self):  # type: ignore[no-untyped-def]  # one step of a coroutine
            yield

    async def hold(delta: LMDelta) -> None:
        await Waiting()

    log = AttemptLog("k")
    log.response = LMResponse((Completion("a"),), Usage(), "m")
    reading = log.tell(hold, LMDelta(text="a"))
    reading.send(None)
    reading.close()

    with pytest.raises(StreamTruncated, match="was being handed on"):
        log.tell_rest(hold).send(None)
