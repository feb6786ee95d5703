"""The LM client's leases against a model: what is out is counted, within the limit, whatever dies."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex.errors import ActorExited, LMError, RateLimited, RequestRejected
from dspex.runtime import Actor, Backoff, ChildSpec, Process, Runtime, Supervisor, TaskProcess, current_process
from dspex.services.lm.client import LMClient
from dspex.services.lm.lease_book import Acquire, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits

LIMIT = 2
OUTCOMES: dict[str, LMError | None] = {"ok": None, "rejected": RequestRejected("no"), "limited": RateLimited("slow")}


class Caller:
    """One step that asks for a lease, or takes it out of the book at once, and settles it as it is told."""

    def __init__(self, table: LeaseTable, *, at_once: bool) -> None:
        self.table = table
        self.at_once = at_once
        self.process: TaskProcess
        self.lease: Lease | None = None
        self.told: asyncio.Future[str] = asyncio.get_event_loop().create_future()

    async def run(self, runtime: Runtime) -> None:
        process = current_process()
        assert process is not None
        client = runtime.named("client")
        book = self.table.books.get("m") if self.at_once else None
        self.lease = book.lend_at_once(process.ref, 1, 1e9, runtime.clock.now()) if book is not None else None
        if self.lease is not None:
            process.own(self.lease, lambda lease: lease.id in self.table.leases and client.send(lease))
        while self.lease is None:
            try:
                self.lease = await client.call(Acquire(process.ref, 1, 1e9), timeout=None)
            except ActorExited:
                continue
        self.lease.sent = True
        error = OUTCOMES[await self.told]
        message = Settle(self.lease.id, error, 1, 1e9)
        self.lease = None
        if error is None:
            client.cast(message)
        else:
            while True:
                try:
                    await client.call(message, timeout=None)
                    return
                except ActorExited:
                    continue


class LeaseMachine(RuleBasedStateMachine):
    """Callers come, settle and die; the client is killed."""

    @initialize()
    def start(self) -> None:
        """Start a supervised client in a loop of its own."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.callers: list[Caller] = []
        self.table = LeaseTable()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.runtime = Runtime(kill_budget=0.2, seed=1)
        self.runtime.open()
        limits = ClientLimits(max_in_flight=LIMIT)
        spec = ChildSpec("client", LMClient, ("m", self.table, limits), name="client")
        await self.runtime.start(Supervisor([spec], backoff=Backoff(initial=0.0, maximum=0.0)))
        self.owner: Process = self.runtime.processes[(await self.runtime.start(Actor())).pid]

    def settle_down(self) -> None:
        """Let everything happen that can."""

        async def turns() -> None:
            for _ in range(40):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def holders(self) -> list[Caller]:
        return [each for each in self.callers if each.lease is not None and each.process.alive]

    @rule(at_once=st.booleans())
    def call(self, at_once: bool) -> None:
        """Somebody asks for a lease."""

        async def begin() -> None:
            caller = Caller(self.table, at_once=at_once)
            caller.process = self.runtime.spawn_task(self.owner, caller.run, self.runtime)
            self.callers.append(caller)

        self.loop.run_until_complete(begin())
        self.settle_down()

    @rule(outcome=st.sampled_from(sorted(OUTCOMES)), which=st.integers(0, 9))
    def finish(self, outcome: str, which: int) -> None:
        """A holder's attempt ends."""
        holders = self.holders()
        if holders:
            holders[which % len(holders)].told.set_result(outcome)
            self.settle_down()

    @rule(which=st.integers(0, 9))
    def kill_a_caller(self, which: int) -> None:
        """A step dies with its lease, or in the queue."""
        alive = [each for each in self.callers if each.process.alive]
        if alive:
            alive[which % len(alive)].process.ref.kill()
            self.settle_down()

    @rule()
    def kill_the_client(self) -> None:
        """The client is killed; its successor adopts what is out."""
        ref = self.runtime.whereis("client")
        if ref is not None:
            ref.kill()
            self.settle_down()

    @invariant()
    def what_is_out_is_counted(self) -> None:
        """The table holds the leases of the living, and the limiter counts as many, never above the limit."""
        if not hasattr(self, "callers"):
            return
        held = {each.lease.id for each in self.holders() if each.lease is not None}
        assert set(self.table.leases) == held
        assert len(held) <= LIMIT
        ref = self.runtime.whereis("client")
        assert ref is not None
        client = self.runtime.processes[ref.pid].actor  # type: ignore[attr-defined]  # an actor's process has one
        limiter = client._book._limiter
        assert limiter.in_flight == len(held)
        waiting = [each for each in self.callers if each.process.alive and each.lease is None]
        assert not waiting or len(held) >= limiter.limit

    def teardown(self) -> None:
        """Close the loop with nothing left in it."""
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.runtime.close())
            assert not asyncio.all_tasks(self.loop)
            self.loop.close()
            asyncio.set_event_loop(None)


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(stateful_step_count=25, deadline=None)
