"""The LM client as an actor in virtual time: who is granted, who is refused, and what a settled lease teaches."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dspex.errors import (
    AuthFailed,
    CircuitOpen,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    TransportFailed,
)
from dspex.protocols.lm import Usage
from dspex.protocols.wire import Headroom
from dspex.runtime import Actor, Backoff, ChildSpec, Process, Runtime, Supervisor, TaskProcess, current_process
from dspex.services.lm.client import LMClient
from dspex.services.lm.lease_book import Acquire, Busy, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import Raise, RetryAfter, RetryPolicy
from dspex.testing import VirtualClock

START = 5000.0
FAR = 1e6


class Room:
    """Clients of one key under a supervisor, in virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.runtime = Runtime(clock=self.clock, seed=1)
        self.table = LeaseTable()
        self.events: list[tuple[str, dict[str, float], dict[str, Any]]] = []
        self.owner: Process

    async def start(self, *limits: ClientLimits, follow_latency: bool = False) -> None:
        self.runtime.open()
        self.runtime.telemetry.attach("dspex.lm.", lambda *each: self.events.append(each))
        specs = [
            ChildSpec(f"m{i}", LMClient, (f"m{i}", self.table, each, follow_latency), name=f"m{i}")
            for i, each in enumerate(limits)
        ]
        await self.runtime.start(Supervisor(specs, backoff=Backoff(initial=0.0, maximum=0.0)))
        self.owner = self.runtime.processes[(await self.runtime.start(Actor())).pid]

    def ask(self, model: str = "m0", attempt: int = 1, **options: Any) -> TaskProcess:
        """Ask for a lease in a process that then lives on, as a step on the wire does."""

        async def work() -> object:
            process = current_process()
            assert process is not None
            message = Acquire(process.ref, attempt, **{"deadline": FAR, **options})
            answer = await self.runtime.named(model).call(message, timeout=None)
            asked.append(answer)
            if isinstance(answer, Lease):
                await asyncio.get_running_loop().create_future()
            return answer

        asked: list[object] = []
        process = self.runtime.spawn_task(self.owner, work)
        self.answers[process] = asked
        return process

    @property
    def answers(self) -> dict[TaskProcess, list[object]]:
        """The answers that each asker got."""
        return self.__dict__.setdefault("_answers", {})  # type: ignore[no-any-return]  # filled above

    def told(self, process: TaskProcess) -> Any:
        """Return what an asker was told, None while it waits."""
        return self.answers[process][0] if self.answers[process] else None

    async def lease(self, model: str = "m0", **options: Any) -> Lease:
        """Return a lease that is granted at once."""
        process = self.ask(model, **options)
        await self.clock.settle()
        lease = self.told(process)
        assert isinstance(lease, Lease), lease
        return lease

    async def settle(
        self, lease: Lease, error: LMError | None = None, *, usage: Usage | None = None, attempt: int = 1, **more: Any
    ) -> RetryAfter | Raise | None:
        """Give a lease back as a call that was sent; return the verdict on its error."""
        lease.sent, lease.sent_at = True, lease.sent_at or self.clock.now()
        message = Settle(lease.id, error, attempt, FAR, usage, **more)
        client = self.runtime.named(lease.model)
        if error is None:
            client.cast(message)
            await self.clock.settle()
            return None
        verdict: RetryAfter | Raise = await client.call(message, timeout=None)
        await self.clock.settle()
        return verdict

    def actor(self, model: str = "m0") -> LMClient:
        ref = self.runtime.whereis(model)
        assert ref is not None
        actor = self.runtime.processes[ref.pid].actor  # type: ignore[attr-defined]  # an actor's process has one
        assert isinstance(actor, LMClient)
        return actor

    def named(self, name: str) -> list[tuple[dict[str, float], dict[str, Any]]]:
        """Return the events of a name."""
        return [(numbers, facts) for each, numbers, facts in self.events if each == name]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    yield made
    await made.runtime.close()


# --- buckets ------------------------------------------------------------------------------------------------


