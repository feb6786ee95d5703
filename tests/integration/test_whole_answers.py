"""An answer is believed only when it is whole: every protocol, whole answers and streams, programs and agents."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import dspex
from tests.support.provider_answers import (
    CUT,
    WHOLE,
    app_at,
    asked,
    call,
    calls,
    chat,
    claude,
    delta,
    events,
    failed,
    gemini,
    reply,
    responses,
    streamed,
)
from tests.support.transports import Answer, serving

ASK = dspex.Predict("question -> answer")
CLAUDE, GEMINI = "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash"
SEARCH = {"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": {"query": "x"}}
FINAL = f"[[ ## reasoning ## ]]\nr\n\n{WHOLE}"

CUTS: dict[str, tuple[str, Answer, Answer]] = {
    "chat": ("openai/m", chat(CUT, "length"), chat()),
    "chat, other words": ("openai/m", chat(CUT, "model_length"), chat()),
    "thoughts alone": ("openai/m", chat(None, "length", reasoning_content="hm"), chat()),
    "responses": ("openai-responses/m", responses(CUT, "incomplete", "max_output_tokens"), responses(WHOLE)),
    "anthropic": (CLAUDE, claude(stop="max_tokens", text=CUT), claude(stop="end_turn", text=WHOLE)),
    "window": (CLAUDE, claude(stop="model_context_window_exceeded", text=CUT), claude(stop="end_turn", text=WHOLE)),
    "gemini": (GEMINI, gemini({"text": CUT}, finish="MAX_TOKENS"), gemini({"text": WHOLE})),
}


UNSAID: dict[str, tuple[str, Answer, Answer]] = {
    "chat, without a text": ("openai/m", chat(None, None), chat()),
    "chat, with an empty text": ("openai/m", chat("", None), chat()),
    "chat, with thoughts alone": ("openai/m", chat(None, None, reasoning_content="hm"), chat()),
    "anthropic": (CLAUDE, claude(stop=None, text=CUT), claude(stop="end_turn", text=WHOLE)),
    "anthropic, without a text": (CLAUDE, claude(stop=None), claude(stop="end_turn", text=WHOLE)),
    "gemini, without a text": (GEMINI, gemini(finish=""), gemini({"text": WHOLE})),
}


@pytest.mark.parametrize("case", UNSAID)
async def test_an_answer_without_a_reason_that_is_not_whole_is_tried_again(case: str) -> None:
    """As a failure of the server: with the same question, and with ``ResponseInvalid`` at last."""
    model, unsaid, whole = UNSAID[case]
    async with serving(unsaid, whole, unsaid, unsaid) as server, app_at(server, model) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        first, second = asked(server)
        with pytest.raises(dspex.ResponseInvalid, match="no_reason_given"):
            await app.run(ASK, question="another")

    assert first == second


@pytest.mark.parametrize("answer", [chat(finish=None), chat(finish="null")])
async def test_a_text_without_a_reason_is_whole_where_servers_name_none(answer: Answer) -> None:
    async with serving(answer) as server, app_at(server) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        assert len(server.requests) == 1


def now() -> str:
    """Tell the time."""
    return "12:00"


@pytest.mark.parametrize("case", CUTS)
async def test_a_cut_answer_is_asked_for_again(case: str) -> None:
    """With a larger allowance, or as a shorter answer: never the same question again."""
    model, cut, whole = CUTS[case]
    async with serving(cut, whole) as server, app_at(server, model) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        first, second = asked(server)

    assert first != second


def gateway(content: str, finish: str | None, native: str | None, *, stream: bool = False) -> Answer:
    """An answer whose end is told twice: in the gateway's word, and in that of the model's provider."""
    ends = {"finish_reason": finish, "native_finish_reason": native}
    if stream:
        return events({"choices": [{"index": 0, "delta": {"content": content}, **dict.fromkeys(ends)}]}, last(ends))
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    return reply({"choices": [{"index": 0, "message": {"content": content}, **ends}], "usage": usage})


def last(ends: dict[str, str | None]) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": ""}, **ends}]}


@pytest.mark.parametrize("native", ["MAX_TOKENS", "max_tokens", "length", "max_output_tokens"])
async def test_the_providers_own_word_counts_where_the_gateways_says_whole(native: str) -> None:
    """Half a list is a list; a stream of which pieces were told ends in the error of one that was cut."""
    whole = gateway(WHOLE, "stop", "STOP")
    async with serving(gateway(CUT, "stop", native), whole) as server, app_at(server, "openrouter/a/b") as app:
        found = await app.run(ASK, question="q")
    async with serving(gateway(CUT, "stop", native, stream=True)) as server, app_at(server, "openrouter/a/b") as app:
        with pytest.raises(dspex.StreamInterrupted):
            await streamed(app, ASK, question="q")

    assert found.answer == "Paris"
    completion = dspex.details(found).completion
    assert completion is not None
    assert (completion.finish_reason, completion.native_reason) == ("stop", "STOP")
    assert "answer (stop, natively STOP)" in dspex.details(found).explain()


async def test_the_providers_own_word_is_kept_in_the_cache(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache.db")
    for _ in range(2):
        async with serving(gateway(WHOLE, None, "end_turn")) as server, app_at(server, cache=cache) as app:
            completion = dspex.details(await app.run(ASK, question="q")).completion
        assert completion is not None
        assert (completion.finish_reason, completion.native_reason) == ("stop", "end_turn")


@pytest.mark.parametrize("case", CUTS)
async def test_an_answer_that_stays_cut_is_an_error_and_is_not_kept(case: str, tmp_path: Path) -> None:
    model, cut, _ = CUTS[case]
    async with serving(cut) as server, app_at(server, model, cache=str(tmp_path / "cache.db")) as app:
        for times in (1, 2):
            with pytest.raises(dspex.ResponseIncomplete) as caught:
                await app.run(ASK, question="q")
            assert len(server.requests) == 3 * times
        async with app.map(ASK, [{"id": 1, "question": "q"}]) as rows:
            [row] = [each async for each in rows]

    assert caught.value.partial == ("" if case == "thoughts alone" else CUT)
    assert caught.value.attempts
    assert isinstance(row, dspex.Failed)
    assert isinstance(row.reason, dspex.ResponseIncomplete)


async def test_without_repair_turns_a_cut_answer_is_an_error_at_once() -> None:
    async with serving(chat(CUT, "length")) as server, app_at(server) as app:
        with pytest.raises(dspex.ResponseIncomplete):
            await app.run(ASK.with_config(repair_turns=0), question="q")
        assert len(server.requests) == 1


async def test_the_larger_allowance_keeps_to_the_budget() -> None:
    """A turn that the budget forbids is not asked for: the error is about the answer."""
    budget = dspex.Budget(tokens=600)
    async with serving(chat(CUT, "length")) as server, app_at(server, lm={"max_tokens": 100}, budget=budget) as app:
        with pytest.raises(dspex.ResponseIncomplete):
            await app.run(ASK, question="q")


async def test_where_a_larger_allowance_is_refused_a_shorter_answer_is_asked_for() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 1000}
    cut = reply({"choices": [{"finish_reason": "length", "message": {"content": CUT}}], "usage": usage})
    refused = failed(400, "max_tokens is too large: 4000. This model supports at most 1000", param="max_tokens")
    async with serving(cut, refused, chat()) as server, app_at(server, lm={"max_tokens": 1000}) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        assert [each["max_tokens"] for each in asked(server)] == [1000, 4000, 1000]
        assert "shorter" in asked(server)[2]["messages"][-1]["content"]


async def test_of_several_answers_the_cut_ones_are_left_out() -> None:
    choices = [
        {"index": at, "finish_reason": finish, "message": {"content": text}}
        for at, (text, finish) in enumerate([(CUT, "length"), (WHOLE, "stop")])
    ]
    async with (
        serving(reply({"choices": choices})) as server,
        app_at(server, lm={"capabilities": {"many": True}}) as app,
    ):
        prediction = await app.run(dspex.Predict("question -> answer", n=2), question="q")

    assert prediction.answer == "Paris"


async def test_a_cut_answer_teaches_nothing(tmp_path: Path) -> None:
    async with serving(chat(CUT, "length")) as server, app_at(server, home=tmp_path) as app:
        trainset = [dspex.Example(question="q", answer="x")]
        job = await app.compile(ASK, dspex.BootstrapFewShot(None), trainset=trainset, job="j")
        with pytest.raises(dspex.OptimizationError):
            await job.result()


# --- streams --------------------------------------------------------------------------------------------------


async def test_a_cut_stream_is_interrupted_with_its_attempts() -> None:
    async with serving(events(delta(CUT), delta(finish="length"))) as server, app_at(server) as app:
        with pytest.raises(dspex.StreamInterrupted) as caught:
            await streamed(app, ASK, question="q")

    assert isinstance(caught.value.reason, dspex.ResponseIncomplete)
    assert caught.value.partial == {"answer": "Paris and"}
    assert len(caught.value.attempts) == 1


async def test_a_cut_stream_starts_again_where_it_may() -> None:
    cut, whole = events(delta(CUT), delta(finish="length")), events(delta(WHOLE), delta(finish="stop"))
    async with serving(cut, whole) as server, app_at(server) as app:
        assert (await streamed(app.options(on_interrupt="reset"), ASK, question="q")).answer == "Paris"


async def test_the_marker_without_a_reason_is_no_end(tmp_path: Path) -> None:
    """A real server stops one stream for another like this: what came is neither the answer nor kept."""
    async with serving(events(delta(CUT))) as server, app_at(server, cache=str(tmp_path / "cache.db")) as app:
        for times in (1, 2):
            with pytest.raises(dspex.StreamInterrupted) as caught:
                await streamed(app, ASK, question="q")
            assert len(server.requests) == times

    assert isinstance(caught.value.reason, dspex.StreamTruncated)
    assert caught.value.attempts


async def test_a_reason_without_the_marker_is_an_end() -> None:
    async with serving(events(delta(WHOLE), delta(finish="stop"), done=False)) as server, app_at(server) as app:
        assert (await streamed(app, ASK, question="q")).answer == "Paris"


async def test_bytes_that_are_not_utf8_are_refused_in_streams_too() -> None:
    bad = b'{"choices":[{"index":0,"delta":{"content":"[[ ## answer ## ]]\\nPa\xffris"},"finish_reason":"stop"}]}'
    async with serving(events(bad)) as server, app_at(server) as app:
        with pytest.raises(dspex.ResponseInvalid, match="UTF-8"):
            await streamed(app, ASK, question="q")


# --- pauses, broken ends, empty turns ---------------------------------------------------------------------------


async def test_paused_turns_go_on() -> None:
    """The turn is sent back as it came; all of it is paid for."""
    paused = claude({"type": "text", "text": "Let me look"}, SEARCH, stop="pause_turn")
    async with serving(paused, paused, claude(stop="end_turn", text=WHOLE)) as server, app_at(server, CLAUDE) as app:
        prediction = await app.run(ASK, question="q")
        assert asked(server)[1]["messages"][-1]["content"][-1] == SEARCH

    assert prediction.answer == "Paris"
    assert dspex.details(prediction).usage.output_tokens == 15


async def test_an_answer_may_lie_on_both_sides_of_a_pause() -> None:
    first = claude({"type": "text", "text": "[[ ## a ## ]]\none"}, SEARCH, stop="pause_turn")
    second = claude(stop="end_turn", text="[[ ## b ## ]]\ntwo\n\n[[ ## completed ## ]]")
    async with serving(first, second) as server, app_at(server, CLAUDE) as app:
        prediction = await app.run(dspex.Predict("question -> a, b"), question="q")

    assert (prediction.a, prediction.b) == ("one", "two")


async def test_pauses_without_end_are_an_error() -> None:
    async with serving(claude(stop="pause_turn", text="hm")) as server, app_at(server, CLAUDE) as app:
        with pytest.raises(dspex.ResponseIncomplete, match="paused"):
            await app.run(ASK, question="q")


async def test_an_agent_goes_on_after_a_pause() -> None:
    paused = claude({"type": "text", "text": "hm"}, SEARCH, stop="pause_turn")
    script = [
        paused,
        claude({"type": "tool_use", "id": "t", "name": "now", "input": {}}, stop="tool_use"),
        claude({"type": "tool_use", "id": "u", "name": "finish", "input": {}}, stop="tool_use"),
        claude(stop="end_turn", text=FINAL),
    ]
    async with serving(*script) as server, app_at(server, CLAUDE) as app:
        prediction = await app.run(dspex.ReAct("question -> answer", tools=[now]), question="q")

    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert [step.call.name for step in trajectory] == ["now", "finish"]


@pytest.mark.parametrize(
    "word", ["error", "abort", "insufficient_system_resource", "function_call_filter: MALFORMED_FUNCTION_CALL", "new"]
)
async def test_a_broken_end_is_tried_again(word: str) -> None:
    async with serving(chat(CUT, word), chat()) as server, app_at(server) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"


@pytest.mark.parametrize("word", ["stop", "eos", "eos_token", "end_turn", "STOP", "COMPLETE", "stop_sequence", None])
async def test_the_usual_ends_are_whole(word: str | None) -> None:
    async with serving(chat(WHOLE, word)) as server, app_at(server) as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        assert len(server.requests) == 1


async def test_an_empty_turn_is_not_a_finished_agent() -> None:
    script = (chat(""), chat("  "), calls(call("now")), calls(call("finish")), chat(FINAL))
    async with serving(*script) as server, app_at(server, lm={"capabilities": {"tools": True}}) as app:
        prediction = await app.run(dspex.ReAct("question -> answer", tools=[now]), question="q")

    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert [step.call.name for step in trajectory] == ["now", "finish"]


async def test_an_agent_that_says_nothing_again_and_again_is_an_error() -> None:
    async with serving(gemini()) as server, app_at(server, GEMINI) as app:
        with pytest.raises(dspex.ResponseInvalid, match="neither text nor a call"):
            await app.run(dspex.ReAct("question -> answer", tools=[now]), question="q")


async def test_a_cut_call_is_not_carried_out() -> None:
    """Not even where its arguments happen to be whole: a second call may be missing."""
    made: list[str] = []

    def write(text: str) -> str:
        """Write it."""
        made.append(text)
        return "written"

    for arguments in ('{"text": "first half of', '{"text": "half"}'):
        cut = calls(call("write", arguments), finish="length")
        async with serving(cut) as server, app_at(server, lm={"capabilities": {"tools": True}}) as app:
            with pytest.raises(dspex.ResponseIncomplete):
                await app.run(dspex.ReAct("question -> answer", tools=[write]), question="q")

    assert made == []


async def test_a_refused_answer_is_not_asked_for_again() -> None:
    for word in ("content_filter", "sensitive", "content_filter: SAFETY"):
        async with serving(chat(CUT, word)) as server, app_at(server) as app:
            with contextlib.suppress(dspex.ContentRefused):
                await app.run(ASK, question="q")
            assert len(server.requests) == 1
