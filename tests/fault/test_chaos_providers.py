"""
Two providers that fail in every way the simulator knows, while the parts that talk to them are killed in turn.

These things must hold: every request ends exactly once, in its own answer or a typed error that lists its attempts; the
provider is asked no more often than the attempts tell; and afterwards everything is as it was at the start.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import dspex
from dspex.protocols.lm import Attempt
from dspex.runtime import Runtime
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import LOCAL, RetryPolicy
from dspex.simulator import Arrival, FaultKind, FaultPlan, SimulatorProcess
from tests.fault.test_chaos import Killer
from tests.support.programs import Ask, Question, collect, living, until

KEY_FAULTS = {FaultKind.UNAUTHORIZED, FaultKind.FORBIDDEN, FaultKind.QUOTA, FaultKind.BILLING}
"""After one of these the whole key rests, so that nothing else would be seen: they have a test of their own."""
RARE = {FaultKind.HANG: 0.001, FaultKind.HANG_BODY: 0.001, FaultKind.SLOW_DOWN: 0.002}
"""Each of these takes long, or makes all that follows slow."""
OTHERS = [kind for kind in FaultKind if kind is not FaultKind.NONE and kind not in KEY_FAULTS and kind not in RARE]
SHARES = RARE | dict.fromkeys(OTHERS, (0.3 - sum(RARE.values())) / len(OTHERS))
QUICK = ClientLimits(max_in_flight=500, retry=RetryPolicy(base=0.02, cap=0.2))
TRIES = QUICK.retry.max_attempts
CALLS = 3
"""A request's most: the first, the turn that shows the model what was wrong, and the fallback's format."""
DEADLINE = 60.0
"""Far longer than five hundred at once take on a slow machine, so that only what hangs runs out of time."""
REPAIR = "Your answer could not be read"
"""The simulator's model says what it is asked, here by us, to have an empty answer written again."""
ENDS = (dspex.LMError, dspex.DeadlineExceeded, dspex.StreamInterrupted, dspex.ResponseUnparsable)


def plans(shares: dict[FaultKind, float]) -> Iterator[FaultPlan]:
    """One plan after another: each resets after another byte and fails other requests."""
    for seed, byte in enumerate(itertools.cycle((0, 1, 9, 17, 40, 120, 200, 333, 512))):
        yield FaultPlan(
            seed=seed,
            shares=shares,
            retry_after=0.02,
            retry_form="milliseconds",
            reset_after_bytes=byte,
            piece=31 + seed % 7,
            pause=0.002,
        )


def nothing_was_sent(outcome: object) -> bool:
    """True when an error says that the call waited in vain, so that it has no attempts to list."""
    told_by_us = isinstance(outcome, dspex.LMError) and outcome.code == LOCAL
    return told_by_us or isinstance(outcome, (dspex.DeadlineExceeded, dspex.CircuitOpen))


