"""The cache's single-flight against a model: one live leader per key, and everybody who waits gets an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex.errors import RequestRejected
from dspex.protocols.cache import Hit, Lead
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.runtime import Actor, Backoff, Process, Runtime, Supervisor, TaskProcess
from dspex.services.cache.gateway import CacheGateway
from dspex.services.cache.memory import MemoryTier

KEYS = ("a", "b")


def answer(key: str) -> LMResponse:
    return LMResponse((Completion(key),), Usage(1, 1), "rules-1")


class Asker:
    """One step that looks a key up, and as a leader does what it is told."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.process: TaskProcess
        self.lead: Lead | None = None
        self.told: asyncio.Future[str] = asyncio.get_event_loop().create_future()
        self.result: Any = None

    async def run(self, gateway: CacheGateway) -> None:
        found = await gateway.lookup(self.key, 1e9)
        if isinstance(found, Lead):
            self.lead = found
            order = await self.told
            self.lead = None
            if order == "fill":
                gateway.fill(found, answer(self.key))
                self.result = "filled"
            else:
                gateway.abandon(found, RequestRejected("no") if order == "fail" else None)
                self.result = "gave up"
        else:
            self.result = found


class CacheMachine(RuleBasedStateMachine):
    """Askers come, leaders fill, fail, give up or die, waiters die, and the server itself is killed."""

    @initialize()
    def start(self) -> None:
        """Start a supervised cache in a loop of its own."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.askers: list[Asker] = []
        self.filled: set[str] = set()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.runtime = Runtime(kill_budget=0.2)
        self.runtime.open()
        self.gateway = CacheGateway(self.runtime, memory=MemoryTier(), disk=None)
        quick = Backoff(initial=0.0, maximum=0.0)
        await self.runtime.start(Supervisor([self.gateway.spec()], backoff=quick))
        self.owner: Process = self.runtime.processes[(await self.runtime.start(Actor())).pid]

    def settle(self) -> None:
        """Let everything happen that can."""

        async def turns() -> None:
            for _ in range(40):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(key=st.sampled_from(KEYS))
    def ask(self, key: str) -> None:
        """Somebody looks a key up."""

        async def begin() -> None:
            asker = Asker(key)
            asker.process = self.runtime.spawn_task(self.owner, asker.run, self.gateway)
            self.askers.append(asker)

        self.loop.run_until_complete(begin())
        self.settle()

    def leaders(self) -> list[Asker]:
        return [each for each in self.askers if each.lead is not None and each.process.alive]

    @rule(order=st.sampled_from(["fill", "fail", "give up"]), which=st.integers(0, 9))
    def end_a_flight(self, order: str, which: int) -> None:
        """A leader fills, fails for everybody, or gives the lead away."""
        leaders = self.leaders()
        if leaders:
            leader = leaders[which % len(leaders)]
            leader.told.set_result(order)
            if order == "fill":
                self.filled.add(leader.key)
            self.settle()

    @rule(which=st.integers(0, 9))
    def kill_an_asker(self, which: int) -> None:
        """A step dies, as a leader or while it waits."""
        alive = [each for each in self.askers if each.process.alive]
        if alive:
            alive[which % len(alive)].process.ref.kill()
            self.settle()

    @rule()
    def kill_the_server(self) -> None:
        """The cache is killed and restarted; memory and flights are kept."""
        ref = self.runtime.whereis("cache")
        if ref is not None:
            ref.kill()
            self.settle()

    @invariant()
    def one_leader_and_nobody_stranded(self) -> None:
        """At most one leads a key; whoever still waits waits for a living leader."""
        if not hasattr(self, "askers"):
            return
        for key in KEYS:
            leaders = [each for each in self.leaders() if each.key == key]
            waiting = [each for each in self.askers if each.key == key and each.process.alive and each.lead is None]
            assert len(leaders) <= 1
            assert leaders or not waiting
            if key in self.filled:
                assert self.gateway.peek(key) == answer(key)

    @invariant()
    def results_are_right(self) -> None:
        """A value is the value of its key; a shared failure is the leader's error."""
        for each in getattr(self, "askers", []):
            if isinstance(each.result, Hit):
                assert each.result.response == answer(each.key)

    def teardown(self) -> None:
        """Close the loop with nothing left in it."""
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.runtime.close())
            assert not asyncio.all_tasks(self.loop)
            self.loop.close()
            asyncio.set_event_loop(None)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(stateful_step_count=25, deadline=None)


async def test_an_answer_outlives_a_server_that_is_killed_with_it_in_its_mailbox() -> None:
    """The message is lost with the mailbox; whoever asks again finds the answer all the same."""
    async with Runtime() as runtime:
        gateway = CacheGateway(runtime, memory=MemoryTier(), disk=None)
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff(initial=0.0, maximum=0.0)))
        owner = runtime.processes[(await runtime.start(Actor())).pid]
        asker = Asker("a")
        asker.told.set_result("fill")
        server = runtime.whereis("cache")
        assert server is not None

        async def fill_and_kill() -> None:
            await asker.run(gateway)
            server.kill()  # in the tick of the fill

        await runtime.spawn_task(owner, fill_and_kill).ref.wait_exit()
        await server.wait_exit()
        assert gateway.peek("a") == answer("a")
