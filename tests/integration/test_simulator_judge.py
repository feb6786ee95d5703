"""The judge over real traffic: a client that does everything wrong, and dspex's own."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Mapping
from typing import Self

import httpx
import pytest
import pytest_asyncio

import dspex
from dspex.simulator import (
    Fault,
    FaultKind,
    FaultPlan,
    FindingKind,
    NotResilient,
    Simulator,
    SimulatorProcess,
    SimulatorThread,
)

_CHAT = "/v1/chat/completions"
_BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
_QUOTA = Fault(kind=FaultKind.QUOTA)
_WAIT = Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.2)


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator without faults."""
    async with Simulator() as running:
        yield running


class BadClient:
    """Retries at once, whatever it was told, until it has an answer or has tried often enough."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, call: str, attempts: int = 4, headers: Mapping[str, str] | None = None) -> int:
        status = 0
        for _ in range(attempts):
            given = {"idempotency-key": call, "x-attempt": "1", **(headers or {})}
            status = (await self._http.post("/chat/completions", json=_BODY, headers=given)).status_code
            if status == 200:
                break
        return status


async def test_a_bad_client_is_found_out(sim: Simulator) -> None:
    """Each thing it does wrong is a finding, in one line of its own."""
    refused = [Fault(kind=kind) for kind in (FaultKind.QUOTA, FaultKind.INVALID)]
    sim.set_faults(FaultPlan(script={_CHAT: (_WAIT, *refused)}))
    async with BadClient(sim.url) as client:
        status = await client.ask("one")
    report = sim.judge()
    with pytest.raises(NotResilient) as caught:
        report.assert_resilient(max_extra_load=0.1)

    kinds = {one.kind for one in caught.value.findings}
    assert status == 200
    assert kinds == {
        FindingKind.EARLY_RETRY,
        FindingKind.QUOTA_RETRIED,
        FindingKind.CALLER_ERROR_RETRIED,
        FindingKind.ATTEMPT_NUMBER,
        FindingKind.EXTRA_LOAD,
    }
    assert str(caught.value).count("\n") == len(caught.value.findings)


async def test_duplicates_at_once_are_found(sim: Simulator) -> None:
    """Two of one call under way at the same time."""
    sim.set_faults(FaultPlan(script={_CHAT: (Fault(kind=FaultKind.HANG), Fault(kind=FaultKind.HANG))}))
    async with BadClient(sim.url) as client:
        asking = [asyncio.ensure_future(client.ask("one")) for _ in range(2)]
        await asyncio.wait_for(sim.wait_until(lambda stats: stats.in_flight == 2), 10)
        for one in asking:
            one.cancel()
        await asyncio.wait(asking)

    assert [one.kind for one in sim.judge().of(FindingKind.CONCURRENT_DUPLICATE)] == ["concurrent_duplicate"]


async def test_dspex_waits_reconnects_and_counts(sim: Simulator) -> None:
    """Through a 429, a reset, an overload and a closed connection, with nothing to find fault with."""
    faults = (
        _WAIT,
        Fault(kind=FaultKind.RESET),
        Fault(kind=FaultKind.CLOSE),
        Fault(kind=FaultKind.OVERLOADED, retry_after=0.05),
    )
    sim.set_faults(FaultPlan(script={_CHAT: faults}))
    model = dspex.LM("openai/rules-1", api_base=sim.url, api_key="key")
    async with dspex.App(model) as app:
        for text in ("first", "second"):
            await app.run(dspex.Predict("question -> answer"), question=text)
    report = sim.judge()

    report.assert_resilient(max_extra_load=1.5)
    assert (report.calls, report.answered, report.requests, report.reconnected) == (2, 2, 5, 1)
    assert {one.named_by for one in sim.arrivals()} == {"idempotency-key"}
    assert [one.attempt for one in sim.arrivals()] == [1, 2, 3, 1, 2]


_DIALECTS = [
    ("openai/rules-1", "openai", "", _CHAT),
    ("openai-responses/rules-1", "openai", "", "/v1/responses"),
    ("anthropic/rules-1", "anthropic", "/v1", "/v1/messages"),
    ("gemini/rules-1", "gemini", "/v1beta", "/v1beta/models/rules-1:generateContent"),
]


@pytest.mark.parametrize(("name", "provider", "version", "path"), _DIALECTS)
async def test_dspex_behaves_in_every_dialect(
    sim: Simulator, name: str, provider: str, version: str, path: str
) -> None:
    """It waits and reconnects; and a spent quota ends it, however it is worded."""
    faults = (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.05), Fault(kind=FaultKind.RESET), Fault(), _QUOTA)
    sim.set_faults(FaultPlan(script={path: faults}))
    model = dspex.LM(name, api_base=sim.urls[provider] + version, api_key="key")
    async with dspex.App(model) as app:
        ask = dspex.Predict("question -> answer")
        said = await app.run(ask, question="first")
        with pytest.raises(dspex.QuotaExhausted):
            await app.run(ask, question="second")
    report = sim.judge()

    assert said.answer == "first"
    report.assert_resilient(max_extra_load=1.0)
    assert (report.calls, report.answered, report.requests, report.reconnected) == (2, 1, 4, 1)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.QUOTA, dspex.QuotaExhausted),
        (FaultKind.UNAUTHORIZED, dspex.AuthFailed),
        (FaultKind.CONTEXT, dspex.ContextTooLong),
        (FaultKind.INVALID, dspex.RequestRejected),
    ],
)
async def test_dspex_stops_when_waiting_cannot_help(
    sim: Simulator, kind: FaultKind, error: type[dspex.LMError]
) -> None:
    """One request, and the caller is told."""
    sim.set_faults(FaultPlan(shares={kind: 1.0}))
    model = dspex.LM("openai/rules-1", api_base=sim.url, api_key="key")
    async with dspex.App(model) as app:
        with pytest.raises(error):
            await app.run(dspex.Predict("question -> answer"), question="x")

    assert sim.requests == {kind.value: 1}
    sim.judge().assert_resilient(max_extra_load=0)


async def test_a_process_reports_the_same() -> None:
    """Arrivals and report come over its own routes."""
    plan = FaultPlan(shares={FaultKind.QUOTA: 1.0})
    async with SimulatorProcess(faults=plan) as sim:
        async with BadClient(sim.url) as client:
            await client.ask("one", attempts=2)
        report = await sim.judge()
        arrivals = await sim.arrivals()
        root = sim.urls["gemini"]
        async with httpx.AsyncClient(base_url=root, trust_env=False) as http:
            told = (await http.get("/_simulator/report")).json()

    assert [one.outcome for one in arrivals] == ["quota", "quota"]
    assert report.of(FindingKind.QUOTA_RETRIED)
    assert told == json.loads(json.dumps(report.to_json()))


def test_a_thread_serves_clients_without_a_loop() -> None:
    """Everything may be called from here; the thread ends with the block."""
    with SimulatorThread(faults=FaultPlan(script={_CHAT: (_WAIT,)})) as sim, httpx.Client(trust_env=False) as client:
        codes = [client.post(f"{sim.url}/chat/completions", json=_BODY).status_code for _ in range(2)]
        seen = sim.wait_until(lambda stats: not stats.in_flight, timeout=10)
        early = sim.judge().of(FindingKind.EARLY_RETRY)
        arrived = len(sim.arrivals())
        sim.set_faults(FaultPlan())
        sim.reset()
        with pytest.raises(TimeoutError):
            sim.wait_until(lambda stats: stats.in_flight > 0, timeout=0.01)

    assert codes == [429, 200]
    assert (seen.requests, len(early), arrived) == ({"429": 1, "ok": 1}, 1, 2)
    assert sim.requests == {}
    assert sim.faults == FaultPlan()


def test_a_thread_that_cannot_listen_says_why() -> None:
    """The error of the system, in the thread that asked."""
    with SimulatorThread() as sim:
        taken = int(sim.urls["gemini"].rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            SimulatorThread(port=taken).__enter__()


def test_the_fixture_is_set_up_by_its_marker(pytester: pytest.Pytester) -> None:
    """The plugin is opt-in; a test of any kind asks for `simulator`."""
    assert importlib.util.find_spec("dspex.testing.pytest_plugin") is not None
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest('pytest_plugins = ["dspex.testing.pytest_plugin"]')
    pytester.makepyfile(
        """
        import httpx
        import pytest
        from dspex.simulator import FaultKind, FaultPlan

        def _ask(sim):
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            return httpx.post(sim.url + "/chat/completions", json=body, trust_env=False).status_code

        def test_plain(simulator):
            assert _ask(simulator) == 200
            simulator.judge().assert_resilient(max_extra_load=0)

        @pytest.mark.simulator(faults=FaultPlan(shares={FaultKind.OVERLOADED: 1.0}))
        def test_marked(simulator):
            assert _ask(simulator) == 503
        """
    )
    done = pytester.runpytest_inprocess("--strict-markers", "-p", "no:cacheprovider")

    done.assert_outcomes(passed=2)
