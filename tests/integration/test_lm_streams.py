"""Streamed, multiplied and embedding calls through a whole App: against the simulator, and against scripted bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigError, ResponseInvalid, ServerFailed
from dspex.protocols.lm import AttemptLog, EmbedRequest, EmbedResponse, LMDelta
from dspex.protocols.model import LMParams
from dspex.protocols.scope import current_scope
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import until
from tests.support.streaming import Talk
from tests.support.transports import Peer, Server, serving

CHAT = "/v1/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def app_at(url: str, capabilities: dict[str, bool] | None = None, **arguments: Any) -> dspex.App:
    lm = dspex.LM("openai/rules", api_base=url, api_key="key", capabilities=capabilities)
    quick = ClientLimits(retry=RetryPolicy(base=0.01, cap=0.05))
    return dspex.App(lm=lm, **{"limits": quick, **arguments})


# --- scripted bytes -----------------------------------------------------------------------------------------


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def piece(text: str, finish: str | None = None) -> bytes:
    return event(model="m", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def write(peer: Peer, *events: bytes) -> None:
    peer.transport.write(b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in events))


def head(peer: Peer) -> None:
    peer.transport.write(HEAD)


@contextlib.asynccontextmanager
async def talking(*answers: Any) -> AsyncIterator[tuple[Server, dspex.App]]:
    async with serving(*answers) as server, app_at(server.url.removesuffix("/chat/completions")) as app:
        yield server, app


async def test_pieces_are_handed_on_one_by_one() -> None:
    """Each before the provider has said the next."""
    async with talking(head) as (server, app):
        talk = Talk()
        request = app.start(talk, text="q")
        await until(lambda: server.requests)
        for count, text in enumerate(("Good", " day"), 1):
            write(server.peers[0], piece(text))
            await until(lambda count=count: len(talk.texts) == count)  # type: ignore[misc]  # a default argument
        write(server.peers[0], piece("", "stop"), b"data: [DONE]\n\n")
        server.peers[0].transport.write(b"0\r\n\r\n")
        result = await request

        assert talk.texts == ["Good", " day"]
        assert result.response.completions[0].text == "Good day"
    assert json.loads(server.requests[0][1])["stream"] is True


async def test_an_error_in_the_stream_is_typed_and_not_retried() -> None:
    """It came under a success status, after a piece."""
    async with talking(head) as (server, app):
        talk = Talk()
        request = app.start(talk, text="q")
        await until(lambda: server.requests)
        write(server.peers[0], piece("Good"))
        await until(lambda: talk.texts)
        write(server.peers[0], event(error={"message": "overloaded", "type": "server_error"}))
        with pytest.raises(ServerFailed) as caught:
            await request

        assert len(caught.value.attempts) == len(server.requests) == 1
        await asyncio.wait_for(server.peers[0].lost, 5)


async def test_an_answer_that_is_complete_survives_its_connection() -> None:
    """The provider has said that it is done: that its connection then breaks changes nothing."""
    async with talking(head) as (server, app):
        request = app.start(Talk(), text="q")
        await until(lambda: server.requests)
        write(server.peers[0], piece("Good"), piece("", "stop"), b"data: [DONE]\n\n")
        server.peers[0].transport.close()
        result = await request

    assert result.response.completions[0].text == "Good"
    assert [attempt.outcome for attempt in result.attempts] == ["ok"]


async def test_a_server_that_does_not_stream_is_read_whole() -> None:
    """It was asked to, and answered as it can: the answer is one piece."""

    def whole(peer: Peer) -> None:
        body = json.dumps({"model": "m", "choices": [{"message": {"content": "Good day"}, "finish_reason": "stop"}]})
        fields = f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}"
        peer.transport.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}".encode())

    async with talking(whole) as (_, app):
        talk = Talk()
        result = await app.run(talk, text="q")

    assert talk.deltas == [LMDelta(0, "Good day")]
    assert result.response.completions[0].text == "Good day"


async def test_a_slow_reader_holds_the_provider_back() -> None:
    """Pieces that are not read stay with the provider."""

    def flood(peer: Peer) -> None:
        head(peer)
        write(peer, *[piece("x" * 100_000) for _ in range(200)], piece("", "stop"), b"data: [DONE]\n\n")
        peer.transport.write(b"0\r\n\r\n")

    async with talking(flood) as (server, app):
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="q")
        await until(lambda: talk.texts)
        for _ in range(100):
            await asyncio.sleep(0)
        assert server.peers[0].transport.get_write_buffer_size() > 5_000_000
        assert talk.hold is not None
        talk.hold.set()
        result = await request

    assert len(result.response.completions[0].text) == 20_000_000


async def test_a_model_without_streams_answers_in_one_piece(simulator: Simulator) -> None:
    """It is not even asked to."""
    async with app_at(simulator.url, {"streaming": False}) as app:
        talk = Talk()
        result = await app.run(talk, text="one two three")

    assert [delta.text for delta in talk.deltas] == [result.response.completions[0].text]


# --- caches -------------------------------------------------------------------------------------------------


async def test_a_cached_answer_is_one_piece(simulator: Simulator) -> None:
    """Whoever reads a stream reads the same text."""
    async with app_at(simulator.url, cache="memory") as app:
        first, second = Talk(), Talk()
        await app.run(first, text="one two three")
        result = await app.run(second, text="one two three")

    assert result.cached == "memory"
    assert second.texts == ["".join(first.texts)]


async def test_a_coalesced_answer_is_one_piece(simulator: Simulator) -> None:
    """The leader reads as it comes, who waited for it reads the whole."""
    async with app_at(simulator.url, cache="memory") as app:
        talks = [Talk() for _ in range(4)]
        results = await asyncio.gather(*(app.run(talk, text="one two three") for talk in talks))

    whole = results[0].response.completions[0].text
    assert ["".join(talk.texts) for talk in talks] == [whole] * 4
    assert sorted(str(result.cached) for result in results) == ["None", "coalesced", "coalesced", "coalesced"]
    assert simulator.stats().requests == {"ok": 1}


# --- several answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
async def test_several_answers_of_a_model_that_gives_one_at_a_time(simulator: Simulator, streams: bool) -> None:
    """As many calls, each with a seed of its own; answers, pieces and tokens are put together."""
    failing = FaultPlan(script={CHAT: (Fault(kind=FaultKind.SERVER_ERROR),)})
    simulator.set_faults(failing)
    async with app_at(simulator.url, {"many": False, "streaming": streams}) as app:
        talk = Talk(params=LMParams(n=3, seed=7))
        result = await app.run(talk, text="one two three")

        single = await app.run(Talk(params=LMParams(seed=7)), text="one two three")

    response = result.response
    assert len(response.completions) == 3
    assert response.usage.output_tokens >= 3
    assert response.usage.input_tokens == 3 * single.response.usage.input_tokens
    texts = [
        "".join(delta.text for delta in talk.deltas if delta.index == index)
        for index in range(len(response.completions))
    ]
    assert texts == [completion.text for completion in response.completions]
    assert sorted(attempt.outcome for attempt in result.attempts) == ["ServerFailed", "ok", "ok", "ok"]


async def test_the_first_failure_of_several_ends_them_all(simulator: Simulator) -> None:
    """Nobody waits for answers that cannot be used."""
    script = (Fault(kind=FaultKind.HANG), Fault(kind=FaultKind.UNAUTHORIZED), Fault(kind=FaultKind.HANG))
    simulator.set_faults(FaultPlan(script={CHAT: script}))
    async with app_at(simulator.url, {"many": False}) as app:
        with pytest.raises(dspex.AuthFailed):
            await app.run(Talk(params=LMParams(n=3)), text="one two three")
        await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 0), 10)


# --- vectors ------------------------------------------------------------------------------------------------


class Embed(dspex.Module):
    """Vectors, asked for where a program stands."""

    def __init__(self, app: dspex.App, *texts: str) -> None:
        self.lm = app.running_tree().lm
        self.texts = texts
        self.log = AttemptLog("embed-1")

    async def forward(self) -> EmbedResponse:
        scope = current_scope.get()

        async def work() -> EmbedResponse:
            return await self.lm.embed(None, EmbedRequest(self.texts), self.log, scope.deadline)

        response: EmbedResponse = await scope.call("embed", work, idempotent=True, timeout=None)
        return response


async def test_vectors_come_in_the_order_of_their_texts(simulator: Simulator) -> None:
    """Cut into several calls, one of which is tried again; the same text has the same vector."""
    simulator.set_faults(FaultPlan(script={"/v1/embeddings": (Fault(kind=FaultKind.SERVER_ERROR),)}))
    async with app_at(simulator.url) as app:
        texts = [f"text {number % 4} " + "and so on " * 2_500 for number in range(14)]  # some fit into a call
        embed = Embed(app, *texts)
        response = await app.run(embed)
        one = await app.run(Embed(app, texts[2]))

    assert len(response.vectors) == len(texts)
    assert response.vectors[2] == response.vectors[6] == one.vectors[0]
    assert response.vectors[2] != response.vectors[3]
    assert sorted(attempt.outcome for attempt in embed.log.attempts) == ["ServerFailed", "ok", "ok"]


async def test_a_provider_without_vectors_says_so(simulator: Simulator) -> None:
    """Before anything is sent."""
    lm = dspex.LM("anthropic/claude", api_base=simulator.url, api_key="key")
    async with dspex.App(lm=lm) as app:
        with pytest.raises(ConfigError, match="embeddings"):
            await app.run(Embed(app, "text"))


async def test_an_answer_beyond_the_limit_is_refused() -> None:
    """A server gone wild costs a bounded amount of memory."""

    def wild(peer: Peer) -> None:
        peer.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")

    async with talking(wild) as (server, app):
        with pytest.raises(ResponseInvalid, match="more than") as caught:
            await app.run(dspex.Predict("question -> answer"), question="q")

    assert len(server.requests) == len(caught.value.attempts) == 1  # another one would be as large


async def test_an_app_speaks_through_its_proxy(simulator: Simulator) -> None:
    """Said once, for every provider; what is not a proxy is said before anything is started."""

    def answer(peer: Peer) -> None:
        body = json.dumps({"model": "m", "choices": [{"message": {"content": "Good day"}, "finish_reason": "stop"}]})
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        peer.transport.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}".encode())

    async with serving(answer) as server:
        proxy = server.url.partition("/v1")[0]
        async with app_at("http://llm.test/v1", {"streaming": False}, proxy=proxy) as app:
            result = await app.run(Talk(), text="q")

    assert result.response.completions[0].text == "Good day"
    assert server.requests[0][0].startswith(b"POST http://llm.test/v1/chat/completions HTTP/1.1")
    with pytest.raises(ConfigError, match="proxy="):
        app_at(simulator.url, proxy="socks5://localhost:1080")


async def test_an_app_goes_by_the_environment_s_proxies_where_it_is_told_to(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not unless; and what is not a proxy is named by its variable."""
    body = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with serving(lambda peer: peer.transport.write(answer)) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("HTTP_PROXY", server.url.partition("/v1")[0])
        async with app_at("http://llm.test/v1", {"streaming": False}, proxy="environment") as app:
            assert (await app.run(Talk(), text="q")).response.completions[0].text == "hello"
        async with app_at(simulator.url, proxy="environment") as app:
            await app.run(Talk(), text="this machine is asked directly")

        assert len(server.requests) == 1
        assert server.requests[0][0].lower().startswith(b"post http://llm.test/v1/chat/completions")

    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@localhost:1080")
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        app_at(simulator.url, proxy="environment")
    assert "secret" not in str(caught.value)
