"""A provider that goes away under a map or an evaluation, and comes back: real sockets, real restarts."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest

import dspex
from dspex.protocols.executor import Failed, Ok
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Simulator

App = dspex.App
ASK = dspex.Predict("question -> answer")
ONCE = dspex.ClientLimits(retry=RetryPolicy(max_attempts=1))
ROWS = [{"id": number, "question": f"q{number}"} for number in range(40)]


class Provider:
    """A server that can be taken away and put back at the same port."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.lm = dspex.LM("openai/rules-1", api_base=f"http://127.0.0.1:{self.port}/v1", api_key="key")
        self._up = AsyncExitStack()

    async def start(self) -> None:
        await self._up.enter_async_context(Simulator(port=self.port))

    async def stop(self) -> None:
        await self._up.aclose()


class Events:
    """The pauses of one App's rows."""

    def __init__(self, app: dspex.App) -> None:
        self.names: list[str] = []
        self.paused = asyncio.Event()
        app.telemetry.attach("dspex.rows.", self._note)

    def _note(self, name: str, *_: Any) -> None:
        self.names.append(name)
        self.paused.set()


async def test_a_map_pauses_while_its_provider_is_down_and_goes_on() -> None:
    """Not a row is lost, and none is run twice."""
    provider = Provider()
    await provider.start()
    async with App(provider.lm, cache=None, limits=ONCE) as app:
        events, results = Events(app), []
        async with app.map(ASK, ROWS, max_concurrency=4) as outcomes:
            async for outcome in outcomes:
                results.append(outcome)
                if len(results) == 5:
                    await provider.stop()
                    break
            restart = asyncio.ensure_future(_restart(provider, events))
            results += [outcome async for outcome in outcomes]
            await restart
    await provider.stop()
    assert all(isinstance(each, Ok) for each in results)
    assert {each.row["id"] for each in results} == set(range(40))
    assert len(results) == 40
    assert events.names[0] == "dspex.rows.pause"
    assert events.names[-1] == "dspex.rows.go"


async def test_an_evaluation_does_so_too() -> None:
    """The provider's fault is not held against the program's score."""
    provider = Provider()
    await provider.start()
    done = asyncio.Event()

    def metric(example: dspex.Example, prediction: Any) -> float:
        done.set()
        return 1.0

    async with App(provider.lm, cache=None, limits=ONCE) as app:
        events = Events(app)
        evaluation = asyncio.ensure_future(app.evaluate(ASK, ROWS, metric, max_concurrency=1, max_failed=0.0))
        await done.wait()
        await provider.stop()
        await _restart(provider, events)
        report = await evaluation
    await provider.stop()
    assert (report.score, len(report.failed)) == (1.0, 0)
    assert "dspex.rows.go" in events.names


async def _restart(provider: Provider, events: Events) -> None:
    await events.paused.wait()
    await provider.start()


@pytest.mark.parametrize("wait_out", [0.0, 0.3])
async def test_a_map_waits_no_longer_than_its_user_says(wait_out: float) -> None:
    """Then rows fail with the outage as the reason, and the map ends."""
    provider = Provider()
    await provider.start()
    async with App(provider.lm, cache=None, limits=ONCE) as app:
        events, results = Events(app), []
        async with app.map(ASK, ROWS[:8], max_concurrency=1, wait_out=wait_out) as outcomes:
            async for outcome in outcomes:
                results.append(outcome)
                if len(results) == 1:
                    await provider.stop()
    failed = [each for each in results if isinstance(each, Failed)]
    assert len(results) == 8
    assert len(failed) >= 6  # one may have been under way when the server left
    assert all("refused the connection" in str(each.reason) for each in failed[1:])
    assert bool(events.names) == bool(wait_out)


async def test_an_address_that_cannot_work_is_not_waited_for() -> None:
    """https at an http port: however patient the map is."""
    provider = Provider()
    await provider.start()
    lm = dspex.LM("openai/m", api_base=f"https://127.0.0.1:{provider.port}/v1")
    async with App(lm, cache=None, timeouts=dspex.Timeouts(connect=0.5)) as app:
        events = Events(app)
        async with app.map(ASK, ROWS[:2], wait_out=3600.0) as outcomes:
            results = [outcome async for outcome in outcomes]
    await provider.stop()
    assert [type(each) for each in results] == [Failed, Failed]
    assert "write api_base='http://" in str(results[0].reason)  # type: ignore[union-attr]  # a Failed
    assert not events.names