async def test_requests_a_minute_are_waited_for_to_the_tick(room: Room) -> None:
    """Two at once, the third when a half of a minute has flowed in."""
    await room.start(ClientLimits(rpm=2))
    for _ in range(2):
        await room.settle(await room.lease())
    third = room.ask()
    await room.clock.advance(29.9)
    assert room.told(third) is None
    await room.clock.advance(0.2)

    assert isinstance(room.told(third), Lease)


async def test_tokens_are_reserved_and_what_was_not_used_comes_back(room: Room) -> None:
    """The estimate is taken out before sending; usage corrects it."""
    await room.start(ClientLimits(tpm=1000))
    first = await room.lease(prompt=300, answer=600)
    second = room.ask(prompt=300, answer=600)
    await room.clock.settle()
    assert room.told(second) is None
    assert "100 of 1000 tokens/min left" in room.actor().describe()

    await room.settle(first, usage=Usage(80, 20))

    assert isinstance(room.told(second), Lease)


async def test_a_call_that_was_never_sent_costs_nothing(room: Room) -> None:
    """Neither a request nor a token, whether it is settled or its holder dies."""
    await room.start(ClientLimits(rpm=10, tpm=1000))
    process = room.ask(prompt=500)
    await room.clock.settle()
    process.ref.kill()
    await room.clock.settle()
    await room.settle(await room.lease(prompt=400), AuthFailed("no key was given"))

    assert "10 of 10 requests/min left, 1000 of 1000 tokens/min left" in room.actor().describe()


async def test_a_call_that_died_on_the_wire_is_charged_as_estimated(room: Room) -> None:
    """Sent and unknown: it may have been billed."""
    await room.start(ClientLimits(rpm=10, tpm=1000))
    process = room.ask(prompt=500, answer=100)
    await room.clock.settle()
    lease = room.told(process)
    lease.sent = True
    process.ref.kill()
    await room.clock.settle()

    assert "9 of 10 requests/min left, 400 of 1000 tokens/min left" in room.actor().describe()


async def test_a_call_that_can_never_fit_is_refused_at_once(room: Room) -> None:
    """It says what to do; nothing was sent."""
    await room.start(ClientLimits(tpm=1000))
    process = room.ask(prompt=200, answer=900)
    await room.clock.settle()

    refusal = room.told(process)
    assert isinstance(refusal, Raise)
    assert isinstance(refusal.error, RequestRejected)
    assert "lower max_tokens or raise tpm" in str(refusal.error)


async def test_limits_are_learned_from_headers_of_successes(room: Room) -> None:
    """Nobody gave any; the provider says 3 a minute and 1 left."""
    await room.start(ClientLimits())
    lease = await room.lease()
    lease.headroom = Headroom(requests=1, requests_reset=40.0, request_limit=3)
    await room.settle(lease)
    assert "1 of 3 requests/min left" in room.actor().describe()
    await room.lease()
    waiting = room.ask()
    await room.clock.advance(19.0)
    assert room.told(waiting) is None
    await room.clock.advance(1.1)

    assert isinstance(room.told(waiting), Lease)
    assert room.named("dspex.lm.rate_limit") == [({"requests": 3.0, "tokens": 0.0}, {"lm": "m0"})]


async def test_a_limit_by_the_day_is_told_from_one_by_the_minute(room: Room) -> None:
    """The reset says how fast a request comes back: 8.64 s each are 10,000 a day."""
    await room.start(ClientLimits())
    lease = await room.lease()
    lease.headroom = Headroom(requests=9_999, requests_reset=8.64, request_limit=10_000)
    await room.settle(lease)

    assert "9999 of 10000 requests/day left" in room.actor().describe()


async def test_learning_can_be_switched_off(room: Room) -> None:
    """Headers then narrow nothing but the number in flight."""
    await room.start(ClientLimits(learn=False))
    lease = await room.lease()
    lease.headroom = Headroom(requests=0, requests_reset=60.0, request_limit=3)
    await room.settle(lease)

    assert "requests" not in room.actor().describe()


async def test_a_restarted_client_begins_with_empty_buckets(room: Room) -> None:
    """Its predecessor may have used them up a moment ago."""
    await room.start(ClientLimits(rpm=60))
    held = await room.lease()
    ref = room.runtime.whereis("m0")
    assert ref is not None
    ref.kill()
    await room.clock.advance(0.01)
    assert room.actor().describe().startswith("1 of 16 in flight, 0 waiting, 0 of 60 requests/min left")
    waiting = room.ask()
    await room.clock.advance(0.9)
    assert room.told(waiting) is None
    await room.clock.advance(0.2)
    assert isinstance(room.told(waiting), Lease)

    await room.settle(held)
    assert room.actor().describe().startswith("1 of ")


