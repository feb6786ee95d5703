"""
The effect of killing each part of the tree, row by row of the design's table.

Everything is real: the App, loopback sockets, the simulator. Parts are killed at points that events and the
simulator's own counts make certain; no test waits for a time to pass.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

import dspex
from dspex.requests import Request
from dspex.retrieval import Hybrid
from dspex.runtime import ActorRef, Runtime
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import RAG, Ask, Question, build_index, collect, living, until

CHAT = "/v1/chat/completions"
HANG = Fault(kind=FaultKind.HANG)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def app_for(simulator: Simulator, **arguments: object) -> dspex.App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    quick = ClientLimits(retry=RetryPolicy(base=0.01, cap=0.05))
    return dspex.App(lm=lm, **{"limits": quick, **arguments})  # type: ignore[arg-type]  # the App's own arguments


def runtime_of(app: dspex.App) -> Runtime:
    return app.running_tree().runtime


def actor(app: dspex.App, ending: str) -> ActorRef:
    """Return the live actor whose label is ``ending``."""
    runtime = runtime_of(app)
    found = [each for each in runtime.processes.values() if each.label == ending and each.alive]
    assert len(found) == 1, found
    ref = found[0].ref
    assert isinstance(ref, ActorRef)
    return ref


def kill_all(runtime: Runtime, prefix: str) -> None:
    for process in living(runtime, prefix):
        process.ref.kill()


def hang_once(count: int = 1) -> FaultPlan:
    return FaultPlan(script={CHAT: (HANG,) * count})


async def on_the_wire(simulator: Simulator, count: int = 1) -> None:
    await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight >= count), 10)


async def off_the_wire(simulator: Simulator) -> None:
    await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 0), 10)


# --- the caller ---------------------------------------------------------------------------------------------


async def test_cancelled_caller_leaves_no_process_and_no_open_call(simulator: Simulator) -> None:
    """Cancelling the caller stops the tree below it before the cancellation travels on."""
    simulator.set_faults(hang_once())
    async with app_for(simulator) as app:
        caller = asyncio.ensure_future(app.run(Ask(), question="q"))
        await on_the_wire(simulator)
        caller.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(caller, 3)  # the deadline is a minute away

        assert living(runtime_of(app), "lm ") == living(runtime_of(app), "r1 ") == []
        assert app.running_tree().runner.live == {}
        await off_the_wire(simulator)
        lm = actor(app, "rules")
        await until(lambda: lm._process.actor.describe().startswith("0 of"), "the lease to be settled")


async def test_deadline_releases_the_caller(simulator: Simulator) -> None:
    """A request whose provider hangs ends by its deadline and little more, with the deadline's error."""
    simulator.set_faults(hang_once())
    async with app_for(simulator) as app:
        request = app.options(deadline=1.0).start(Ask(), question="q")
        with pytest.raises(dspex.DeadlineExceeded):
            await asyncio.wait_for(request, 4)

        assert [attempt.outcome for attempt in request.details.attempts] == ["cancelled"]
        await off_the_wire(simulator)


async def test_deadline_releases_the_caller_of_a_program_that_swallows_cancellation(simulator: Simulator) -> None:
    """Code that will not end is fenced; its caller hears of the deadline all the same."""
    stop = asyncio.Event()

    class Stubborn(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self) -> str:
            while not stop.is_set():
                try:
                    await stop.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

    async with app_for(simulator) as app:
        with pytest.raises(dspex.DeadlineExceeded):
            await app.options(deadline=0.05).run(Stubborn())
        stop.set()
        await until(lambda: not runtime_of(app).zombies, "the zombie to end")


# --- requests -----------------------------------------------------------------------------------------------


async def test_killed_request_supervisor_kills_its_requests_once(simulator: Simulator) -> None:
    """Requests end as RequestKilled at their callers and are never run again; new ones find the new supervisor."""
    simulator.set_faults(hang_once())
    async with app_for(simulator) as app:
        request = app.start(Ask(), question="q")
        await on_the_wire(simulator)
        actor(app, "requests").kill()

        with pytest.raises(dspex.RequestKilled):
            await request
        again = await app.run(Ask(), question="another")

        assert isinstance(again, Question)
        assert simulator.stats().requests.get("ok") == 1


async def test_run_parks_while_the_request_supervisor_is_away(simulator: Simulator) -> None:
    """A request accepted while the supervisor is being restarted starts when it is back."""
    async with app_for(simulator) as app:
        actor(app, "requests").kill()
        await until(lambda: runtime_of(app).whereis("requests") is None)

        assert isinstance(await app.run(Ask(), question="q"), Question)


