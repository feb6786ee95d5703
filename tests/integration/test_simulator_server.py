"""The simulator over real sockets: what a client sees of every answer, fault, start and end."""

import asyncio
import contextlib
import contextvars
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

import dspex
from dspex.simulator import (
    Fault,
    FaultKind,
    FaultPlan,
    Latency,
    Simulator,
    SimulatorProcess,
    SimulatorStartFailed,
    SimulatorStats,
)

_CHAT = "/chat/completions"
_PATH = "/v1/chat/completions"
_PATIENCE = 10.0


def _body(text: str = "one two three", **members: object) -> dict[str, Any]:
    return {"model": "rules-1", "messages": [{"role": "user", "content": text}], **members}


def _script(*faults: Fault) -> FaultPlan:
    return FaultPlan(script={_PATH: faults})


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator without faults."""
    async with Simulator() as running:
        yield running


@pytest_asyncio.fixture
async def client(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the simulator, ignoring any proxy."""
    async with httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=_PATIENCE) as running:
        yield running


async def _until(sim: Simulator, condition: Callable[[SimulatorStats], bool]) -> SimulatorStats:
    """Wait until the counts are as wanted, but not for ever."""
    return await asyncio.wait_for(sim.wait_until(condition), _PATIENCE)


# --- answers --------------------------------------------------------------------------------------------------