# --- concurrency --------------------------------------------------------------------------------------------


async def test_a_restarted_client_waits_as_long_as_its_predecessor_was_asked_to(room: Room) -> None:
    """The provider's Retry-After outlives who heard it."""
    await room.start(ClientLimits())
    await room.settle(await room.lease(), RateLimited("slow", status=429, retry_after=5.0))
    await room.clock.advance(1.0)
    room.actor().ref.kill()
    await room.clock.settle()

    waits = room.ask()
    await room.clock.advance(3.9)
    assert room.told(waits) is None
    await room.clock.advance(0.1)
    assert isinstance(room.told(waits), Lease)


async def test_little_headroom_narrows_the_number_in_flight(room: Room) -> None:
    """Five of a hundred left is half of a tenth: half of the limit; an answer that says nothing lifts it."""
    await room.start(ClientLimits(max_in_flight=40, learn=False))
    lease = await room.lease()
    lease.headroom = Headroom(tokens=50, token_limit=1000)
    await room.settle(lease)
    assert room.actor().describe().startswith("0 of 20")

    await room.settle(await room.lease())
    assert room.actor().describe().startswith("0 of 40")


async def test_slower_answers_shrink_the_limit_of_a_server_that_tells_none(room: Room) -> None:
    """Ten times slower than it used to be, with the limit in use: a queue has built up there."""
    await room.start(ClientLimits(max_in_flight=32), follow_latency=True)

    async def batch(latency: float) -> None:
        leases = [await room.lease() for _ in range(20)]
        for lease in leases:
            lease.sent_at = room.clock.now()
            lease.begun_at = lease.sent_at + latency
            await room.settle(lease)

    await batch(0.1)
    assert room.actor().describe().startswith("0 of 32")
    for _ in range(3):
        await batch(1.0)

    limit = int(room.actor().describe().split()[2])
    assert 1 <= limit < 32
    assert [facts["reason"] for _, facts in room.named("dspex.lm.limit")][-1] == "ok"


async def test_slow_down_grows_by_half_in_a_quarter_of_an_hour(room: Room) -> None:
    """The provider minds the ramp, not the level."""
    await room.start(ClientLimits(max_in_flight=20))

    async def full_house() -> None:
        leases = [await room.lease() for _ in range(int(room.actor().describe().split()[2]))]
        for lease in leases:
            await room.settle(lease)

    await room.settle(await room.lease(), RateLimited("slow down", status=429, code="slow_down"))
    for _ in range(5):
        await full_house()
    assert room.actor().describe().startswith("0 of 14")
    await room.clock.advance(450)
    for _ in range(6):
        await full_house()
    assert room.actor().describe().startswith("0 of 17")
    await room.clock.advance(451)
    for _ in range(8):
        await full_house()
    assert room.actor().describe().startswith("0 of 20")


# --- waiting ------------------------------------------------------------------------------------------------


async def test_interactive_calls_go_before_an_optimizers_and_do_not_starve_them(room: Room) -> None:
    """All of the first ten grants, not all of the first two hundred."""
    await room.start(ClientLimits(max_in_flight=1))
    lease = await room.lease()
    slow = [room.ask(priority=10) for _ in range(3)]
    await room.clock.settle()
    quick = [room.ask(priority=0) for _ in range(200)]
    await room.clock.settle()
    assert "203 waiting (200 at priority 0, 3 at priority 10)" in room.actor().describe()
    order = []
    for _ in range(150):
        await room.settle(lease)
        process = next(each for each in [*slow, *quick] if room.told(each) and each not in order)
        order.append(process)
        lease = room.told(process)

    assert all(each in quick for each in order[:10])
    assert sum(each in slow for each in order) == 1


