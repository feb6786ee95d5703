"""A model that answers by itself, under kills: steps, retries and streams are those of every model."""

from __future__ import annotations

import asyncio

import pytest

import dspex
from dspex.protocols.lm import LMDelta, LMRequest, LMResponse
from dspex.protocols.local import LocalLM
from dspex.protocols.scope import OnDelta
from dspex.testing import ScriptedLM
from tests.fault.test_kill_table import kill_all
from tests.support.programs import Ask, living, until


class Held:
    """A script that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def __call__(self, request: LMRequest) -> dict[str, str]:
        self.asked += 1
        await self.go.wait()
        return {"answer": f"Ada {self.asked}"}


async def test_killed_step_is_restarted_and_asks_again() -> None:
    """Nothing was read yet; the attempt that was lost is listed."""
    held = Held()
    async with dspex.App(ScriptedLM(held)) as app:
        request = app.start(Ask(), question="Who?")
        await until(lambda: held.asked == 1, "the first question")
        kill_all(app.runtime, "lm answer")
        held.go.set()
        assert (await request).answer == "Ada 2"
        assert [each.outcome for each in request.details.attempts] == ["killed", "ok"]


class Pausing(LocalLM):
    """Writes one piece, and then nothing."""

    __slots__ = ()

    async def respond(self, request: LMRequest, *, path: str, attempt: int, on_delta: OnDelta | None) -> LMResponse:
        assert on_delta is not None
        await on_delta(LMDelta(text="Once upon a time there was "))
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it never ends by itself")


async def test_killed_step_after_a_piece_ends_the_stream() -> None:
    """There is no second answer behind the reader's back."""
    async with dspex.App(Pausing("local/pausing")) as app:
        with pytest.raises(dspex.StreamInterrupted, match="step died after pieces") as caught:
            async with app.stream(Ask(), question="Who?") as stream:
                await anext(stream)
                kill_all(app.runtime, "lm answer")
                async for _ in stream:
                    pass
    assert str(caught.value.partial["answer"]).startswith("Once")
    assert [each.outcome for each in stream.request.details.attempts] == ["killed"]


async def test_cancelled_request_leaves_nothing() -> None:
    """The model's started work is given up before the cancellation travels on."""
    held = Held()
    async with dspex.App(ScriptedLM(held)) as app:
        async with app.stream(Ask(), question="Who?"):
            await until(lambda: held.asked == 1, "the question")
        assert living(app.runtime, "lm ") == []
        late = app.options(deadline=0.05)
        with pytest.raises(dspex.DeadlineExceeded):
            await late.run(Ask(), question="Why?")
        assert living(app.runtime, "lm ") == []


async def test_same_question_at_once_is_asked_once() -> None:
    """Single-flight is the cache's, whoever answers."""
    held = Held()
    async with dspex.App(ScriptedLM(held)) as app:
        requests = [app.start(Ask(), question="Who?") for _ in range(10)]
        await until(lambda: held.asked == 1, "the question")
        held.go.set()
        assert {(await each).answer for each in requests} == {"Ada 1"}
    assert held.asked == 1