@dataclass
class Tally:
    """The outcomes of the requests."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    attempts: dict[str, tuple[Attempt, ...]] = field(default_factory=dict)
    wrong: list[object] = field(default_factory=list)

    def note(self, request: str, question: str, outcome: object, attempts: tuple[Attempt, ...]) -> None:
        """Note how a request has ended, and what is wrong with it."""
        self.attempts[request] = attempts
        if isinstance(outcome, Question):
            self.answered += 1
            if outcome.answer != question and not outcome.answer.startswith(REPAIR):
                self.wrong.append(f"{request} asked {question!r} and was told {outcome.answer!r}")
        elif isinstance(outcome, ENDS):
            self.failed[type(outcome).__name__] += 1
            told = tuple(outcome.attempts) if isinstance(outcome, dspex.LMError) else attempts
            if attempts[len(attempts) - len(told) :] != told or not (told or nothing_was_sent(outcome)):
                self.wrong.append(f"{request}: {outcome!r} tells of {told}, the request of {attempts}")
        else:
            self.wrong.append(outcome)


class Crowd:
    """Callers of one App: each asks one question after another, of both models, streamed or whole."""

    def __init__(self, app: dspex.App, tally: Tally) -> None:
        self._tally = tally
        self._views = [app.options(lm=name, deadline=DEADLINE) for name in ("chat", "messages")]
        self._ask = Ask()

    async def ask(self, count: int, at_once: int) -> None:
        """Ask so many questions, so many at a time."""
        left = iter(range(count))

        async def caller() -> None:
            for number in left:
                await self._one(number, f"What of zebra {number}?")

        await asyncio.gather(*(caller() for _ in range(at_once)))

    async def _one(self, number: int, question: str) -> None:
        view = self._views[number % 2]
        if number % 5:
            request = view.start(self._ask, question=question)
            outcome: object = await asyncio.gather(request, return_exceptions=True)
            self._tally.note(request.id, question, outcome[0], request.details.attempts)  # type: ignore[index]  # a list
            return
        async with view.stream(self._ask, question=question) as stream:
            try:
                async for _ in stream:
                    pass
                outcome = await stream.result()
            except Exception as error:
                outcome = error
            request = stream.request
            self._tally.note(request.id, question, outcome, request.details.attempts)


@dataclass(frozen=True)
class State:
    """The things that may be left behind."""

    tasks: int
    files: int
    objects: int
    processes: int

    @classmethod
    def of(cls, runtime: Runtime) -> State:
        """Count them now."""
        gc.collect()
        return cls(
            tasks=len(asyncio.all_tasks()),
            files=len(list(Path("/proc/self/fd").iterdir())),
            objects=len(gc.get_objects()),
            processes=len(runtime.processes),
        )


async def at_rest(app: dspex.App) -> None:
    """Wait until no request, step or lease is left and every killed part is back."""
    tree = app.running_tree()
    tables = [account.table for account in tree.lm._endpoints.values()]
    await until(lambda: not tree.runner.live and not living(tree.runtime, "lm "), "the requests to end", 30)
    await until(lambda: not any(table.leases for table in tables), "the leases to be settled")
    await until(lambda: all(table.channel is not None for table in tables), "the transports to be back")


def victims(app: dspex.App) -> Iterator[str]:
    """The names of both clients and both transports, in turn."""
    names = []
    for account in app.running_tree().lm._endpoints.values():
        names += [account.client_name("rules"), account.transport_name]
    return itertools.cycle(names)


async def change_plans(simulator: SimulatorProcess, shares: dict[FaultKind, float]) -> None:
    """Change the plan again and again, until cancelled."""
    for plan in plans(shares):
        await simulator.set_faults(plan)
        await asyncio.sleep(0.5)  # how often it changes; nothing waits for that


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorProcess]:
    async with SimulatorProcess() as running:
        yield running


def app_at(simulator: SimulatorProcess, limits: ClientLimits = QUICK) -> dspex.App:
    urls = simulator.urls
    lms = {
        "chat": dspex.LM("openai/rules", api_base=urls["openai"], api_key="key"),
        "messages": dspex.LM("anthropic/rules", api_base=f"{urls['anthropic']}/v1", api_key="key"),
    }
    return dspex.App(lms=lms, limits=limits, cache=None, seed=1)


def calls_of(attempts: tuple[Attempt, ...]) -> list[list[Attempt]]:
    """Part a request's attempts by its logical calls, each of which counts from 1; only the last may have made none."""
    calls: list[list[Attempt]] = []
    for attempt in attempts:
        if attempt.number == 1:
            calls.append([])
        calls[-1].append(attempt)
    return calls


def misfits(tally: Tally, arrivals: tuple[Arrival, ...], tries: int = TRIES) -> list[str]:
    """
    Return the logical calls of which the provider saw something else than their attempts tell.

    A request makes several: an answer that cannot be read is asked for again, with as many tries as the first.
    """
    arrived: dict[str, Counter[int | None]] = {}
    for arrival in arrivals:
        _, _, call = arrival.call.partition("-")  # without the mark of the account
        arrived.setdefault(call, Counter())[arrival.attempt] += 1
    found = []
    for request, all_attempts in tally.attempts.items():
        calls = calls_of(all_attempts)
        for number, attempts in enumerate(calls, 1):
            seen = arrived.pop(f"{request}-{number}", Counter())
            told = Counter(each.number for each in attempts)
            answered = Counter(each.number for each in attempts if each.status is not None)
            last = attempts[-2].outcome if len(attempts) > 1 else ""  # what a closed connection takes of the last try
            fits = list(told) == list(range(1, len(attempts) + 1)) and answered <= seen <= told
            if not fits or len(attempts) > tries + (last == "resent"):
                found.append(f"{request}-{number}: the provider saw {dict(seen)} of {attempts}")
        if len(calls) > CALLS:
            found.append(f"{request}: {len(calls)} calls")
    found += [f"{call}: the provider saw {dict(seen)}, nothing was told" for call, seen in arrived.items()]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.allow_blocking("looks at all that has come of ten thousand requests, and collects garbage, in one turn")