async def test_request_killed_before_forward_is_run_again(simulator: Simulator) -> None:
    """Nothing of it has happened yet, so it is submitted once more and its caller sees nothing."""
    async with app_for(simulator) as app:
        with collect(app, "dspex.request.resubmit") as events:
            request = app.start(Ask(), question="q")
            living(runtime_of(app), "r1 ")[0].ref.kill()
            await request

        assert len(events) == 1
        assert request.details.resubmitted == 1


async def test_request_killed_twice_before_forward_is_killed(simulator: Simulator) -> None:
    """It is submitted again once, not for ever."""
    async with app_for(simulator) as app:

        def kill_again(*_: object) -> None:
            runtime_of(app).loop.call_soon(kill_all, runtime_of(app), "r1 ")

        app.telemetry.attach("dspex.request.resubmit", kill_again)
        request = app.start(Ask(), question="q")
        living(runtime_of(app), "r1 ")[0].ref.kill()

        with pytest.raises(dspex.RequestKilled):
            await request


async def test_request_killed_in_forward_reports_its_attempts_and_has_no_steps_left(simulator: Simulator) -> None:
    """After forward has begun a kill is final; the steps are dead before the request is."""
    failure = Fault(kind=FaultKind.SERVER_ERROR)
    simulator.set_faults(FaultPlan(script={CHAT: (failure, HANG)}))
    async with app_for(simulator) as app:
        request = app.start(Ask(), question="q")
        await until(lambda: request.details.attempts, "the first attempt's end")
        await on_the_wire(simulator)
        process = living(runtime_of(app), "r1 ")[0]
        steps = list(process.children)
        process.on_dead(lambda: steps.append(process) if all(step.dead for step in steps) else None)
        process.ref.kill()

        with pytest.raises(dspex.RequestKilled) as caught:
            await request

        outcomes = [attempt.outcome for attempt in caught.value.attempts]  # type: ignore[attr-defined]
        assert outcomes == ["ServerFailed", "cancelled"]
        assert steps[-1] is process
        await off_the_wire(simulator)


async def test_killing_request_processes_gives_one_end_each(simulator: Simulator, tmp_path: Path) -> None:
    """Never two results, never none: each request ends in its result or in one RequestKilled."""
    async with app_for(simulator, retriever=build_index(tmp_path)) as app:
        runtime = runtime_of(app)
        ends: list[tuple[str, dict[str, object]]]

        def kill_every_third(_: str, __: object, facts: object) -> None:
            request_id = str(dict(facts)["call"]).partition("-")[0]  # type: ignore[call-overload]  # a mapping
            if int(request_id[1:]) % 3 == 0:
                runtime.loop.call_soon(kill_all, runtime, f"{request_id} ")

        app.telemetry.attach("dspex.lm.attempt.start", kill_every_third)
        with collect(app, "dspex.request.") as ends:
            requests: list[Request[object]] = [app.start(RAG(), question=f"zebra{i}") for i in range(120)]
            outcomes = await asyncio.gather(*(request.outcome() for request in requests))

        killed = [each.reason for each in outcomes if isinstance(each, dspex.Failed)]
        answered = [each for each in outcomes if isinstance(each, dspex.Ok)]
        assert (len(killed), len(answered)) == (40, 80)
        assert {type(error) for error in killed} == {dspex.RequestKilled}
        finals = [facts["request"] for name, facts in ends if name.endswith((".stop", ".exception"))]
        assert sorted(map(str, finals)) == sorted(request.id for request in requests)


# --- steps --------------------------------------------------------------------------------------------------


async def test_step_killed_while_it_waits_for_a_lease_is_restarted_and_nothing_is_paid(simulator: Simulator) -> None:
    """Its place in the queue is given up; the provider sees one request from it in all."""
    simulator.set_faults(hang_once())
    one_at_a_time = ClientLimits(max_in_flight=1)
    async with app_for(simulator, limits=one_at_a_time) as app:
        holder = app.start(Ask(), question="holds the only lease")
        await on_the_wire(simulator)
        waiting = app.start(Ask(), question="waits")
        lm = actor(app, "rules")
        await until(lambda: "1 waiting" in lm._process.actor.describe(), "the queue")
        living(runtime_of(app), "lm answer")[-1].ref.kill()
        await until(lambda: waiting.details.step_restarts == 1, "the restart")
        holder.cancel()

        assert isinstance(await waiting, Question)
        assert len(waiting.details.attempts) == 1
        assert simulator.stats().requests.get("ok") == 1