async def test_a_completion_arrives_with_its_headers(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The reply, the rule it follows, and an id for the request."""
    response = await client.post(_CHAT, json=_body())

    assert response.json()["choices"][0]["message"]["content"] == "one two three"
    assert response.headers["x-simulator-rule"] == "echo; p=1.00; demos=0"
    assert response.headers["x-request-id"].startswith("req_")
    assert sim.requests == {"ok": 1}


async def test_the_same_body_gets_the_same_bytes_under_a_new_id(client: httpx.AsyncClient) -> None:
    """Only the request's id tells two requests apart."""
    first, second = [await client.post(_CHAT, json=_body()) for _ in range(2)]

    assert first.content == second.content
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_a_stream_arrives_in_pieces_and_ends_with_done(client: httpx.AsyncClient) -> None:
    """Server-sent events, each a chunk, the last the sentinel."""
    async with client.stream("POST", _CHAT, json=_body(stream=True)) as response:
        lines = [line async for line in response.aiter_lines() if line]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    assert response.headers["content-type"] == "text/event-stream"
    assert lines[-1] == "data: [DONE]"
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "one two three"


async def test_one_connection_serves_many_requests(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Connections are kept alive, after streams and refusals too."""
    for body in (_body(), _body(stream=True), {}, _body()):
        await client.post(_CHAT, json=body)

    assert sim.stats().connections_high == 1
    assert sim.requests == {"ok": 3, "rejected": 1}


async def test_two_hundred_requests_are_in_flight_at_once(sim: Simulator) -> None:
    """Latency does not queue: as many wait as have asked."""
    sim.set_faults(FaultPlan(latency=Latency(median=0.5)))
    async with contextlib.AsyncExitStack() as stack:  # one pool of 200 would hold the loop with its own bookkeeping
        made = [httpx.AsyncClient(base_url=sim.url, trust_env=False, verify=False, timeout=30) for _ in range(10)]
        clients = [await stack.enter_async_context(one) for one in made]
        asking = [clients[at % 10].post(_CHAT, json=_body(f"text {at}")) for at in range(200)]
        responses = await asyncio.gather(*asking)

    assert all(response.status_code == 200 for response in responses)
    assert [one.json()["choices"][0]["message"]["content"] for one in responses] == [f"text {at}" for at in range(200)]
    assert sim.stats().in_flight_high > 100
    assert sim.stats().in_flight == 0


async def test_a_thousand_connections_are_served_at_once(sim: Simulator) -> None:
    """A thousand clients are connected at the same time, and each is waiting for its answer."""
    sim.set_faults(FaultPlan(rate_hang=1))
    host, port = sim.url.removeprefix("http://").removesuffix("/v1").split(":")
    writers = []
    for _ in range(1000):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % _PATH.encode())
        writers.append(writer)
    seen = await _until(sim, lambda stats: stats.in_flight == 1000)
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    left = await _until(sim, lambda stats: not stats.connections)

    assert seen.connections_high == 1000
    assert left.requests == {"hang": 1000}


async def test_health_and_models_are_answered(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Health is not counted; the list of models is a request as any other."""
    health = await client.get(sim.url.removesuffix("/v1") + "/health")
    models = await client.get("/models")

    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert models.json()["data"][0]["id"] == "rules-1"
    assert sim.requests == {"ok": 1}


async def test_what_nobody_answers_is_a_404(client: httpx.AsyncClient) -> None:
    """An unknown path, and a known one by the wrong method."""
    answers = [await client.post("/nothing", json={}), await client.get(_CHAT)]

    assert [(one.status_code, one.json()["error"]["code"]) for one in answers] == [(404, "unknown_url")] * 2


async def test_only_the_right_key_opens() -> None:
    """A server started with a key refuses every other, and none."""
    async with Simulator(key="right") as sim, httpx.AsyncClient(base_url=sim.url, trust_env=False) as client:
        keys = [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer right"}]
        answers = [await client.post(_CHAT, json=_body(), headers=headers) for headers in keys]

    assert [one.status_code for one in answers] == [401, 401, 200]
    assert answers[0].json()["error"]["code"] == "invalid_api_key"


async def test_what_is_no_http_is_refused(sim: Simulator) -> None:
    """The connection is told so, and closed."""
    host, port = sim.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x00 nonsense\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400 ")


# --- faults ---------------------------------------------------------------------------------------------------


async def test_a_429_says_how_long_to_wait(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Whole seconds in one header, milliseconds in another; then the script is over."""
    sim.set_faults(_script(Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.25)))
    refused, answered = [await client.post(_CHAT, json=_body()) for _ in range(2)]

    assert (refused.status_code, answered.status_code) == (429, 200)
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "250")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert sim.requests == {"429": 1, "ok": 1}


async def test_a_server_error_has_the_status_asked_for(sim: Simulator, client: httpx.AsyncClient) -> None:
    """500, or another of its family."""
    sim.set_faults(_script(Fault(kind=FaultKind.SERVER_ERROR), Fault(kind=FaultKind.SERVER_ERROR, status=503)))
    answers = [await client.post(_CHAT, json=_body()) for _ in range(2)]

    assert [one.status_code for one in answers] == [500, 503]
    assert answers[0].json()["error"]["type"] == "server_error"


async def test_a_reset_before_any_byte(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The client reads a broken connection, not an end."""
    sim.set_faults(_script(Fault(kind=FaultKind.RESET)))
    with pytest.raises(httpx.ReadError):
        await client.post(_CHAT, json=_body())

    assert sim.requests == {"reset": 1}


async def test_a_reset_after_some_bytes(sim: Simulator) -> None:
    """The bytes before the reset are those of the response."""
    sim.set_faults(_script(Fault(kind=FaultKind.RESET, after_bytes=15)))
    host, port = sim.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(_body()).encode()
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (_PATH.encode(), len(body)) + body)
    seen = b""
    with pytest.raises(ConnectionResetError):
        while True:
            seen += await reader.readexactly(1)
    writer.close()

    assert b"HTTP/1.1 200 OK".startswith(seen)


async def test_a_hang_lasts_until_the_client_leaves(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Nothing comes; the server keeps the request until the client has had enough."""
    sim.set_faults(_script(Fault(kind=FaultKind.HANG)))
    asked = asyncio.ensure_future(client.post(_CHAT, json=_body(), timeout=None))
    await _until(sim, lambda stats: stats.in_flight > 0)
    assert not (await asyncio.wait([asked], timeout=0.1))[0]
    asked.cancel()
    seen = await _until(sim, lambda stats: not stats.in_flight)

    assert seen.requests == {"hang": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_truncated_answer_ends_too_early(sim: Simulator, client: httpx.AsyncClient, stream: bool) -> None:
    """Fewer bytes come than were announced, or the last chunk never does."""
    sim.set_faults(_script(Fault(kind=FaultKind.TRUNCATE), Fault(kind=FaultKind.TRUNCATE, after_bytes=0)))
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(_CHAT, json=_body(stream=stream))

    assert sim.requests == {"truncate": 2}


async def test_latency_delays_the_answer(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The answer takes at least what the plan says."""
    sim.set_faults(FaultPlan(latency=Latency(median=0.15)))
    response = await client.post(_CHAT, json=_body())

    assert response.elapsed.total_seconds() >= 0.15


async def test_a_client_that_leaves_early_is_counted_as_such(sim: Simulator, client: httpx.AsyncClient) -> None:
    """A cancelled request is over for the server at once, not after its latency."""
    sim.set_faults(FaultPlan(latency=Latency(median=60)))
    asked = asyncio.ensure_future(client.post(_CHAT, json=_body(), timeout=None))
    await _until(sim, lambda stats: stats.in_flight > 0)
    asked.cancel()
    seen = await _until(sim, lambda stats: not stats.in_flight)

    assert seen.requests == {"cancelled": 1}


async def test_faults_depend_on_the_body_and_its_arrivals_alone(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Two runs, one in turn and one all at once, meet the same faults body by body."""
    sim.set_faults(FaultPlan(seed=5, rate_429=0.3, rate_500=0.3))
    bodies = [_body(f"text {at}") for at in range(20)]
    in_turn = [[(await client.post(_CHAT, json=body)).status_code for _ in range(2)] for body in bodies]
    arrivals = sim.stats().arrivals
    sim.reset()
    rounds = [await asyncio.gather(*(client.post(_CHAT, json=body) for body in reversed(bodies))) for _ in range(2)]
    at_once = [[one.status_code for one in pair] for pair in zip(*map(reversed, rounds), strict=True)]

    assert at_once == in_turn
    assert {code for pair in in_turn for code in pair} == {200, 429, 500}
    assert len(arrivals) == 20
    assert set(arrivals.values()) == {2}


async def test_arrivals_are_counted_by_the_bytes_of_the_body(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The SHA-256 of what was sent is the name of a body."""
    raw = json.dumps(_body()).encode()
    for _ in range(3):
        await client.post(_CHAT, content=raw)

    assert sim.stats().arrivals == {hashlib.sha256(raw).hexdigest(): 3}


# --- start and end --------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way() -> None:
    """Hung requests and idle connections are closed; no task and no socket is left."""
    before = asyncio.all_tasks()
    async with httpx.AsyncClient(trust_env=False) as client:
        async with Simulator(faults=FaultPlan(rate_hang=1)) as sim:
            asking = asyncio.ensure_future(client.post(sim.url + _CHAT, json=_body()))
            await _until(sim, lambda stats: stats.in_flight == 1)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await asking

    assert asyncio.all_tasks() == before
    assert sim.stats().connections == 0


async def test_connections_do_not_see_the_context_of_their_server(client: httpx.AsyncClient) -> None:
    """A variable that the starter set in its context is not set where requests are answered."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    token = variable.set("the starter's")
    seen: list[set[contextvars.ContextVar[Any]]] = []

    class Watching(Simulator):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(set(contextvars.copy_context()))
            await super()._serve(reader, writer)

    async with Watching() as sim:
        await client.post(sim.url + _CHAT, json=_body())
    variable.reset(token)

    assert len(seen) == 1
    assert variable not in seen[0]


async def test_a_port_in_use_is_an_error_of_the_system() -> None:
    """The second server on a port does not start, and leaves nothing."""
    async with Simulator() as sim:
        taken = int(sim.url.removesuffix("/v1").rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await Simulator(port=taken).__aenter__()


async def test_a_process_answers_takes_faults_and_counts() -> None:
    """A child process does all that the server in this process does."""
    async with SimulatorProcess(faults=_script(Fault(kind=FaultKind.RATE_LIMIT)), key="k") as sim:
        headers = {"authorization": "Bearer k"}
        async with httpx.AsyncClient(base_url=sim.url, trust_env=False, headers=headers) as client:
            statuses = [(await client.post(_CHAT, json=_body())).status_code for _ in range(2)]
            await sim.set_faults(FaultPlan(rate_500=1))
            statuses.append((await client.post(_CHAT, json=_body())).status_code)
        counted = await sim.stats()
        await sim.reset()
        forgotten = await sim.stats()

    assert statuses == [429, 200, 500]
    assert counted.requests == {"429": 1, "ok": 1, "500": 1}
    assert list(counted.arrivals.values()) == [3]
    assert forgotten.requests == {}
    assert sim.pid is None


async def test_a_process_that_cannot_start_says_why() -> None:
    """The exit code and the child's one line are in the error."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SimulatorStartFailed) as caught:
        await SimulatorProcess(port=taken.getsockname()[1]).__aenter__()

    assert caught.value.code == 2
    assert caught.value.output.startswith("simulator: cannot listen on 127.0.0.1:")
    assert caught.value.output.count("\n") == 1


async def test_cancelling_whoever_uses_a_process_ends_it() -> None:
    """No child is left when its user is cancelled."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def use() -> None:
        async with SimulatorProcess() as sim:
            assert sim.pid is not None
            started.set_result(sim.pid)
            await asyncio.get_running_loop().create_future()

    using = asyncio.ensure_future(use())
    pid = await asyncio.wait_for(started, _PATIENCE)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "dspex.simulator", *flags]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_quietly(number: signal.Signals) -> None:
    """No traceback, exit code 0."""
    pipe = subprocess.PIPE
    with subprocess.Popen(_command("--seed", "3", "--rate-429", "0.5"), stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        child.send_signal(number)
        _, errors = child.communicate(timeout=_PATIENCE)

    assert line.startswith(b"http://127.0.0.1:")
    assert line.endswith(b"/v1\n")
    assert (child.returncode, errors) == (0, b"")


def _run(*flags: str) -> subprocess.CompletedProcess[bytes]:
    null = subprocess.DEVNULL
    return subprocess.run(_command(*flags), stdin=null, capture_output=True, timeout=_PATIENCE, check=False)


def test_without_an_input_it_keeps_serving() -> None:
    """Its input from nowhere, its terminal gone (``nohup``): it serves until it is told to end."""
    command = _command()
    with subprocess.Popen(
        ["nohup", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(5)]
        child.send_signal(signal.SIGHUP)
        bases = dict(line.split() for line in lines[1:])
        assert lines[0].strip() == bases["openai"]
        for provider, base in bases.items():  # as a reader would paste them
            with dspex.App(dspex.LM(f"{provider}/m", api_base=base, api_key="key")).sync() as app:
                assert app.run(dspex.Predict("question -> answer"), question="q").answer == "q"
        assert child.poll() is None
        child.terminate()
    assert child.returncode == 0


def test_the_process_ends_when_its_input_closes_if_told_to() -> None:
    """Nothing has to be sent to it: it cannot outlive whoever started it."""
    run = _run("--until-stdin-closes")

    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"http://127.0.0.1:")


_WRONG = [("--rate-429", "2"), ("--plan", "{"), ("--plan", '{"rate_418": 1}'), ("--port", "99999")]


@pytest.mark.parametrize("flags", _WRONG)
def test_a_wrong_flag_is_one_line(flags: tuple[str, ...]) -> None:
    """One line about the mistake, exit code 2, and no traceback."""
    run = _run(*flags)

    assert run.returncode == 2
    assert run.stderr.startswith(b"simulator: ")
    assert run.stderr.count(b"\n") == 1
