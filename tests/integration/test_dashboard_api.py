"""The JSON API of the page, over real sockets: what is told, to whom, and what may be done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import dspex
import dspex.app.dashboard.web  # loaded here, not while a loop runs
from dspex.app.dashboard.delta import apply
from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Simulator
from tests.support.programs import Ask, until

CHAT = "/v1/chat/completions"
KEY = "sk-canary-4711"
WORDS = "the words of a user <script>alert(1)</script>"
TOKEN = "a-token-of-enough-letters"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def watched(simulator: Simulator, page: str | dspex.Dashboard = "127.0.0.1:0", **options: Any) -> dspex.App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key=KEY)
    return dspex.App(lm, dashboard=page, **options)


@asynccontextmanager
async def viewer(app: dspex.App, *, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the page; with a token, one that opened the address that the App has told."""
    address, _, secret = app.dashboard_url.partition("/#token=")
    headers = {"authorization": f"Bearer {secret if token is None else token}"} if token != "" else {}
    async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=30.0) as client:
        yield client


async def snapshot_of(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/api/v1/snapshot")).raise_for_status().json()
    return found


class Events:
    """Server-sent events, read one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, str, Any]:
        event: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                continue
            if not line and event:
                return event["event"], event["id"], json.loads(event["data"])
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
        raise EOFError


@asynccontextmanager
async def events_of(client: httpx.AsyncClient, after: str = "") -> AsyncIterator[Events]:
    headers = {"last-event-id": after} if after else {}
    async with client.stream("GET", "/api/v1/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


# --- looking ------------------------------------------------------------------------------------------------


async def test_a_snapshot_tells_the_whole_app_and_nobodys_words(simulator: Simulator) -> None:
    simulator.set_faults(FaultPlan(script={CHAT: (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01),)}))
    async with watched(simulator) as app, viewer(app, token="") as client:
        await app.run(Ask(), question=WORDS)
        text = (await client.get("/api/v1/snapshot")).text
        told = json.loads(text)

    assert told["version"] == 1
    assert told["app"]["completed"] == 1
    assert {"App/cache", "App/ledger", "App/lm", "App/dashboard"} <= told["tree"].keys()
    (model,) = told["models"].values()
    assert (model["lm"], model["retries"], model["outcomes"]) == ("openai/rules", 1, {"RateLimited": 1, "ok": 1})
    (kept,) = told["kept"]["retried"].values()
    (step,) = kept["steps"]
    assert [attempt["outcome"] for attempt in step["attempts"]] == ["RateLimited", "ok"]
    assert step["attempts"][0]["status"] == 429
    for secret in (KEY, "words of a user", "script", app.dashboard_url.partition("=")[2]):
        assert secret not in text


async def test_events_begin_with_a_snapshot_and_go_on_with_what_has_changed(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client, events_of(client) as events:
        kind, _, state = await events.next()
        assert kind == "snapshot"
        await app.run(Ask(), question="one")
        while state["app"]["completed"] < 1:
            kind, _, changes = await events.next()
            assert kind == "delta"
            state = apply(state, changes)
        whole = await snapshot_of(client)

    assert state["models"].keys() == whole["models"].keys()
    assert state["app"]["calls"] == whole["app"]["calls"] == 1


async def test_a_viewer_who_comes_back_goes_on_where_it_was(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        async with events_of(client) as events:
            _, seen, state = await events.next()
        await app.run(Ask(), question="meanwhile")
        async with events_of(client, after=seen) as events:
            kind, _, changes = await events.next()
            assert kind == "delta"
            assert apply(state, changes)["app"]["completed"] == 1
        async with events_of(client, after="d-00000000-1") as events:  # of another run of the App
            kind, _, _ = await events.next()
            assert kind == "snapshot"


async def test_nobody_looking_no_snapshot_is_made(simulator: Simulator) -> None:
    """And without a page, requests write no steps down."""
    async with dspex.App(dspex.LM("openai/rules", api_base=simulator.url, api_key=KEY)) as plain:
        request = plain.start(Ask(), question="q")
        await request
        assert plain.running_tree().notes is None
        assert plain.running_tree().runner.watcher is None
        assert request._live.record.steps is None
        assert not plain.telemetry.active
    async with watched(simulator) as app:
        await app.run(Ask(), question="q")
        assert not app.telemetry.active
        assert app.running_tree().hub.made == 0


async def test_viewers_end_with_the_app(simulator: Simulator) -> None:
    """A stream that nobody closes holds nothing up."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        async with watched(simulator) as app:
            request = client.build_request("GET", app.dashboard_url.partition("#")[0] + "api/v1/events")
            response = await client.send(request, stream=True)
            events = Events(response)
            await events.next()
        with pytest.raises((EOFError, httpx.RemoteProtocolError, httpx.ReadError)):
            while True:
                await events.next()
        await response.aclose()


async def test_the_page_comes_back_at_the_same_address(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        before = (await snapshot_of(client))["tree"]["App/dashboard"]["pid"]
        ref = app.runtime.whereis("dashboard")
        assert ref is not None
        ref.kill()
        await ref.wait_exit()
        await app.runtime.wait_name("dashboard", 5.0)
        after = await snapshot_of(client)
        while after["tree"]["App/dashboard"]["pid"] in (before, None):  # one of a moment ago is told again
            await app.runtime.sleep(0.02)
            after = await snapshot_of(client)

    assert after["tree"]["App/dashboard"]["restarts"] == 1


async def test_two_pages_cannot_have_one_address(simulator: Simulator) -> None:
    async with watched(simulator) as app:
        other = watched(simulator, app.dashboard_url.partition("//")[2].partition("/")[0])
        with pytest.raises(dspex.ConfigError, match="cannot listen"):
            await other.start()


# --- who may --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/v1/snapshot", "/api/v1/events", "/api/v1/about"])
async def test_other_names_of_this_machine_are_not_answered(simulator: Simulator, path: str) -> None:
    """DNS rebinding: the browser was told that evil.example is here, and says so in its Host header."""
    async with watched(simulator) as app, viewer(app) as client:
        answer = await client.get(path, headers={"host": "evil.example:8765"})

    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"origin": "http://localhost:8765", "sec-fetch-site": "same-origin"}, 200),
    ],
)
async def test_actions_are_asked_for_by_the_page_itself(
    simulator: Simulator, headers: dict[str, str], status: int
) -> None:
    simulator.set_faults(FaultPlan(latency=Latency(median=5.0)))
    async with watched(simulator) as app, viewer(app) as client:
        request = app.start(Ask(), question="q")
        about = {"content-type": "application/json", **headers}
        answer = await client.post(f"/api/v1/requests/{request.id}/cancel", headers=about, content=b"{}")

        assert answer.status_code == status
        if status == 200:
            await until(lambda: request.done, "the request to end")
        else:
            assert not request.done
        await request.stop()


