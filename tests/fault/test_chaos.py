"""Many requests, a provider that fails and services that are killed all the time: nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

import dspex
from dspex.requests import Request
from dspex.runtime import ActorRef, Process, Runtime
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import FaultPlan, SimulatorProcess
from tests.support.programs import RAG, build_index, living

LIMITS = ClientLimits(retry=RetryPolicy(max_attempts=12), retry_share=2.0)
"""Six faulty answers in a row happen to one question in 16,000: here no call may run out of tries."""
FAULTS = FaultPlan(seed=1, rate_429=0.05, rate_500=0.05, rate_reset=0.05, rate_truncate=0.05, retry_after=0.1)


class Killer:
    """Kills whom ``choose`` names, every so many seconds, for as long as it is in force."""

    def __init__(self, runtime: Runtime, choose: Callable[[], Process | ActorRef | None], every: float) -> None:
        self._loop = runtime.loop
        self._choose = choose
        self._every = every
        self.kills = 0

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._every, self._kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        victim = self._choose()
        if victim is not None:
            (victim.ref if isinstance(victim, Process) else victim).kill()
            self.kills += 1
        self._timer = self._loop.call_later(self._every, self._kill)


async def answers_under_fire(folder: Path, count: int) -> tuple[list[object], int, int]:
    """Run ``count`` requests; return their results or errors, the kills, and the provider's requests."""
    async with SimulatorProcess(faults=FAULTS) as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        async with dspex.App(lm=lm, retriever=build_index(folder), limits=LIMITS, seed=1) as app:
            runtime = app.running_tree().runtime
            model = next(name for name in runtime._names if name.endswith("/rules"))
            names = itertools.cycle(["cache", model, "retrievers/default"])
            with Killer(runtime, lambda: runtime.whereis(next(names)), every=0.05) as killer:
                runs = [app.run(RAG(), question=f"thing with zebra{i % 100} {i}") for i in range(count)]
                results: list[object] = list(await asyncio.gather(*runs, return_exceptions=True))
            assert app.running_tree().runner.live == {}
            assert living(runtime, "lm ") == living(runtime, "retrieve ") == []
        sent = sum((await simulator.stats()).requests.values())
    return results, killer.kills, sent


async def test_requests_survive_faults_and_kills(tmp_path: Path) -> None:
    """With a fifth of the provider's answers faulty and a service killed every 50 ms, every request is answered."""
    results, kills, sent = await answers_under_fire(tmp_path, 300)

    failed = [each for each in results if isinstance(each, BaseException)]
    assert not failed, failed[:3]
    assert len(results) == 300
    assert kills > 3
    assert sent >= 300


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_thousand_requests_survive_faults_and_kills(tmp_path: Path) -> None:
    """The same with 2,000 requests: 2,000 results."""
    results, kills, sent = await answers_under_fire(tmp_path, 2_000)

    failed = [each for each in results if isinstance(each, BaseException)]
    assert not failed, failed[:3]
    assert len(results) == 2_000
    assert kills > 20
    assert sent < 2_000 * 1.5


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_thousand_requests_end_once_when_their_processes_are_killed(tmp_path: Path) -> None:
    """Killing request processes all the time gives one result or one RequestKilled each: never two, never none."""
    ends: list[str] = []
    async with SimulatorProcess(faults=FAULTS) as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        async with dspex.App(lm=lm, retriever=build_index(tmp_path), limits=LIMITS, seed=1) as app:
            runtime = app.running_tree().runtime

            def note(name: str, numbers: object, facts: object) -> None:
                if name.endswith((".stop", ".exception")):
                    ends.append(dict(facts)["request"])  # type: ignore[call-overload]  # the event table says a mapping

            app.telemetry.attach("dspex.request.", note)

            def victims() -> list[Process]:
                return [each for each in living(runtime, "r") if each.label.endswith(" RAG")]

            requests: list[Request[object]] = [app.start(RAG(), question=f"zebra{i}") for i in range(2_000)]
            with Killer(runtime, lambda: runtime.random.choice(victims() or [None]), every=0.005):
                outcomes = await asyncio.gather(*(request.outcome() for request in requests))

    killed = [each.reason for each in outcomes if isinstance(each, dspex.Failed)]
    assert {type(error) for error in killed} == {dspex.RequestKilled}
    assert len(killed) + sum(isinstance(each, dspex.Ok) for each in outcomes) == 2_000
    assert sorted(ends) == sorted(request.id for request in requests)
