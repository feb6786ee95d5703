"""Azure OpenAI from end to end: both interfaces, the key's own header, answers, streams, vectors and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

import dspex
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import Ask, Question

RESOURCES = ["", "/openai/v1", "?api-version=2024-10-21"]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(key="secret") as running:
        yield running


def deployment(simulator: Simulator, resource: str, *, key: str = "secret") -> dspex.LM:
    return dspex.LM("azure/my gpt", api_base=simulator.urls["azure"] + resource, api_key=key)


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_deployment_answers_streams_and_makes_vectors(simulator: Simulator, resource: str) -> None:
    """By the present interface, and by the one that is asked for a version."""
    async with dspex.App(deployment(simulator, resource), cache=None) as app:
        prediction = await app.run(Ask(), question="Who?")
        assert prediction.answer
        assert dspex.details(prediction).usage.total_tokens > 0
        async with app.stream(dspex.Predict(Question), question="Who?") as stream:
            pieces = [each.text async for each in stream if isinstance(each, dspex.Delta)]
            assert "".join(pieces) == (await stream.result()).answer
        (vector,) = await app.run(dspex.Embed(), ["a text"])
        assert len(vector) == 1536
    by_version = "?" in resource
    chat, embeddings = (
        f"/openai/{'deployments/my%20gpt' if by_version else 'v1'}/{method}"
        for method in ("chat/completions", "embeddings")
    )
    assert [each.path for each in simulator.arrivals()] == [chat, chat, embeddings]


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_wrong_key_is_refused_and_named(simulator: Simulator, resource: str) -> None:
    """It was sent as ``api-key``: the message says where the user keeps it."""
    async with dspex.App(deployment(simulator, resource, key="wrong")) as app:
        with pytest.raises(dspex.AuthFailed, match="AZURE_OPENAI_API_KEY"):
            await app.run(Ask(), question="Who?")


async def test_the_key_is_kept_in_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that Azure's own client reads."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "secret")
    async with dspex.App(dspex.LM("azure/m", api_base=simulator.urls["azure"])) as app:
        assert (await app.run(Ask(), question="Who?")).answer


async def test_refusals_are_tried_again_as_elsewhere(simulator: Simulator) -> None:
    """The errors are OpenAI's."""
    chat = "/openai/v1/chat/completions"
    limited = Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01)
    simulator.set_faults(FaultPlan(script={chat: (limited, Fault(kind=FaultKind.SERVER_ERROR))}))
    async with dspex.App(deployment(simulator, "")) as app:
        request = app.start(Ask(), question="Who?")
        await request

    assert [each.outcome for each in request.details.attempts] == ["RateLimited", "ServerFailed", "ok"]


async def test_the_simulator_wants_a_version_for_deployments(simulator: Simulator) -> None:
    """As the resource does: without one there is nothing at that address."""
    url = f"{simulator.urls['azure']}/openai/deployments/m/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(trust_env=False) as client:
        for key in ({"api-key": "secret"}, {"authorization": "Bearer secret"}):
            missing = await client.post(url, json=body, headers=key)
            answered = await client.post(f"{url}?api-version=1", json=body, headers=key)
            assert (missing.status_code, answered.status_code) == (404, 200)
        assert (await client.get(url, headers=key)).status_code == 404