async def test_an_actor_is_restarted_suspended_and_resumed(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        before = (await snapshot_of(client))["tree"]

        async def act(path: str, how: str) -> int:
            told = await client.post(f"/api/v1/actors/{before[path]['pid']}/{how}", json={})
            return told.status_code

        assert await act("App/ledger", "suspend") == 200
        assert (await app_node(app, "ledger")).status == "suspended"
        assert await act("App/ledger", "resume") == 200
        assert (await app_node(app, "ledger")).status == "running"
        assert await act("App/cache", "restart") == 200
        await until(lambda: next(n for n in app.tree().walk() if n.label == "cache").restarts == 1, "the restart")
        assert await act("App/cache", "restart") == 404  # that one has gone
        assert await act("App/lm", "suspend") == 400
        assert await act("App", "restart") == 400
        assert await act("App/dashboard", "restart") == 400


async def app_node(app: dspex.App, label: str) -> Any:
    return next(node for node in app.tree().walk() if node.label == label)


@pytest.mark.parametrize("whom", ["actors/999999/restart", "actors/x/restart", "requests/r99/cancel", "jobs/no/pause"])
async def test_what_has_gone_is_not_found(simulator: Simulator, whom: str) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        assert (await client.post(f"/api/v1/{whom}", json={})).status_code == 404


@pytest.mark.parametrize("body", [b"[]", b"{", b"[" * 5_000, b'{"hint": "' + b"x" * 20_000 + b'"}'])
async def test_a_body_that_makes_no_sense_is_refused(simulator: Simulator, body: bytes) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/api/v1/jobs/x/steer", content=body, headers=headers)

    assert answer.status_code == 400


async def test_a_page_with_a_token_is_closed_to_whoever_does_not_know_it(simulator: Simulator) -> None:
    async with watched(simulator, dspex.Dashboard("127.0.0.1:0", token=TOKEN)) as app:
        async with viewer(app, token="") as stranger:
            statuses = [(await stranger.get(f"/api/v1/{name}")).status_code for name in ("snapshot", "events", "about")]
            about = (await stranger.get("/api/v1/about")).json()
        async with viewer(app) as friend:
            assert (await snapshot_of(friend))["version"] == 1

    assert statuses == [401, 401, 200]
    assert about == {"version": 1, "looks": False, "acts": False, "capture": False}


async def test_conversations_are_kept_and_shown_only_where_somebody_said_so(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        await app.run(Ask(), question=WORDS)
        assert (await client.get("/api/v1/requests/r1/conversation")).status_code == 403
    async with watched(simulator, dspex.Dashboard("127.0.0.1:0", capture=True)) as app, viewer(app) as client:
        await app.run(Ask(), question=WORDS)
        answer = await client.get("/api/v1/requests/r1/conversation")
        async with viewer(app, token="") as stranger:
            refused = await stranger.get("/api/v1/requests/r1/conversation")

    (call,) = answer.json()["calls"]
    assert WORDS in call["messages"][-1]["text"]
    assert call["answers"]
    assert answer.headers["content-type"] == "application/json"
    assert refused.status_code == 401


async def test_every_answer_forbids_what_a_page_does_not_need(simulator: Simulator) -> None:
    async with watched(simulator) as app, viewer(app) as client:
        for path in ("/", "/app.js", "/api/v1/snapshot", "/nothing", "/../secret", "/vendor/LICENSE-htm"):
            headers = (await client.get(path)).headers
            assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
            assert "set-cookie" not in headers


class Searches(dspex.Module):
    """Searches, and waits to be let go while it does."""

    def __init__(self) -> None:
        self.retrieve = dspex.Retrieve(k=1)

    async def forward(self, question: str) -> int:
        return len(await self.retrieve(question))


class Slow:
    """A retriever that holds up its first search."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def search(self, query: str, k: int) -> list[dspex.Passage]:
        if not self.asked.is_set():
            self.asked.set()
            await self.go.wait()
        return [dspex.Passage("found")][:k]

    async def close(self) -> None:
        self.go.set()


async def test_who_waited_for_a_retriever_that_died_is_told_by_name(simulator: Simulator) -> None:
    """In the sentence, beside the death, and with the request, while it runs and when it is kept."""
    slow = Slow()
    async with watched(simulator, retriever=slow) as app, viewer(app) as client, events_of(client) as events:
        _, _, state = await events.next()
        request = app.start(Searches(), question="q")
        await slow.asked.wait()
        pid = next(node.pid for node in app.tree().walk() if node.label == "default")
        assert pid is not None
        app.runtime.processes[pid].ref.kill()
        assert await request == 1
        while not state["kept"]["killed"]:
            _, _, changes = await events.next()
            state = apply(state, changes)

    assert state["toll"] == {
        "deaths": 1,
        "waited": 1,
        "answered": 1,
        "failed": 0,
        "again": 0,
        "twice": "0",
        "unpriced": 0,
        "who": {"App/retrievers/default": 1},
    }
    (death,) = state["deaths"].values()
    assert (death["path"], death["requests"], death["answered"]) == ("App/retrievers/default", ["r1"], 1)
    (kept,) = state["kept"]["killed"].values()
    assert kept["waited"] == ["retrievers/default"]
    assert state["retrievers"]["default"]["count"] == 1


async def test_what_died_before_anybody_looked_is_told_with_who_waited_and_when(simulator: Simulator) -> None:
    slow = Slow()
    async with watched(simulator, retriever=slow) as app:
        request = app.start(Searches(), question="q")
        await slow.asked.wait()
        pid = next(node.pid for node in app.tree().walk() if node.label == "default")
        assert pid is not None
        app.runtime.processes[pid].ref.kill()
        assert await request == 1
        async with viewer(app) as client:
            state = await snapshot_of(client)
            again = await snapshot_of(client)

    (death,) = state["deaths"].values()
    assert (death["path"], death["requests"], death["answered"]) == ("App/retrievers/default", ["r1"], 1)
    assert 0 <= death["at"] <= state["at"]
    assert state["kept"]["killed"]["r1"]["reasons"] == ["killed", "waited"]
    assert state["toll"]["deaths"] == 1
    assert again["toll"] == state["toll"]
    assert again["deaths"] == state["deaths"]


async def test_a_call_that_was_on_the_wire_of_a_transport_that_died_is_told_with_its_price(
    simulator: Simulator,
) -> None:
    """The provider may charge both: what was broken off is taken to cost as much as the answer."""
    simulator.set_faults(FaultPlan(script={CHAT: (Fault(kind=FaultKind.HANG),)}))
    prices = {"*": dspex.Price(1, 5)}
    async with watched(simulator, cache=None, prices=prices) as app, viewer(app) as client, events_of(client) as events:
        _, _, state = await events.next()
        request = app.start(dspex.Predict("question -> answer"), question="q")
        while not any("wire" in step for row in state["requests"].values() for step in row["steps"]):
            _, _, changes = await events.next()
            state = apply(state, changes)
        pid = next(node.pid for node in app.tree().walk() if node.label == "transport")
        assert pid is not None
        app.runtime.processes[pid].ref.kill()
        await request
        while not state["toll"]["answered"]:
            _, _, changes = await events.next()
            state = apply(state, changes)

    assert (state["toll"]["waited"], state["toll"]["again"], state["toll"]["unpriced"]) == (1, 1, 0)
    assert state["toll"]["twice"] == state["app"]["spent"] == format(request.details.cost or 0, "f")
    (death,) = state["deaths"].values()
    assert (death["again"], death["twice"]) == (1, state["toll"]["twice"])


# --- evaluations, and a service of one's own ------------------------------------------------------------------


async def test_two_evaluations_are_compared_failures_first(simulator: Simulator) -> None:
    rows = [{"question": f"q{number}", "answer": "a"} for number in range(4)]
    async with watched(simulator, cache=None) as app, viewer(app) as client:
        await app.evaluate(Ask(), rows, lambda example, answer: 1.0)
        scores = iter([0.0, 1.0, 1.0, 1.0])
        await app.evaluate(Ask(), rows, lambda example, answer: next(scores), max_concurrency=1)
        told = (await snapshot_of(client))["evaluations"]
        compared = (await client.get("/api/v1/evaluations/compare?before=e1&after=e2")).json()
        one = (await client.get("/api/v1/evaluations/e2")).json()
        unknown = await client.get("/api/v1/evaluations/compare?before=e1&after=e9")

    assert [each["score"] for each in told.values()] == [1.0, 0.75]
    assert (compared["difference"], compared["changed"]) == (-0.25, [[0, 1.0, 0.0]])
    assert [row["score"] for row in one["rows"]] == [0.0, 1.0, 1.0, 1.0]
    assert unknown.status_code == 404


async def test_the_page_is_mounted_in_a_service(simulator: Simulator) -> None:
    """Over the service's own ASGI door; whoever looks needs the token, wherever the service can be reached from."""
    app = dspex.App(dspex.LM("openai/rules", api_base=simulator.url, api_key=KEY))
    service = FastAPI()
    page = dspex.Dashboard(token=TOKEN, hosts=("dash.example.com",))
    with pytest.raises(dspex.ConfigError, match="token"):
        dspex.mount_dashboard(service, "/dspex", app, dspex.Dashboard())
    dspex.mount_dashboard(service, "/dspex", app, page)
    door = httpx.ASGITransport(app=service)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=door, base_url="http://dash.example.com", headers=headers) as client:
        assert (await client.get("/dspex/api/v1/snapshot")).status_code == 503
        for _ in range(2):  # an App that is started again has another tree
            async with app:
                await snapshot_under(client)
                await app.run(Ask(), question="q")
                while not (await snapshot_under(client))["app"]["completed"]:  # one that is fresh is told again
                    await app.runtime.sleep(0.02)
        assert (await client.get("/dspex/")).headers["content-type"].startswith("text/html")
        stranger = await client.get("/dspex/api/v1/snapshot", headers={"authorization": ""})
        assert stranger.status_code == 401


async def snapshot_under(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/dspex/api/v1/snapshot")).raise_for_status().json()
    return found