async def test_ten_thousand_requests_over_two_wires_end_once_each(simulator: SimulatorProcess) -> None:
    """10,000 requests at 500 in flight, 30 % faults of every kind, a client or transport killed every 100 ms."""
    ends: Counter[str] = Counter()
    tally = Tally()
    async with app_at(simulator) as app:
        runtime = app.running_tree().runtime
        await Crowd(app, Tally()).ask(1_000, at_once=500)  # what is loaded and kept once is there from now on
        await at_rest(app)
        before = State.of(runtime)
        await simulator.reset()

        with collect(app, "dspex.request.") as events:
            names = victims(app)
            changing = asyncio.ensure_future(change_plans(simulator, SHARES))
            with Killer(runtime, lambda: runtime.whereis(next(names)), every=0.1) as killer:
                await Crowd(app, tally).ask(10_000, at_once=500)
            changing.cancel()
            await asyncio.wait([changing])
            await at_rest(app)
        ends.update(facts["request"] for name, facts in events if name.endswith((".stop", ".exception")))
        events.clear()
        arrivals = await simulator.arrivals()

        assert not tally.wrong, (len(tally.wrong), tally.wrong[:3])
        assert tally.answered + tally.failed.total() == 10_000
        assert tally.answered > 8_000, tally.failed
        assert ends == Counter(dict.fromkeys(tally.attempts, 1))
        assert killer.kills > 20
        seen = {arrival.outcome for arrival in arrivals}
        assert {kind.value for kind in OTHERS} - {"close", "split", "drip"} <= seen, seen
        assert len(arrivals) < 20_000, "the simulator keeps no more: what it has forgotten cannot be judged"
        assert not (wrong := misfits(tally, arrivals)), (len(wrong), wrong[:3])

        made = (sum(len(each) for each in tally.attempts.values()), len(arrivals), tally.failed, killer.kills)
        tally.attempts.clear()
        del arrivals, ends
        after = State.of(runtime)
        assert after.tasks <= before.tasks, made
        assert after.processes == before.processes
        assert after.files <= before.files + 2
        assert after.objects <= before.objects + 5_000
    await asyncio.wait_for(no_connections(simulator), 10)


async def test_a_key_that_is_refused_again_and_again_rests_whatever_is_killed(simulator: SimulatorProcess) -> None:
    """Refused keys and empty accounts end calls at once, sent or not; the provider is not asked again and again."""
    tally = Tally()
    shares = dict.fromkeys(KEY_FAULTS, 0.02)
    async with app_at(simulator) as app:
        await simulator.set_faults(FaultPlan(shares=shares))
        names, runtime = victims(app), app.running_tree().runtime
        with Killer(runtime, lambda: runtime.whereis(next(names)), every=0.02):
            await Crowd(app, tally).ask(500, at_once=50)
        await at_rest(app)
        arrivals = await simulator.arrivals()

    refused = {"AuthFailed", "PermissionDenied", "QuotaExhausted", "StreamInterrupted"}
    assert tally.answered + tally.failed.total() == 500
    assert set(tally.failed) <= refused | {"TransportFailed"}
    assert tally.failed.total() > 100
    assert all(isinstance(each, str) and "tells of ()" in each for each in tally.wrong), tally.wrong[:3]
    assert len(arrivals) < 500
    assert not (wrong := misfits(tally, arrivals)), (len(wrong), wrong[:3])


async def test_every_call_of_a_request_has_tries_of_its_own(simulator: SimulatorProcess) -> None:
    """An answer without a choice is asked for again: the second call is tried as often as the first, and no oftener."""
    tally = Tally()
    limits = ClientLimits(max_in_flight=50, retry=RetryPolicy(max_attempts=2, base=0.001, cap=0.002))
    async with app_at(simulator, limits) as app:
        await simulator.set_faults(FaultPlan(shares={FaultKind.EMPTY: 0.4, FaultKind.MALFORMED: 0.05}))
        await Crowd(app, tally).ask(500, at_once=50)
        await at_rest(app)
        arrivals = await simulator.arrivals()

    assert tally.answered + tally.failed.total() == 500
    assert not (wrong := misfits(tally, arrivals, tries=2)), (len(wrong), wrong[:3])
    assert {len(calls_of(attempts)) for attempts in tally.attempts.values()} == {1, 2, 3}
    assert max(map(len, tally.attempts.values())) > 3, "no request made more than one call could"


async def no_connections(simulator: SimulatorProcess) -> None:
    """Wait until every connection but the one that asks is closed."""
    while (await simulator.stats()).connections > 1:  # noqa: ASYNC110 - the state is another process's
        await asyncio.sleep(0.01)  # between two looks