async def test_a_waiter_that_cannot_make_it_is_told_at_once(room: Room) -> None:
    """The provider wants 30 s of peace and its time is over in 10: waiting would be for nothing."""
    await room.start(ClientLimits(max_in_flight=1))
    lease = await room.lease()
    hopeless, hopeful = room.ask(deadline=START + 10.0), room.ask(deadline=START + 50.0)
    await room.clock.settle()
    await room.settle(lease, RateLimited("slow", status=429, retry_after=30.0))

    refusal = room.told(hopeless)
    assert isinstance(refusal, Raise)
    assert "m0 may be asked again in 30.0 s" in str(refusal.error)
    assert room.told(hopeful) is None
    newcomer = room.ask(deadline=START + 29.0)
    await room.clock.settle()
    assert isinstance(room.told(newcomer), Raise)
    await room.clock.advance(30.0)
    assert isinstance(room.told(hopeful), Lease)


async def test_a_caller_with_another_model_to_ask_does_not_wait(room: Room) -> None:
    """It is told how long it would be, where that is known."""
    await room.start(ClientLimits(max_in_flight=1, rpm=60))
    lease = await room.lease()
    full = room.ask(queue=False)
    await room.clock.settle()
    assert room.told(full) == Busy(math.inf)
    await room.settle(lease, RateLimited("slow", status=429, retry_after=7.0))
    paused = room.ask(queue=False)
    await room.clock.settle()
    assert room.told(paused) == Busy(7.0)


async def test_a_second_ask_is_refused_while_anything_is_amiss(room: Room) -> None:
    """Hedging into trouble makes more of it: a full house, or a breaker that is not closed."""
    await room.start(ClientLimits(max_in_flight=1), ClientLimits())
    await room.lease()
    room.ask()
    full = room.ask(hedge=True)
    await room.clock.settle()
    assert isinstance(room.told(full), Busy)
    for _ in range(10):
        await room.settle(await room.lease("m1"), ServerFailed("oh", status=500))
    await room.clock.advance(2.0)
    probing = room.ask("m1", hedge=True)
    await room.clock.settle()
    assert isinstance(room.told(probing), Busy)
    assert isinstance(await room.lease("m1"), Lease)


# --- the key ------------------------------------------------------------------------------------------------


async def test_an_empty_purse_answers_for_every_model_of_the_key(room: Room) -> None:
    """Also for those who wait; one probe after the cooldown finds out."""
    await room.start(ClientLimits(max_in_flight=1), ClientLimits(max_in_flight=1))
    first, other = await room.lease("m0"), await room.lease("m1")
    waiting = room.ask("m1")
    await room.clock.settle()
    verdict = await room.settle(first, QuotaExhausted("no credit left", status=429, code="insufficient_quota"))
    assert isinstance(verdict, Raise)
    refusal = room.told(waiting)
    assert isinstance(refusal, Raise)
    assert isinstance(refusal.error, QuotaExhausted)
    assert refusal.error.code == "insufficient_quota"
    assert str(refusal.error).startswith("no credit left (heard before, nothing was sent; the key is tried again in 30")
    await room.settle(other)
    assert "key refused (QuotaExhausted), next try in 30 s" in room.actor("m1").describe()

    await room.clock.advance(30.0)
    probe = await room.lease("m1")
    too_early = room.ask("m0")
    await room.clock.settle()
    assert isinstance(room.told(too_early), Raise)
    await room.settle(probe)

    assert isinstance(await room.lease("m0"), Lease)
    assert [facts["state"] for _, facts in room.named("dspex.lm.key")] == ["QuotaExhausted", "good"]


async def test_what_is_forbidden_for_one_model_is_not_for_the_others(room: Room) -> None:
    """403 says that this key may not ask this."""
    await room.start(ClientLimits(), ClientLimits())
    await room.settle(await room.lease("m0"), AuthFailed("not for you", status=403))
    refused = room.ask("m0")
    await room.clock.settle()

    assert isinstance(room.told(refused), Raise)
    assert isinstance(await room.lease("m1"), Lease)
    await room.clock.advance(30.0)
    await room.settle(await room.lease("m0"))
    assert isinstance(await room.lease("m0"), Lease)


