"""Half an emoji: from models, users, tools and files; nothing that comes after it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.protocols.content import ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMDelta, LMResponse, Message, Usage
from dspex.protocols.surrogates import DeltaMender, mended, mended_messages
from dspex.simulator import Simulator
from dspex.testing import ScriptedLM

ASK = dspex.Predict("question -> answer", adapter="chat")
ANY = st.text(st.characters())


def told(text: str) -> Completion:
    return Completion(f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]")


@given(st.lists(ANY, max_size=5))
async def test_pieces_say_what_the_whole_says(pieces: list[str]) -> None:
    """Wherever a character is cut: its halves meet, and a half alone is the sign for what cannot be read."""
    seen: list[str] = []

    async def take(delta: LMDelta) -> None:
        seen.append(delta.text)

    mender = DeltaMender(take)
    for each in pieces:
        await mender.take(LMDelta(text=each))
    await mender.finish()
    assert "".join(seen) == mended("".join(pieces))
    "".join(seen).encode()


@given(ANY)
def test_text_that_is_whole_is_the_same_object(text: str) -> None:
    """And of any other only the halves are changed."""
    found = mended(text)
    found.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        assert len(found) <= len(text)
    else:
        assert found is text


def test_records_are_mended_inside() -> None:
    """Texts, thoughts, arguments and names; whole ones stay the very same."""
    call = ToolCall("1", "s", {"q": ["a\ud83d"], "\ud83d": 1}, '{"q": ["a\\ud83d"]}')
    response = LMResponse(
        (Completion("x\ud83d\ude00", tool_calls=(call,), reasoning=(ReasoningPart("\ude00"),)),), Usage(), "m"
    )
    (found,) = mended(response).completions
    assert found.text == "x\U0001f600"
    assert found.tool_calls[0].arguments == {"q": ["a\ufffd"], "\ufffd": 1}
    assert found.reasoning[0].text == "\ufffd"
    whole = LMResponse((Completion("ä\U0001f600"),), Usage(), "m")
    assert mended(whole) is whole
    messages = (Message("user", "ä"), Message("user", "a"))
    assert mended_messages(messages) is messages


@pytest.mark.parametrize("where", ["question", "demonstration", "history", "instructions"])
async def test_what_users_bring_is_sent(where: str, tmp_path: Path) -> None:
    """Over a real socket, where bytes are UTF-8."""
    half = "caf\udce9"  # what Python makes of a file name in Latin-1
    program: Any = dspex.Predict("question, history: History -> answer", adapter="chat")
    inputs: dict[str, Any] = {"question": "q", "history": []}
    if where == "question":
        inputs["question"] = half
    elif where == "history":
        inputs["history"] = [{"question": half, "answer": "a"}]
    elif where == "demonstration":
        program = program.with_demos([{"question": half, "answer": "a"}])
    else:
        program = program.with_instructions(half)
    async with Simulator() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="k")
        async with dspex.App(lm, cache=tmp_path / "c.db") as app:
            assert isinstance((await app.run(program, **inputs)).answer, str)


async def test_a_stream_shows_the_character_whose_halves_came_apart() -> None:
    """And a half at the very end, as the value has it."""
    for text, value in (("a\ud83d\ude00b", "a\U0001f600b"), ("a\ud83d", "a\ufffd")):
        app = dspex.App(ScriptedLM([told(text)]), cache=None)
        async with app, app.stream(ASK, question="q") as stream:
            pieces = [each.text async for each in stream if isinstance(each, dspex.Delta)]
            assert (await stream.result()).answer == value
        assert "".join(pieces) == value


async def test_rows_and_jobs_survive_it(tmp_path: Path) -> None:
    """Rows that carry halves themselves, answers with halves: journalled, and not paid again."""
    lm = ScriptedLM(lambda request: told("a\ud83d"))
    rows = [{"id": "n\ud83d", "question": "caf\udce9", "answer": "x\ud83d"}]
    async with dspex.App(lm, cache=tmp_path / "c.db", home=tmp_path) as app:
        for _ in range(2):
            async with app.map(ASK, rows, journal=tmp_path / "rows.db") as results:
                (found,) = [each async for each in results]
            assert isinstance(found, dspex.Ok)
            assert found.value.answer == "a\ufffd"
        job = await app.compile(ASK, dspex.BootstrapFewShot(None, max_labeled_demos=2), trainset=rows, job="j")
        (await job.result()).save(tmp_path / "p.json")
        report = await app.evaluate(ASK, rows, lambda example, answer: 1.0)
    assert report.score == 1.0
    assert dspex.Predict("question -> answer").load(tmp_path / "p.json").demos[0]["answer"] == "a\ufffd"
    assert len(lm.requests) <= 3


async def test_tools_may_say_halves() -> None:
    """The text that a tool read from a file goes to the model."""

    def read(name: str) -> str:
        """Read."""
        return f"caf\udce9 {name}"

    script = [ToolCall("c1", "read", {"name": "a\ud83d"}, "{}"), {"tool": "finish", "arguments": {}}]
    lm = ScriptedLM({"react": script, "extract": [{"reasoning": "r", "answer": "a"}]})
    async with dspex.App(lm, cache=None) as app:
        assert (await app.run(dspex.ReAct("question -> answer", tools=[read]), question="q")).answer == "a"
    for request in lm.requests:
        repr(request.request.messages).encode()
