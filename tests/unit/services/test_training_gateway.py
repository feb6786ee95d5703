"""Trainings at a provider that a transport of the user's own plays: pages, bounds, keys that are repeated, failures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

import dspex
from dspex.protocols.model import LM
from dspex.protocols.training import TrainingOrder
from dspex.services.lm.gateway import LMGateway
from dspex.services.lm.limits import LimitsBook
from dspex.services.lm.providers import PROVIDERS
from dspex.services.lm.training import MAX_ANSWER, PAGES, TrainingGateway
from dspex.services.lm.transport import HttpxTransport, Network
from dspex.testing import ScriptedLM

KEY = "sk-very-secret-key-of-a-user"
SMALL = LM("openai/small", api_base="http://provider.test/v1", api_key=KEY)

Answer = Callable[[httpx.Request], httpx.Response]


def gateway(answer: Answer) -> TrainingGateway:
    transport = httpx.MockTransport(answer)
    lms = LMGateway(
        {"default": SMALL},
        keys=lambda _: None,
        limits=LimitsBook({}),
        open_transport=lambda clock: HttpxTransport(transport, clock=clock),
    )
    return TrainingGateway(lms, PROVIDERS, Network(transport=transport))


def jobs(first: int, count: int, mark: str, *, more: bool) -> httpx.Response:
    data = [{"id": f"ftjob-{n}", "status": "running", "metadata": {"dspex": mark}} for n in range(first, first + count)]
    return httpx.Response(200, json={"data": data, "has_more": more})


async def test_a_training_is_found_on_any_page_of_a_provider_that_does_not_filter() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("after", ""))
        return jobs(100 * len(asked), 100, "mine" if len(asked) == 3 else "another's", more=True)

    found = await gateway(answer).find(SMALL, "mine")

    assert found is not None
    assert found.id == "ftjob-300"
    assert asked == ["", "ftjob-199", "ftjob-299"]


async def test_a_list_without_an_end_is_given_up() -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return jobs(1, 1, "another's", more=True)

    assert await gateway(answer).find(SMALL, "mine") is None
    assert asked == PAGES


async def test_a_secret_that_the_provider_repeats_is_taken_out() -> None:
    def refusing(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return httpx.Response(400, json={"error": {"message": f"no file for {KEY}", "code": KEY}})

    def telling(request: httpx.Request) -> httpx.Response:
        event = {"id": "1", "message": f"key {KEY}"}
        escaped = json.dumps({"data": [event]}).replace("sk-very", "sk\\u002dvery")
        return httpx.Response(200, content=escaped)

    with pytest.raises(dspex.RequestRejected) as caught:
        await gateway(refusing).submit(SMALL, TrainingOrder("small", "file-1", "mark"))
    told = await gateway(telling).events(SMALL, "ftjob-1")

    assert "no file for [key]" in str(caught.value)
    assert KEY not in f"{caught.value!r} {caught.value.code} {told}"


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 2**20


async def test_an_answer_is_read_up_to_a_bound() -> None:
    with pytest.raises(dspex.ResponseInvalid, match=f"more than {MAX_ANSWER} bytes"):
        await gateway(lambda request: httpx.Response(200, content=endless())).look(SMALL, "ftjob-1")


async def test_a_packed_answer_is_refused_unread() -> None:
    """Nothing packed was asked for: two layers of gzip make gigabytes of a few thousand bytes."""
    asked: list[str] = []

    def packing(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200, headers={"content-encoding": "gzip, gzip"}, content=endless())

    with pytest.raises(dspex.ResponseInvalid, match="packed its answer"):
        await gateway(packing).look(SMALL, "ftjob-1")
    assert asked == ["identity"]


async def test_a_provider_that_is_not_there_is_an_outage() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request) from ConnectionRefusedError("refused")

    with pytest.raises(dspex.TransportFailed, match=r"provider\.test") as caught:
        await gateway(refuse).look(SMALL, "ftjob-1")
    assert caught.value.is_retryable
    assert KEY not in repr(caught.value.__cause__)


async def test_without_a_key_nothing_is_sent() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    with pytest.raises(dspex.AuthFailed, match="OPENAI_API_KEY"):
        await gateway(never).look(LM("openai/small"), "ftjob-1")


def test_what_cannot_be_trained_is_named() -> None:
    trains = gateway(lambda request: httpx.Response(500))

    assert trains.record(None) is SMALL
    assert trains.record("openai/other").model == "openai/other"
    for lm, words in (
        (dspex.LMPool((SMALL,)), "a pool cannot be trained"),
        (ScriptedLM([]), "answers by itself"),
        ("groq/small", "no training at the provider of 'groq/small'"),
    ):
        with pytest.raises(dspex.ConfigError, match=words):
            trains.record(lm)