async def test_a_probe_of_the_key_that_dies_frees_its_place(room: Room) -> None:
    """Its step was killed before the provider said anything."""
    await room.start(ClientLimits())
    await room.settle(await room.lease(), QuotaExhausted("no credit left", status=402))
    await room.clock.advance(30.0)
    process = room.ask()
    await room.clock.settle()
    assert isinstance(room.told(process), Lease)
    process.ref.kill()
    await room.clock.settle()

    assert isinstance(await room.lease(), Lease)


# --- the breaker --------------------------------------------------------------------------------------------


async def half_open(room: Room) -> Lease:
    """Open the breaker, wait for its cooldown and return the probe."""
    await room.start(ClientLimits())
    for _ in range(10):
        await room.settle(await room.lease(), ServerFailed("oh", status=500))
    refused = room.ask(deadline=START + 1.0)
    await room.clock.settle()
    assert isinstance(room.told(refused).error, CircuitOpen)
    await room.clock.advance(2.0)
    return await room.lease()


async def test_the_breaker_names_the_failure_that_it_speaks_for(room: Room) -> None:
    """Who is refused hears the cause, not that there was one."""
    await room.start(ClientLimits())
    for _ in range(10):
        await room.settle(await room.lease(), TransportFailed("http://localhost:1 refused the connection"))
    refused = room.ask(deadline=START + 0.5)
    await room.clock.settle()
    assert isinstance(room.told(refused).error, CircuitOpen)
    assert "nothing was sent. The last failure: http://localhost:1 refused the connection" in str(
        room.told(refused).error
    )


async def test_a_server_that_was_away_for_minutes_is_found_within_two_seconds(room: Room) -> None:
    """The probe before found nobody; the next is due a second later, and a caller who was told to wait waits less."""
    await half_open_failed(room, probes=120)
    waits = room.ask(deadline=START + 1_000.0)
    await room.clock.settle()
    told = room.told(waits)
    assert isinstance(told, RetryAfter)
    assert told.delay <= 2.0
    await room.clock.advance(1.0)
    await room.settle(await room.lease())  # the server is there
    assert isinstance(await room.lease(), Lease)
    assert isinstance(await room.lease(), Lease)


async def half_open_failed(room: Room, probes: int) -> None:
    probe = await half_open(room)
    for _ in range(probes):
        await room.settle(probe, ServerFailed("oh", status=503))
        await room.clock.advance(1.0)
        probe = await room.lease()
    await room.settle(probe, ServerFailed("oh", status=503))


@pytest.mark.parametrize("way", ["never sent", "cancelled", "restarted transport"])
async def test_a_probe_that_tells_nothing_leaves_the_breaker_half_open(room: Room, way: str) -> None:
    """The next call is the probe; a missing key or a cancelled caller is not proof of life."""
    probe = await half_open(room)
    match way:
        case "never sent":
            await room.settle(probe, AuthFailed("no key was given"))
        case "cancelled":
            await room.settle(probe, cancelled=True)
        case _:
            await room.settle(probe, ServerFailed("restarted", code="dspex"))

    assert "breaker half_open" in room.actor().describe()
    await room.settle(await room.lease())
    assert "breaker" not in room.actor().describe()


async def test_who_waits_for_a_probe_is_served_when_its_verdict_is_there(room: Room) -> None:
    """An answer of any kind but an outage proves the provider alive."""
    probe = await half_open(room)
    waiting = room.ask()
    await room.clock.settle()
    assert room.told(waiting) is None
    await room.settle(probe, RequestRejected("no", status=400))

    assert isinstance(room.told(waiting), Lease)
    states = [(facts["was"], facts["state"]) for _, facts in room.named("dspex.lm.breaker")]
    assert states == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


# --- retries ------------------------------------------------------------------------------------------------


async def test_a_provider_that_asks_for_minutes_gets_its_error_raised(room: Room) -> None:
    """The message says which setting decided; the client is paused for as long as it would have waited."""
    await room.start(ClientLimits(retry=RetryPolicy(max_retry_after=20.0)))
    verdict = await room.settle(await room.lease(), RateLimited("slow", status=429, retry_after=300.0))

    assert isinstance(verdict, Raise)
    assert str(verdict.error) == "slow (it asks for 300 s of patience; max_retry_after is 20 s)"
    assert verdict.error.retry_after == 300.0
    assert "paused for 20.0 s" in room.actor().describe()
