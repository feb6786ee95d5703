"""When an answer begins: with a stream's first token, with another answer's first byte, and never with a head alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

import dspex
from dspex.errors import CircuitOpen, TransportFailed
from dspex.requests import Request
from dspex.services.lm.leases import Lease
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import Ask, collect, until
from tests.support.streaming import Talk

CHAT = "/v1/chat/completions"
HEAD_ONLY = Fault(kind=FaultKind.HANG_BODY, after_bytes=0)
QUICK = ClientLimits(retry=RetryPolicy(base=0.01, cap=0.05))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def other() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def model(simulator: Simulator, name: str = "rules") -> dspex.LM:
    return dspex.LM(f"openai/{name}", api_base=simulator.url, api_key="key")


class Held(httpx.AsyncBaseTransport):
    """Answers with a head at once, and with a piece of the body each time one is put."""

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.wanted = 0
        """How many pieces were asked for: the first when the head had been read."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer; an empty piece is the end."""

        async def body() -> AsyncIterator[bytes]:
            while True:
                self.wanted += 1
                piece = await self.pieces.get()
                if not piece:
                    return
                yield piece

        return httpx.Response(200, headers={"content-type": self.content_type}, content=body())

    async def put(self, piece: bytes) -> None:
        """Give a piece, and wait until it was read."""
        wanted = self.wanted
        self.pieces.put_nowait(piece)
        await until(lambda: self.wanted > wanted, "the piece to be read")


def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).encode()


def only_lease(app: dspex.App) -> Lease:
    (account,) = app.running_tree().lm._endpoints.values()
    (lease,) = account.table.leases.values()
    return lease


@pytest.mark.parametrize(
    "first", [{"content": "a"}, {"reasoning_content": "hm"}, {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}]
)
async def test_a_stream_begins_with_its_first_token(first: dict[str, Any]) -> None:
    """Of text, thoughts or a call; a head, a ping and the role come while the model has not begun."""
    held = Held("text/event-stream")
    async with dspex.App(dspex.LM("openai/m", api_key="k"), transport=held, cache=None) as app:
        request = app.start(Talk(), text="x")
        await until(lambda: held.wanted, "the head")
        await held.put(b": ping\n\n")
        await held.put(event({"role": "assistant", "content": ""}))
        assert only_lease(app).begun_at is None
        await held.put(event(first))
        assert only_lease(app).begun_at is not None
        await held.put(event({}, "stop") + b"data: [DONE]\n\n")
        held.pieces.put_nowait(b"")
        await request

    (attempt,) = request.details.attempts
    assert attempt.first_byte is not None
    assert 0 < attempt.first_byte <= attempt.duration


async def test_an_answer_that_is_not_streamed_begins_with_its_first_byte() -> None:
    """Some servers send the head before the model has begun."""
    said = {"content": "a"}
    body = json.dumps({"choices": [{"message": said, "finish_reason": "stop"}]}).encode()
    held = Held("application/json")
    async with dspex.App(dspex.LM("openai/m", api_key="k"), transport=held, cache=None) as app:
        request = app.start(Ask(), question="q")
        await until(lambda: held.wanted, "the head")
        assert only_lease(app).begun_at is None
        await held.put(body[:9])
        assert only_lease(app).begun_at is not None
        await held.put(body[9:])
        held.pieces.put_nowait(b"")
        await request

    (attempt,) = request.details.attempts
    assert attempt.first_byte is not None
    assert 0 < attempt.first_byte <= attempt.duration


def asking(app: dspex.App, *, streamed: bool) -> Request[Any]:
    return app.start(Talk(), text="q") if streamed else app.start(Ask(), question="q")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_provider_that_hangs_after_its_head_has_first_byte_seconds(
    simulator: Simulator, streamed: bool
) -> None:
    """Not ``read``, which is long: the attempt fails, and the next one is sent."""
    simulator.set_faults(FaultPlan(script={CHAT: (HEAD_ONLY,)}))
    timeouts = dspex.Timeouts(read=60.0, first_byte=0.2)
    async with dspex.App(model(simulator), timeouts=timeouts, limits=QUICK, cache=None) as app:
        request = asking(app, streamed=streamed)
        await request

    failed, answered = request.details.attempts
    assert (failed.outcome, failed.first_byte, answered.outcome) == ("TransportFailed", None, "ok")
    assert "had not begun to answer after 0.2 s" in failed.message


async def test_a_provider_that_hangs_after_its_head_is_an_outage(simulator: Simulator) -> None:
    """Ten of them open the breaker: the next caller is told at once, and nothing is sent."""
    simulator.set_faults(FaultPlan(script={CHAT: (HEAD_ONLY,) * 10}))
    timeouts = dspex.Timeouts(read=60.0, first_byte=0.2)
    limits = ClientLimits(retry=RetryPolicy(max_attempts=1))
    async with dspex.App(model(simulator), timeouts=timeouts, limits=limits, cache=None) as app:
        silent = [app.start(Talk(), text=f"q{number}") for number in range(10)]
        for request in silent:
            with pytest.raises(TransportFailed, match="had not begun"):
                await request
        with pytest.raises(CircuitOpen):
            await app.run(Talk(), text="q")
    assert sum(simulator.stats().requests.values()) == 10


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_second_one_is_asked_when_the_first_has_sent_its_head_alone(
    simulator: Simulator, other: Simulator, streamed: bool
) -> None:
    """A head wins no race."""
    simulator.set_faults(FaultPlan(script={CHAT: (HEAD_ONLY,)}))
    pool = dspex.LMPool((model(simulator, "a"), model(other, "b")), hedge_after=0.1, hedge_share=1.0)
    async with dspex.App(pool, limits=QUICK, cache=None) as app:
        request = asking(app, streamed=streamed)
        await request
        await simulator.wait_until(lambda stats: stats.in_flight == 0)

    assert [(each.lm, each.outcome) for each in request.details.attempts] == [
        ("openai/b", "ok"),
        ("openai/a", "cancelled"),
    ]


async def test_no_second_one_is_asked_after_the_first_token(simulator: Simulator, other: Simulator) -> None:
    """However slow the rest is: the reader has a piece, and would get another answer."""
    simulator.set_faults(FaultPlan(script={CHAT: (Fault(gap=0.1),)}))
    pool = dspex.LMPool((model(simulator, "a"), model(other, "b")), hedge_after=0.2, hedge_share=1.0)
    async with dspex.App(pool, limits=QUICK, cache=None) as app:
        with collect(app, "dspex.lm.hedge") as hedges:
            talk = Talk()
            await app.run(talk, text="one two three four")

    assert (len(talk.texts) > 2, hedges, other.stats().requests) == (True, [], {})
