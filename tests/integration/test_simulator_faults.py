"""Every kind of fault over real sockets: what arrives, byte for byte, and what the connection does then."""

import asyncio
import email.utils
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Limits, Simulator, SimulatorStats

_CHAT = "/v1/chat/completions"
_PATIENCE = 10.0


def _body(text: str = "one two three", **members: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, **members}


def _script(*faults: Fault, path: str = _CHAT) -> FaultPlan:
    return FaultPlan(script={path: faults})


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator without faults."""
    async with Simulator() as running:
        yield running


@pytest_asyncio.fixture
async def client(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the simulator, ignoring any proxy."""
    root = sim.urls["anthropic"]
    async with httpx.AsyncClient(base_url=root, trust_env=False, timeout=_PATIENCE) as running:
        yield running


async def _until(sim: Simulator, condition: Callable[[SimulatorStats], bool]) -> SimulatorStats:
    return await asyncio.wait_for(sim.wait_until(condition), _PATIENCE)


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (FaultKind.SLOW_DOWN, 429, "slow_down"),
        (FaultKind.QUOTA, 429, "insufficient_quota"),
        (FaultKind.BILLING, 429, "credit_balance_exhausted"),
        (FaultKind.OVERLOADED, 503, "server_is_overloaded"),
        (FaultKind.TIMEOUT, 504, None),
        (FaultKind.INVALID, 400, "invalid_request"),
        (FaultKind.UNAUTHORIZED, 401, "invalid_api_key"),
        (FaultKind.FORBIDDEN, 403, "permission_denied"),
        (FaultKind.NOT_FOUND, 404, "model_not_found"),
        (FaultKind.CONTEXT, 400, "context_length_exceeded"),
    ],
)
async def test_a_refusal_has_the_provider_s_status_and_code(
    sim: Simulator, client: httpx.AsyncClient, kind: FaultKind, status: int, code: str | None
) -> None:
    """Money is not rate: a spent quota asks nobody to wait."""
    sim.set_faults(_script(Fault(kind=kind)))
    answer = await client.post(_CHAT, json=_body())

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (kind in (FaultKind.SLOW_DOWN, FaultKind.OVERLOADED))
    assert sim.requests == {kind.value: 1}


