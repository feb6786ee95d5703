"""The rates of a model as a provider would count them: never more than a bucket, whoever dies."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import ActorExited, LMError, RateLimited, ServerFailed
from dspex.protocols.lm import Usage
from dspex.runtime import Actor, Backoff, ChildSpec, Crashed, Process, Runtime, Supervisor, TaskProcess, current_process
from dspex.services.lm.buckets import Bucket
from dspex.services.lm.client import LMClient
from dspex.services.lm.lease_book import Acquire, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits
from dspex.testing import VirtualClock

RPM, TPM = 6, 600
ENDS: dict[str, LMError | None] = {"ok": None, "limited": RateLimited("slow", status=429), "down": ServerFailed("oh")}

events = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 400), st.integers(0, 10)),
    st.tuples(st.just("pass"), st.integers(1, 45), st.just(0)),
    st.tuples(st.sampled_from(sorted(ENDS)), st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.sampled_from(["kill the client", "kill a caller", "kill a sender"]), st.integers(0, 9), st.just(0)),
)


class Caller:
    """One call: what it may take, and what the provider has seen of it."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.lease: Lease | None = None
        self.process: TaskProcess
        self.settled = False


class Provider:
    """Counts as providers do: the estimate when a call arrives; what it did not take comes back at its end."""

    def __init__(self, now: float) -> None:
        self.requests: list[float] = []
        self.tokens = Bucket(TPM, now=now)

    def arrive(self, tokens: int, now: float) -> None:
        """Take one call in, which must fit: its requests and tokens are there, in every stretch of time."""
        self.requests.append(now)
        for start in self.requests:
            within = sum(at >= start for at in self.requests)
            assert within <= RPM * (1 + (now - start) / 60) + 1e-3
        assert self.tokens.level(now) >= tokens - 1e-3
        self.tokens.take(tokens, now)


async def play(schedule: list[tuple[str, int, int]]) -> None:
    """Let callers come, send, settle and die, and the client too; the provider counts all of it."""
    clock, table, provider, callers = VirtualClock(900.0), LeaseTable(), Provider(900.0), list[Caller]()
    runtime = Runtime(clock=clock, seed=1)
    runtime.open()
    limits = ClientLimits(rpm=RPM, tpm=TPM)
    spec = ChildSpec("client", LMClient, ("m", table, limits), name="client")
    await runtime.start(Supervisor([spec], backoff=Backoff(initial=0.0, maximum=0.0)))
    owner: Process = runtime.processes[(await runtime.start(Actor())).pid]

    async def call(caller: Caller, priority: int) -> None:
        process = current_process()
        assert process is not None
        while caller.lease is None:
            try:
                message = Acquire(process.ref, 1, 1e9, priority, caller.tokens)
                answer: Any = await runtime.named("client").call(message, timeout=None)
            except ActorExited:
                continue
            if not isinstance(answer, Lease):
                return
            caller.lease = answer
        caller.lease.sent, caller.lease.sent_at = True, clock.now()
        provider.arrive(caller.tokens, clock.now())
        await asyncio.get_running_loop().create_future()

    for kind, number, more in schedule:
        sending = [each for each in callers if each.lease is not None and not each.settled and each.process.alive]
        if kind == "ask":
            callers.append(caller := Caller(number))
            caller.process = runtime.spawn_task(owner, call, caller, more)
        elif kind == "pass":
            await clock.advance(float(number))
        elif kind == "kill the client":
            ref = runtime.whereis("client")
            if ref is not None:
                ref.kill()
        elif kind in ("kill a caller", "kill a sender"):
            found = sending if kind == "kill a sender" else [each for each in callers if each.process.alive]
            if found:
                found[number % len(found)].process.ref.kill()
        elif sending:
            caller = sending[number % len(sending)]
            assert caller.lease is not None
            caller.settled = True
            usage = Usage(caller.tokens * more // 100, 0) if kind == "ok" else None
            runtime.named("client").cast(Settle(caller.lease.id, ENDS[kind], 1, 1e9, usage))
            if kind != "down":  # the provider knows now, too; what it refused took no tokens
                used = usage.total_tokens if usage is not None else 0
                provider.tokens.correct(caller.tokens - used, clock.now())
        await clock.settle()
    failed = [each.process.exit_reason for each in callers if isinstance(each.process.exit_reason, Crashed)]
    assert not failed
    await runtime.close()


@settings(max_examples=40)
@given(st.lists(events, max_size=40))
def test_a_provider_never_counts_more_than_the_limits_allow(schedule: list[tuple[str, int, int]]) -> None:
    """Whatever comes, settles and dies in whatever order, the client itself included."""
    asyncio.run(play(schedule))
