"""Headers that a gateway wants reach it as headers, over each protocol, and are written down nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

import dspex
from dspex.testing import cassette
from tests.support.programs import Ask
from tests.support.transports import say, serving

PROTOCOLS = ["openai", "openai-responses", "anthropic", "gemini", "azure"]
ONCE = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
CHAT = {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}


class Gateway(httpx.AsyncBaseTransport):
    """Keeps what was sent, and answers in the chat protocol with what it was told."""

    def __init__(self, content: object = CHAT) -> None:
        self.requests: list[httpx.Request] = []
        self.content = content

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self.content)


def model(provider: str = "openai", api_key: str | None = "key", **headers: str) -> dspex.LM:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return dspex.LM(f"{provider}/m", api_base="http://gateway.test/v1", api_key=api_key, headers=given)


async def sent(lm: dspex.LM) -> httpx.Request:
    """Return the first request that a call becomes; its answer does not matter here."""
    gateway = Gateway()
    async with dspex.App(lm, transport=gateway, cache=None, limits=ONCE) as app:
        await app.start(dspex.Predict("question -> answer"), question="q").outcome()
    return gateway.requests[0]


@pytest.mark.parametrize("provider", PROTOCOLS)
async def test_they_are_headers_and_no_part_of_the_body(provider: str) -> None:
    request = await sent(model(provider, X_Tenant="t1", user_agent="mine/1"))

    assert request.headers["x-tenant"] == "t1"
    assert request.headers["user-agent"] == "mine/1", "ours gives way"
    assert b"tenant" not in request.content


async def test_they_reach_a_socket() -> None:
    """The library's own transport writes them, too."""
    body = json.dumps(CHAT).encode()
    async with serving(
        say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    ) as server:
        lm = dspex.LM(
            "openai/m", api_base=server.url.removesuffix("/chat/completions"), api_key="k", headers={"x-tenant": "t1"}
        )
        async with dspex.App(lm, cache=None) as app:
            assert (await app.run(dspex.Predict("question -> answer"), question="q")).answer == "yes"
    (head, _) = server.requests[0]
    assert b"\r\nx-tenant: t1" in head.lower()


async def test_a_credential_among_them_stands_in_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the environment stays at home; one that is given goes along where it has a header of its own."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-home")
    monkeypatch.setenv("GROQ_API_KEY", "sk-home")

    one = await sent(model("anthropic", None, authorization="Basic x"))
    two = await sent(model("anthropic", "sk-given", authorization="Basic x"))
    three = await sent(dspex.LM("groq/m", headers={"authorization": "Basic x"}))

    assert (one.headers["authorization"], one.headers.get("x-api-key")) == ("Basic x", None)
    assert (two.headers["authorization"], two.headers["x-api-key"]) == ("Basic x", "sk-given")
    assert three.headers["authorization"] == "Basic x"


async def test_models_with_other_headers_share_no_channel() -> None:
    """One tenant's calls never carry the other's headers; equal headers are one endpoint."""
    gateway = Gateway()
    lms: Mapping[str, dspex.LM] = {
        "one": model(authorization="Basic 1"),
        "two": model(authorization="Basic 2"),
        "one-again": model(authorization="Basic 1"),
    }
    async with dspex.App(lms=lms, transport=gateway, cache=None) as app:
        for name in lms:
            await app.options(lm=name).run(dspex.Predict("question -> answer"), question="q")
        assert len(app.running_tree().lm._endpoints) == 2

    assert [each.headers["authorization"] for each in gateway.requests] == ["Basic 1", "Basic 2", "Basic 1"]


async def test_a_cassette_keeps_none_of_them(tmp_path: Path) -> None:
    """Not even where the gateway repeats one in its answer."""
    secret = "tenant-4711-secret"
    told = json.loads(json.dumps(CHAT).replace("yes", f"yes, {secret}"))
    tape = cassette(tmp_path / "tape.jsonl", through=Gateway(told))

    async with dspex.App(model(x_tenant=secret), transport=tape, cache=None) as app:
        await app.run(Ask(), question="q")

    written = (tmp_path / "tape.jsonl").read_text()
    assert tape.recorded == 1
    assert "yes, [key]" in written
    assert secret not in written