async def test_step_killed_on_the_wire_is_sent_again_under_the_same_key(simulator: Simulator) -> None:
    """Its socket is closed; the possible second charge is counted and reported."""
    simulator.set_faults(hang_once())
    async with app_for(simulator) as app:
        with collect(app, "dspex.lm.unknown_charge") as charges:
            request = app.start(Ask(), question="q")
            await on_the_wire(simulator)
            living(runtime_of(app), "lm answer")[0].ref.kill()
            await off_the_wire(simulator)
            await request

        assert [attempt.outcome for attempt in request.details.attempts] == ["killed", "ok"]
        assert len(charges) == 1
        record = app.running_tree().runner.live.get(request.id)
        assert record is None


async def test_step_killed_after_the_parse_answers_unsent(simulator: Simulator) -> None:
    """The response was written down in the tick it was parsed, so that the restarted step returns it."""
    async with app_for(simulator) as app:

        def kill_the_step(*_: object) -> None:
            for step in living(runtime_of(app), "lm answer"):
                step.ref.kill()

        app.telemetry.attach("dspex.lm.attempt.stop", kill_the_step)
        request = app.start(Ask(), question="q")

        assert isinstance(await request, Question)
        assert request.details.step_restarts == 1
        assert simulator.stats().requests == {"ok": 1}


async def test_step_that_is_killed_too_often_crashes_typed(simulator: Simulator) -> None:
    """The restart budget is three; the fourth kill is StepCrashed."""
    simulator.set_faults(FaultPlan(rate_hang=1.0))
    async with app_for(simulator) as app:
        request = asyncio.ensure_future(app.run(Ask(), question="q"))
        for _ in range(4):
            await until(lambda: living(runtime_of(app), "lm answer") or request.done(), "the step")
            for step in living(runtime_of(app), "lm answer"):
                step.ref.kill()

        with pytest.raises(dspex.StepCrashed) as caught:
            await request
        assert caught.value.restarts == 3


# --- services -----------------------------------------------------------------------------------------------


async def test_killed_lm_client_costs_no_attempt(simulator: Simulator) -> None:
    """Running attempts go on untouched, waiters ask again by name, and the number in flight is not forgotten."""
    slow = Fault(delay=0.3)
    simulator.set_faults(FaultPlan(script={CHAT: (slow, slow)}))
    async with app_for(simulator, limits=ClientLimits(max_in_flight=2)) as app:
        requests = [app.start(Ask(), question=f"q{i}") for i in range(3)]
        await on_the_wire(simulator, 2)
        name = lm_name(app)
        actor(app, "rules").kill()
        await until(lambda: runtime_of(app).whereis(name) is None, "the old client's end")
        await until(lambda: runtime_of(app).whereis(name) is not None, "the new client")
        assert actor(app, "rules")._process.actor.describe().startswith("2 of")

        await asyncio.gather(*requests)

        assert [len(request.details.attempts) for request in requests] == [1, 1, 1]
        assert simulator.stats().requests == {"ok": 3}


def lm_name(app: dspex.App) -> str:
    return next(name for name in runtime_of(app)._names if name.endswith("/rules"))


async def test_killed_transport_is_a_transport_failure_and_retried(simulator: Simulator) -> None:
    """Its attempts end at once, the retry policy sends them again over the new one."""
    simulator.set_faults(hang_once())
    async with app_for(simulator) as app:
        request = app.start(Ask(), question="q")
        await on_the_wire(simulator)
        actor(app, "transport").kill()

        assert isinstance(await request, Question)
        assert [attempt.outcome for attempt in request.details.attempts] == ["TransportFailed", "ok"]
        assert request.details.step_restarts == 0


async def test_killed_cache_costs_neither_answers_nor_flights(simulator: Simulator) -> None:
    """Waiters look again by name and still share the leader's one call; the answer is kept."""
    simulator.set_faults(FaultPlan(script={CHAT: (Fault(delay=0.3),)}))
    async with app_for(simulator, cache="memory") as app:
        requests = [app.start(Ask(), question="same") for _ in range(5)]
        await on_the_wire(simulator)
        table = app.running_tree().cache
        assert table is not None
        await until(lambda: sum(len(each.waiters) for each in table.table.flights.values()) == 4, "the waiters")
        actor(app, "cache").kill()
        answers = await asyncio.gather(*requests)

        assert simulator.stats().requests == {"ok": 1}
        assert all(answer == answers[0] for answer in answers)
        again = app.start(Ask(), question="same")
        await again
        assert again.details.cached_calls == 1


