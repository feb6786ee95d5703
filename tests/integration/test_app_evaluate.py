"""Evaluations over the network: what they cost, what they tell on the way, and how many rows they have in flight."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Iterator
from decimal import Decimal

import pytest

import dspex
from dspex.evaluation import Progress
from dspex.protocols.lm import LMRequest
from dspex.simulator import FaultPlan, Simulator, SimulatorThread
from dspex.testing import ScriptedLM
from tests.support.transports import Peer, serving

PRICES = {"openai/*": dspex.Price(input="0.25", output="2")}
ROWS = [{"question": f"echo {number}", "answer": str(number)} for number in range(12)]


def judged(example: dspex.Example, prediction: dspex.Prediction) -> bool:
    return bool(example.answer == prediction.answer)


class TestCost:
    async def test_it_is_the_sum_of_the_rows_to_the_last_digit(self) -> None:
        """And the last that was told of it on the way."""
        told = list[Progress]()
        async with Simulator() as simulator:
            lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
            async with dspex.App(lm, prices=PRICES) as app:
                ask = dspex.Predict("question -> answer")
                report = await app.evaluate(ask, ROWS, judged, on_progress=told.append)
                again = await app.evaluate(ask, ROWS, judged)

        usage = report.usage
        assert report.cost == (usage.input_tokens * Decimal("0.25") + usage.output_tokens * 2) / 1_000_000 > 0
        assert report.cost == sum(dspex.details(each.value).cost or 0 for each in report.scored)
        assert (told[-1].cost, told[-1].usage, told[-1].done) == (report.cost, usage, 12)
        assert (again.cost, again.usage.input_tokens) == (Decimal(0), 0)

    async def test_a_price_nobody_knows_stays_unknown(self) -> None:
        """The tokens are known all the same."""
        async with Simulator() as simulator:
            lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
            async with dspex.App(lm) as app:
                report = await app.evaluate(dspex.Predict("question -> answer"), ROWS, judged)

        assert report.cost is None
        assert report.usage.input_tokens > 0

    async def test_rows_that_failed_cost_what_was_paid(self) -> None:
        """Refused calls cost nothing, and leave the cost of the others known."""
        async with Simulator(faults=FaultPlan(rate_500=1.0)) as simulator:
            lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
            limits = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
            async with dspex.App(lm, prices=PRICES, limits=limits) as app:
                with pytest.raises(dspex.EvaluationError) as caught:
                    await app.evaluate(dspex.Predict("question -> answer"), ROWS, judged, wait_out=0)

        partial = caught.value.partial
        assert isinstance(partial, dspex.evaluation.Report)
        assert partial.cost == Decimal(0)


def test_plain_code_is_told_too() -> None:
    """In the App's thread; a line a row."""
    lines = list[str]()
    with SimulatorThread() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        with dspex.App(lm, prices=PRICES).sync() as app:
            ask = dspex.Predict("question -> answer")
            report = app.evaluate(ask, ROWS, judged, on_progress=lambda progress: lines.append(str(progress)))

    assert len(lines) == 12
    assert report.cost is not None
    assert lines[-1] == f"12 of 12 rows, score {report.score:.3f}, {report.cost:.6f} USD"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open the sockets of both sides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4_096:
        pytest.skip(f"a process may open only {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """A provider that answers nobody before so many calls are there at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: list[Peer] = []
        message = {"role": "assistant", "content": "yes"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}).encode()
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.answer += body

    def __call__(self, peer: Peer) -> None:
        self.waiting.append(peer)
        if len(self.waiting) == self.size:
            for each in self.waiting:
                each.transport.write(self.answer)
            self.waiting.clear()


@pytest.mark.parametrize("size", [300, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("many_files")
async def test_as_many_rows_are_in_flight_as_was_asked(size: int) -> None:
    """Nothing below lets fewer through, and a second evaluation finds every connection still open."""
    async with serving(Crowd(size)) as server:
        lm = dspex.LM("openai/crowd", api_base=server.url.removesuffix("/chat/completions"), api_key="key")
        limits = dspex.ClientLimits(max_in_flight=size)
        async with dspex.App(lm, cache=None, limits=limits) as app:
            rows = [{"question": f"the {number}th", "answer": "yes"} for number in range(size)]
            for _ in range(2):
                report = await asyncio.wait_for(
                    app.evaluate(dspex.Predict("question -> answer"), rows, judged, max_concurrency=size), 60
                )
                assert report.score == 1.0
            assert len(server.peers) == size


async def test_headroom_tries_formats_and_words_on_the_same_rows() -> None:
    """A model that answers only when it is told to be careful: words have headroom, formats have none."""

    def careful(request: LMRequest) -> dict[str, str]:
        return {"answer": "right" if "Read everything twice" in str(request.messages) else "wrong"}

    rows = [dspex.Example(question=str(number), answer="right") for number in range(20)]
    async with dspex.App(ScriptedLM(careful), cache=None) as app:
        found = await app.headroom(dspex.Predict("question -> answer"), dspex.exact_match(), rows)

    assert found.likely
    assert (found.score, found.variants[0].name, found.variants[0].by) == (0.0, "words: be careful", 1.0)
    assert [each.by for each in found.variants[1:]] == [0.0] * 5
    assert str(found).startswith("headroom likely: the program scores 0.000")
