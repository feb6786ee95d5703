"""Pools, races and limits while their parts are killed: every call ends once, and nothing is held when all is done."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator

import pytest

import dspex
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import FaultKind, FaultPlan, Latency, Limits, Simulator
from tests.support.programs import Ask, Question, until

SHAKY = FaultPlan(
    latency=Latency(median=0.004, p95=0.06),
    shares={FaultKind.OVERLOADED: 0.1, FaultKind.RESET: 0.05, FaultKind.RATE_LIMIT: 0.05},
    retry_after=0.01,
)
QUICK = ClientLimits(max_in_flight=8, retry=RetryPolicy(base=0.005, cap=0.02), retry_share=10.0)


@pytest.fixture
async def simulators() -> AsyncIterator[list[Simulator]]:
    async with Simulator(faults=SHAKY) as one, Simulator(faults=SHAKY, limits=Limits(rpm=100_000)) as two:
        yield [one, two]


def pool(simulators: list[Simulator]) -> dspex.LMPool:
    members = tuple(
        dspex.LM(f"openai/{name}", api_base=simulator.url, api_key="key")
        for name, simulator in zip("ab", simulators, strict=True)
    )
    return dspex.LMPool(members, weights=(1.0, 1.0), hedge_after=0.02, hedge_share=0.5)


@pytest.mark.parametrize("victim", ["asks", "steps", "clients", "transports"])
async def test_calls_at_a_pool_end_once_whatever_is_killed(simulators: list[Simulator], victim: str) -> None:
    """A part falls at every tenth attempt (a transport at every fiftieth); answers come, or typed errors at worst."""
    draw = random.Random(7)
    app = dspex.App(pool(simulators), limits=QUICK, cache=None, seed=3, deadline=30.0)
    async with app:
        runtime = app.runtime
        endings = {"asks": " asks ", "steps": "lm answer", "clients": "/openai", "transports": "transport"}

        def is_victim(label: str) -> bool:
            if victim == "clients":
                return label in ("a", "b")
            if victim == "steps":
                return label.startswith("lm ") and " asks " not in label
            return endings[victim] in label

        killed = []
        attempts = itertools.count(1)

        def kill_one() -> None:
            found = [each for each in runtime.processes.values() if each.alive and is_victim(each.label)]
            if found:
                killed.append(draw.choice(found))
                killed[-1].ref.kill()

        def sometimes(*_: object) -> None:
            if next(attempts) % (50 if victim == "transports" else 10) == 0:
                runtime.loop.call_soon(kill_one)

        app.telemetry.attach("dspex.lm.attempt.start", sometimes)
        requests = [app.start(Ask(), question=f"q{number}") for number in range(150)]
        ends = await asyncio.gather(*requests, return_exceptions=True)

        answered = [each for each in ends if isinstance(each, Question)]
        failed = [each for each in ends if not isinstance(each, Question)]
        assert all(isinstance(each, dspex.DspexError) for each in failed), failed
        assert len(answered) >= 140, failed
        assert len(killed) >= 2
        accounts = app.running_tree().lm._endpoints.values()
        await until(lambda: not any(account.table.leases for account in accounts), "the leases to be given back")
        assert [each.label for each in runtime.processes.values() if " asks " in each.label] == []
        for request in requests:
            numbers = [attempt.number for attempt in request.details.attempts]
            assert len(set(numbers)) == len(numbers), request.details.attempts
        await until(
            lambda: all(
                node.note.startswith("0 of") for node in app.tree().walk() if node.label in ("a", "b") and node.note
            ),
            "the slots to be free",
        )
    for simulator in simulators:
        await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 0), 5)


async def test_a_limit_is_kept_while_its_client_is_killed_again_and_again() -> None:
    """A successor begins with empty buckets, so that no restart is a second burst."""
    # The provider's minute begins when the first request comes, ours when it leaves: six more are for seconds between.
    async with Simulator(limits=Limits(rpm=66)) as provider:
        lm = dspex.LM("openai/rules", api_base=provider.url, api_key="key")
        limits = ClientLimits(rpm=60, learn=False, retry=RetryPolicy(base=0.01, cap=0.05))
        async with dspex.App(lm, limits=limits, cache=None, deadline=3.0) as app:
            runtime = app.runtime
            started = 0

            def kill_the_client(*_: object) -> None:
                nonlocal started
                started += 1
                if started % 10 == 0:
                    for each in list(runtime.processes.values()):
                        if each.label == "rules" and each.alive:
                            runtime.loop.call_soon(each.ref.kill)

            app.telemetry.attach("dspex.lm.attempt.start", kill_the_client)
            ends = await asyncio.gather(
                *(app.run(Ask(), question=f"q{number}") for number in range(80)), return_exceptions=True
            )

        assert {type(each) for each in ends} <= {Question, dspex.RateLimited, dspex.DeadlineExceeded}
        seen = provider.stats().requests
        assert seen.get("ok", 0) >= 10
        assert set(seen) == {"ok"}, seen


async def test_waiting_calls_of_an_optimizer_let_interactive_ones_pass() -> None:
    """On the wire, not only in the waiting room: one slot, ten background calls waiting, then one person."""
    async with Simulator(faults=FaultPlan(latency=Latency(median=0.01))) as provider:
        lm = dspex.LM("openai/rules", api_base=provider.url, api_key="key")
        async with dspex.App(lm, limits=ClientLimits(max_in_flight=1), cache=None) as app:
            ended: list[str] = []

            async def run(name: str, priority: int) -> None:
                await app.options(priority=priority).run(Ask(), question=name)
                ended.append(name)

            background = [asyncio.ensure_future(run(f"b{number}", 10)) for number in range(10)]
            await until(lambda: any("9 waiting" in node.note for node in app.tree().walk()), "the queue")
            person = asyncio.ensure_future(run("person", 0))
            await asyncio.gather(person, *background)

        assert ended.index("person") <= 2