async def test_leader_that_is_cancelled_hands_its_lead_on(simulator: Simulator) -> None:
    """The next waiter computes; nobody waits for a dead leader."""
    simulator.set_faults(hang_once())
    async with app_for(simulator, cache="memory") as app:
        leader, waiter = (app.start(Ask(), question="same") for _ in range(2))
        await on_the_wire(simulator)
        table = app.running_tree().cache
        assert table is not None
        await until(lambda: any(each.waiters for each in table.table.flights.values()), "the waiter")
        leader.cancel()

        assert isinstance(await waiter, Question)
        assert waiter.details.calls == 1
        assert waiter.details.cached_calls == 0


class SlowIndex:
    """A retriever that stays in its first search until it is let go."""

    def __init__(self) -> None:
        self.searching = threading.Event()
        self.release = threading.Event()
        self.searches = 0

    def search(self, query: str, k: int) -> Sequence[dspex.Passage]:
        self.searches += 1
        if self.searches == 1:
            self.searching.set()
            assert self.release.wait(10)
            return [dspex.Passage("late", "late")]
        return [dspex.Passage("good", "good")]

    def close(self) -> None:
        pass


async def test_killed_retriever_repeats_the_search_and_drops_the_late_result(simulator: Simulator) -> None:
    """The step searches again; what the old thread brings later reaches nobody."""
    index = SlowIndex()

    class Look(dspex.Module):
        def __init__(self) -> None:
            self.retrieve = dspex.Retrieve(k=1)

        async def forward(self, query: str) -> list[str]:
            return [passage.title for passage in await self.retrieve(query)]

    async with app_for(simulator, retriever=index) as app:
        request = app.start(Look(), query="q")
        await until(index.searching.is_set, "the search")
        actor(app, "default").kill()
        await until(lambda: not living(runtime_of(app), "search"), "the search's end")
        index.release.set()

        assert await request == ["good"]
        assert request.details.step_restarts >= 1


class SlowVectors(SlowIndex):
    """One whose vectors a model makes."""

    embedder = "openai/rules"

    def search(self, query: str, k: int, *, vector: Sequence[float] | None = None) -> Sequence[dspex.Passage]:
        assert vector is not None
        return super().search(query, k)


async def test_killed_retriever_costs_no_second_embedding(simulator: Simulator) -> None:
    """The vector of the query is made before the step that is repeated."""
    index = SlowVectors()
    index.embedder = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")  # type: ignore[assignment]
    async with app_for(simulator, retriever=index, cache=None) as app:
        request = app.start(dspex.Retrieve(), query="q")
        await until(index.searching.is_set, "the search")
        actor(app, "default").kill()
        await until(lambda: not living(runtime_of(app), "search"), "the search's end")
        index.release.set()

        assert [each.title for each in await request] == ["good"]
        assert simulator.stats().requests == {"ok": 1}


class AsyncIndex:
    """An async retriever that stays in its first search for ever."""

    def __init__(self) -> None:
        self.searching = asyncio.Event()
        self.searches = 0
        self.cancelled = 0

    async def search(self, query: str, k: int) -> Sequence[dspex.Passage]:
        self.searches += 1
        if self.searches == 1:
            self.searching.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return [dspex.Passage("good", "good")]

    async def close(self) -> None:
        pass


async def test_killed_async_retriever_ends_its_search_and_repeats_it(simulator: Simulator) -> None:
    """No task of it goes on; a part of a hybrid is killed alone."""
    index, other = AsyncIndex(), SlowIndex()
    other.searches = 1
    async with app_for(simulator, retriever=Hybrid({"slow": index, "other": other})) as app:
        request = app.start(dspex.Retrieve(), query="q")
        await index.searching.wait()
        actor(app, "default/slow").kill()

        assert [each.title for each in await request] == ["good"]
        assert (index.searches, index.cancelled) == (2, 1)
        assert other.searches == 2


async def test_closing_app_gives_every_caller_an_end(simulator: Simulator) -> None:
    """New runs are refused, quick ones finish, the others end as AppClosed, each once."""
    slow = Fault(delay=0.2)
    simulator.set_faults(FaultPlan(script={CHAT: (HANG, slow)}))
    app = app_for(simulator)
    await app.start()
    hanging = asyncio.ensure_future(app.run(Ask(), question="hangs"))
    await on_the_wire(simulator)
    quick = asyncio.ensure_future(app.run(Ask(), question="quick"))
    await on_the_wire(simulator, 2)
    closing = asyncio.ensure_future(app.aclose(drain=2))
    await asyncio.sleep(0)
    with pytest.raises(dspex.AppClosed):
        await app.run(Ask(), question="late")
    await closing

    assert isinstance(await quick, Question)
    with pytest.raises(dspex.AppClosed):
        await hanging
    with pytest.raises(dspex.AppNotRunning):
        await app.run(Ask(), question="later")
    await off_the_wire(simulator)
