"""In any schedule of answers, failures, silences and kills, every request ends by its deadline plus one second."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

import dspex
from dspex._clock import Clock
from dspex.errors import TransportFailed
from dspex.protocols.executor import RunOptions
from dspex.protocols.money import Account
from dspex.requests import RequestRunner, Services, StepPolicy
from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.lm.gateway import LMGateway
from dspex.services.lm.limits import ClientLimits, LimitsBook
from dspex.services.lm.transport import HttpReply, HttpStream
from dspex.services.money.gateway import MoneyGateway
from dspex.services.money.ledger import LedgerBook
from dspex.testing import VirtualClock
from tests.support.programs import Ask, living

GRACE = 1.0
STEP = 0.25
ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
Fate = tuple[str, float]
fates = st.tuples(st.sampled_from(["ok", "ok", "429", "500", "reset", "hang", "nonsense"]), st.floats(0.0, 20.0))
requests = st.tuples(st.floats(0.0, 5.0), st.sampled_from([0.5, 2.0, 10.0, 31.7]))
kills = st.tuples(st.floats(0.0, 40.0), st.sampled_from(["client", "transport", "steps", "requests"]))


class Fated:
    """A transport whose attempts end as the schedule says, in virtual time; then all is well."""

    needs_key = False
    open_connections = stale_retries = 0

    def __init__(self, runtime: Runtime, schedule: list[Fate]) -> None:
        self._runtime = runtime
        self._schedule = schedule
        self.sent = 0

    async def post(self, *_: object, **__: object) -> HttpReply:
        """Wait, then answer."""
        kind, seconds = self._schedule[self.sent] if self.sent < len(self._schedule) else ("ok", 0.1)
        self.sent += 1
        if kind == "hang":
            await asyncio.get_running_loop().create_future()
        await self._runtime.sleep(seconds)
        if kind == "reset":
            raise TransportFailed("reset")
        error = {"error": {"message": "no"}}
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "ok": (200, {}, json.dumps(ANSWER).encode()),
            "429": (429, {"retry-after": f"{seconds:.0f}"}, json.dumps(error).encode()),
            "500": (500, {}, json.dumps(error).encode()),
            "nonsense": (200, {}, b"<html>"),
        }
        return HttpReply(*answers[kind])

    def stream(self, *_: object, **__: object) -> AbstractAsyncContextManager[HttpStream]:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing is open."""


class World:
    """A runner over the LM room, in virtual time."""

    def __init__(self, schedule: list[Fate]) -> None:
        self.clock = VirtualClock(100.0)
        self.runtime = Runtime(clock=self.clock, seed=1)
        self.transport = Fated(self.runtime, schedule)
        lm = dspex.LM("openai/model", api_base="http://nowhere/v1", api_key="key")
        limits = LimitsBook(ClientLimits(max_in_flight=2))
        self.gateway = LMGateway({"default": lm}, keys=lambda _: None, limits=limits, open_transport=self._open)
        money = MoneyGateway(self.runtime, LedgerBook(), self.gateway.members)
        nothing: Any = None  # neither retrieval nor tools are asked for
        services = Services(self.gateway, nothing, None, money, Account("all", None), nothing)
        self.runner = RequestRunner(self.runtime, services, policy=StepPolicy())

    def _open(self, _clock: Clock) -> Fated:
        return self.transport

    async def start(self) -> None:
        self.runtime.open()
        await self.runtime.start(Supervisor([self.gateway.spec(self.runtime), self.runner.spec()], backoff=Backoff()))

    def kill(self, what: str) -> None:
        """Kill whoever is called so."""
        if what == "steps":
            victims = living(self.runtime, "lm ")
        else:
            ending = {"client": "model", "transport": "transport", "requests": "requests"}[what]
            victims = [each for each in self.runtime.processes.values() if each.alive and each.label == ending]
        for victim in victims:
            victim.ref.kill()


async def play(schedule: list[Fate], wanted: list[tuple[float, float]], deaths: list[tuple[float, str]]) -> None:
    """Let requests come and parts die at their times, and look at every step of the clock who is overdue."""
    world = World(schedule)
    await world.start()
    clock, begun = world.clock, world.clock.now()
    coming, dying = sorted(wanted), sorted(deaths)
    open_: list[tuple[Any, float]] = []
    while coming or open_:
        passed = clock.now() - begun
        while coming and coming[0][0] <= passed:
            _, deadline = coming.pop(0)
            request = world.runner.start(Ask(), {"question": "q"}, RunOptions(deadline=deadline))
            open_.append((request, clock.now() + deadline))
        while dying and dying[0][0] <= passed:
            world.kill(dying.pop(0)[1])
        await clock.advance(STEP)
        open_ = [each for each in open_ if not each[0].done]
        for request, deadline in open_:
            assert clock.now() <= deadline + GRACE + STEP, request.details
    assert world.runner.live == {}
    tables = [account.table for account in world.gateway._endpoints.values()]
    await clock.advance(2.0)
    assert not any(table.leases for table in tables)
    assert living(world.runtime, "lm ") == []
    await world.runtime.close()


@given(
    schedule=st.lists(fates, max_size=25),
    wanted=st.lists(requests, min_size=1, max_size=8),
    deaths=st.lists(kills, max_size=12),
)
def test_no_request_outlives_its_deadline_by_more_than_the_grace(
    schedule: list[Fate], wanted: list[tuple[float, float]], deaths: list[tuple[float, str]]
) -> None:
    """Nor is a lease or a step left behind."""
    asyncio.run(play(schedule, wanted, deaths))