async def test_the_time_to_wait_comes_in_the_form_asked_for(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Seconds, milliseconds, a date that is not too early, or nothing."""
    forms = ("seconds", "milliseconds", "date", "none")
    sim.set_faults(_script(*(Fault(kind=FaultKind.RATE_LIMIT, retry_after=2, retry_form=form) for form in forms)))
    before = datetime.now(UTC)
    seconds, milliseconds, date, none = [(await client.post(_CHAT, json=_body())).headers for _ in forms]

    assert (seconds["retry-after"], "retry-after-ms" in seconds) == ("2", False)
    assert (milliseconds["retry-after-ms"], "retry-after" in milliseconds) == ("2000", False)
    assert email.utils.parsedate_to_datetime(date["retry-after"]) >= before + timedelta(seconds=2)
    assert not [name for name in none if name.startswith("retry")]


async def test_a_refusal_may_say_whether_to_retry(sim: Simulator, client: httpx.AsyncClient) -> None:
    """In the header that two providers send."""
    said = (True, False, None)
    sim.set_faults(_script(*(Fault(kind=FaultKind.SERVER_ERROR, should_retry=one) for one in said)))
    answers = [await client.post(_CHAT, json=_body()) for _ in said]

    assert [one.headers.get("x-should-retry") for one in answers] == ["true", "false", None]


async def test_a_caller_s_error_has_the_status_asked_for(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Any 4xx."""
    sim.set_faults(_script(Fault(kind=FaultKind.INVALID, status=413)))

    assert (await client.post(_CHAT, json=_body())).status_code == 413


# --- answers that are none ------------------------------------------------------------------------------------


async def test_a_page_is_no_answer(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Status 200, and a content type that says what it is."""
    sim.set_faults(_script(Fault(kind=FaultKind.HTML)))
    answer = await client.post(_CHAT, json=_body())

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_a_redirect_leads_back(sim: Simulator, client: httpx.AsyncClient) -> None:
    """A client that follows it sends the body again, and is not charged with a retry."""
    sim.set_faults(_script(Fault(kind=FaultKind.REDIRECT)))
    answer = await client.post(_CHAT, json=_body(), follow_redirects=True)

    assert (answer.status_code, [one.status_code for one in answer.history]) == (200, [307])
    assert sim.judge().extra_load == 0


async def test_what_is_malformed_has_a_true_length(sim: Simulator, client: httpx.AsyncClient) -> None:
    """It is the JSON that is broken, not the transport."""
    sim.set_faults(_script(Fault(kind=FaultKind.MALFORMED)))
    answer = await client.post(_CHAT, json=_body())

    assert int(answer.headers["content-length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("kind", [FaultKind.CUT_STREAM, FaultKind.STREAM_ERROR])
async def test_a_stream_goes_wrong_after_it_began_well(
    sim: Simulator, client: httpx.AsyncClient, kind: FaultKind
) -> None:
    """It ends in HTTP's own way, without the sentinel; the connection is kept."""
    sim.set_faults(_script(Fault(kind=kind)))
    answer = await client.post(_CHAT, json=_body(stream=True))
    after = await client.post(_CHAT, json=_body())

    assert (answer.status_code, after.status_code) == (200, 200)
    assert b'"role":"assistant"' in answer.content
    assert b"[DONE]" not in answer.content
    assert (b"server_is_overloaded" in answer.content) == (kind is FaultKind.STREAM_ERROR)
    assert sim.stats().connections_high == 1


async def test_what_cannot_be_cut_as_a_stream_is_cut_all_the_same(sim: Simulator, client: httpx.AsyncClient) -> None:
    """A whole answer is truncated, or refused."""
    sim.set_faults(_script(Fault(kind=FaultKind.CUT_STREAM), Fault(kind=FaultKind.STREAM_ERROR)))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(_CHAT, json=_body())

    assert (await client.post(_CHAT, json=_body())).status_code == 503
    assert sim.requests == {"cut_stream": 1, "stream_error": 1}


async def test_policies_do_not_cover_up_a_wrong_request(sim: Simulator, client: httpx.AsyncClient) -> None:
    """A request that would have been a 400 is one."""
    sim.set_faults(_script(Fault(kind=FaultKind.REFUSAL), Fault(kind=FaultKind.EMPTY)))
    answers = [await client.post(_CHAT, json={}), await client.post(_CHAT, json=_body())]

    assert [one.status_code for one in answers] == [400, 200]
    assert answers[1].json()["choices"] == []
    assert sim.requests == {"rejected": 1, "empty": 1}


# --- the connection -------------------------------------------------------------------------------------------


async def test_half_a_body_and_then_nothing(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The head and half of the body come at once; the rest never does."""
    sim.set_faults(_script(Fault(kind=FaultKind.HANG_BODY)))
    got = b""
    async with client.stream("POST", _CHAT, json=_body(), timeout=20.0) as answer:
        half = int(answer.headers["content-length"]) // 2
        async for part in answer.aiter_raw():
            got += part
            if len(got) >= half:
                break
        assert sim.stats().in_flight == 1
    await _until(sim, lambda stats: not stats.in_flight)

    assert answer.status_code == 200
    assert len(got) == half
    assert sim.requests == {"hang_body": 1}


async def test_bytes_come_in_pieces_of_any_size(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Inside characters too; together they are the answer."""
    text = "größer 日本 🙂"
    sim.set_faults(_script(Fault(kind=FaultKind.SPLIT, piece=3), Fault(kind=FaultKind.SPLIT)))
    for stream in (True, False):
        async with client.stream("POST", _CHAT, json=_body(text, stream=stream)) as answer:
            parts = [part async for part in answer.aiter_raw()]
        whole = await client.post(_CHAT, json=_body(text, stream=stream))
        assert b"".join(parts) == whole.content
        assert not stream or max(map(len, parts)) <= 3
    assert sim.requests == {"split": 2, "ok": 2}


async def test_a_drip_takes_its_time_and_ends_when_the_client_leaves(sim: Simulator, client: httpx.AsyncClient) -> None:
    """Each pause is as long as asked; nobody is waited for."""
    pause = 30.0
    sim.set_faults(_script(Fault(kind=FaultKind.DRIP, piece=5, pause=pause), Fault(kind=FaultKind.DRIP, piece=200)))
    async with client.stream("POST", _CHAT, json=_body(stream=True)) as answer:
        first = await anext(answer.aiter_raw())
    await _until(sim, lambda stats: not stats.in_flight)
    whole = await client.post(_CHAT, json=_body())

    assert first == b"data:"
    assert whole.json()["choices"]
    assert sim.requests == {"cancelled": 1, "drip": 1}


async def test_the_events_of_a_stream_may_keep_their_distance(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The first comes at once, each of the others after the gap; nobody is waited for."""
    sim.set_faults(FaultPlan(latency=Latency(gap=30)))
    async with client.stream("POST", _CHAT, json=_body(stream=True)) as answer:
        first = await anext(answer.aiter_lines())
    await _until(sim, lambda stats: not stats.in_flight)
    sim.set_faults(FaultPlan(latency=Latency(gap=0.001)))
    whole = await client.post(_CHAT, json=_body(stream=True))

    assert '"role":"assistant"' in first
    assert whole.content.endswith(b"[DONE]\n\n")
    assert sim.requests == {"cancelled": 1, "ok": 1}


async def test_a_kept_connection_is_closed_between_requests(sim: Simulator, client: httpx.AsyncClient) -> None:
    """The answer does not say so; a client that looks before it writes opens another."""
    sim.set_faults(_script(Fault(kind=FaultKind.CLOSE)))
    first = await client.post(_CHAT, json=_body())
    second = await client.post(_CHAT, json=_body())

    assert first.headers.get("connection") is None
    assert second.status_code == 200
    assert [one.connection for one in sim.arrivals()] == [1, 2]
    assert not sim.judge().findings


async def test_a_request_on_a_closed_connection_is_noted(sim: Simulator) -> None:
    """It gets no answer; that it never came again is a finding, and none once it has."""
    sim.set_faults(_script(Fault(kind=FaultKind.CLOSE)))
    host, _, port = sim.urls["gemini"].removeprefix("http://").rpartition(":")
    raw = json.dumps(_body()).encode()
    asked = b"POST %b HTTP/1.1\r\nhost: x\r\nidempotency-key: a\r\ncontent-length: %d\r\n\r\n%b"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(asked % (_CHAT.encode(), len(raw), raw))
    await reader.read()  # the answer, and the end of the connection
    writer.write((asked % (_CHAT.encode(), len(raw), raw)).replace(b": a\r", b": b\r"))
    await writer.drain()
    await _until(sim, lambda stats: not stats.connections)
    writer.close()
    await writer.wait_closed()
    alone = sim.judge()
    async with httpx.AsyncClient(base_url=sim.urls["gemini"], trust_env=False) as again:
        await again.post(_CHAT, content=raw, headers={"idempotency-key": "b"})

    assert [one.kind.value for one in alone.findings] == ["not_reconnected"]
    assert not sim.judge().findings
    assert sim.judge().reconnected == 1


# --- limits ---------------------------------------------------------------------------------------------------


async def test_limits_tell_the_truth(client: httpx.AsyncClient) -> None:
    """The rest of the limit may be used by the next requests; after the time to wait the next one is served."""
    now = 100.0
    async with Simulator(limits=Limits(rpm=60, tpm=20), clock=lambda: now) as sim:
        asking = [client.post(sim.url + "/chat/completions", json=_body()) for _ in range(3)]
        answers = [await one for one in asking]
        told = answers[2].headers
        now += float(told["retry-after-ms"]) / 1000
        later = await client.post(sim.url + "/chat/completions", json=_body())

    assert [one.status_code for one in answers] == [200, 200, 429]
    assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["59", "58", "58"]
    assert [one.headers["x-ratelimit-remaining-tokens"] for one in answers] == ["12", "4", "4"]
    assert (told["x-ratelimit-limit-tokens"], told["x-ratelimit-reset-tokens"]) == ("20", "48s")
    assert answers[2].json()["error"]["type"] == "tokens"
    assert (told["retry-after"], later.status_code) == ("12", 200)


async def test_each_key_has_limits_of_its_own(client: httpx.AsyncClient) -> None:
    """One that is used up leaves the others theirs."""
    async with Simulator(limits=Limits(rpm=1), clock=lambda: 0.0) as sim:
        keys = ("a", "a", "b")
        asking = [
            client.post(sim.url + "/chat/completions", json=_body(), headers={"authorization": f"Bearer {key}"})
            for key in keys
        ]
        answers = [await one for one in asking]
        sim.reset()
        again = await client.post(sim.url + "/chat/completions", json=_body(), headers={"authorization": "Bearer a"})

    assert [one.status_code for one in answers] == [200, 429, 200]
    assert again.status_code == 200
