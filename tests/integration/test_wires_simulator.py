"""Every wire against the simulator over real sockets: whole and streamed, tools and their results, schemas, vectors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from operator import mul

import httpx
import pytest
import pytest_asyncio

from dspex.errors import AuthFailed
from dspex.protocols.content import ToolResult
from dspex.protocols.lm import (
    EmbedRequest,
    JsonSchema,
    LMDelta,
    LMRequest,
    LMResponse,
    Message,
    ToolSpec,
)
from dspex.protocols.model import LMParams, Secret
from dspex.protocols.wire import EmbeddingsWire, Wire
from dspex.services.lm.providers import PROVIDERS
from dspex.simulator import Simulator

HOMES = {"openai": "openai", "openai-responses": "openai", "anthropic": "anthropic", "gemini": "gemini"}
"""A provider and whose address the simulator answers it at."""
SEARCH = ToolSpec("search", "Finds pages.", {"type": "object", "properties": {"query": {"type": "string"}}})
BIRDS = JsonSchema(
    "birds",
    {
        "type": "object",
        "properties": {"color": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["color", "count"],
        "additionalProperties": False,
    },
)


@pytest_asyncio.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator without faults that wants a key."""
    async with Simulator(key="key") as running:
        yield running


class Caller:
    """Sends what a wire writes to the simulator, and has the wire read the answer."""

    def __init__(self, provider: str, sim: Simulator, client: httpx.AsyncClient) -> None:
        self.wire: Wire = PROVIDERS[provider].wire
        self.embeddings: EmbeddingsWire | None = PROVIDERS[provider].embeddings
        self._base = sim.urls[HOMES[provider]]
        # Google's client puts the version behind the address it is given; ours has it in the table.
        version = {"anthropic": "/v1", "gemini": "/v1beta"}.get(provider, "")
        if version and not self._base.endswith(version):
            self._base += version
        self._client = client

    async def whole(self, request: LMRequest, *, key: str = "key") -> LMResponse:
        answer = await self._post(self.wire.path("m", stream=False), self.wire.encode("m", request), key)
        return self.wire.decode(answer.status_code, dict(answer.headers), answer.content)

    async def streamed(self, request: LMRequest) -> tuple[list[LMDelta], LMResponse]:
        answer = await self._post(self.wire.path("m", stream=True), self.wire.encode("m", request, stream=True), "key")
        assert answer.status_code == 200, answer.text
        decoder = self.wire.decoder(dict(answer.headers))
        body = answer.content
        deltas = [delta for at in range(0, len(body), 7) for delta in decoder.feed(body[at : at + 7])]
        return deltas, decoder.finish()

    async def _post(self, path: str, body: bytes, key: str) -> httpx.Response:
        headers = self.wire.headers(Secret(key), idempotency_key="call", attempt=1)
        return await self._client.post(self._base + path, headers=headers, content=body)

    async def vectors(self, *texts: str) -> list[list[float]]:
        assert self.embeddings is not None
        body = self.embeddings.encode("m", EmbedRequest(texts, 64))
        answer = await self._post(self.embeddings.path("m"), body, "key")
        response = self.embeddings.decode(answer.status_code, dict(answer.headers), answer.content, texts=len(texts))
        return [list(vector) for vector in response.vectors]


@pytest_asyncio.fixture
async def caller(request: pytest.FixtureRequest, sim: Simulator) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient() as client:
        yield Caller(request.param, sim, client)


everyone = pytest.mark.parametrize("caller", sorted(HOMES), indirect=True)


def asking(text: str, **fields: object) -> LMRequest:
    return LMRequest((Message("user", text),), LMParams(temperature=0), **fields)  # type: ignore[arg-type]  # named


@everyone
async def test_an_answer_is_the_same_streamed(caller: Caller) -> None:
    """Text, reason and usage."""
    whole = await caller.whole(asking("one two three"))
    deltas, streamed = await caller.streamed(asking("one two three"))

    assert whole.completions == streamed.completions
    assert whole.completions[0].text == "".join(delta.text for delta in deltas) == "one two three"
    assert whole.completions[0].finish_reason == "stop"
    assert whole.usage == streamed.usage
    assert whole.usage.total_tokens > 0
    assert len(deltas) > 1


@everyone
async def test_a_tool_is_called_and_its_result_read(caller: Caller) -> None:
    """The turn goes back as it came, and the model answers from the result."""
    request = asking("search cats", tools=(SEARCH,))
    [said] = (await caller.whole(request)).completions
    deltas, streamed = await caller.streamed(request)

    [call] = said.tool_calls
    assert (call.name, call.arguments, said.finish_reason) == ("search", {"query": "search cats"}, "tool_calls")
    assert [(each.name, each.arguments) for each in streamed.completions[0].tool_calls] == [(call.name, call.arguments)]
    assert json.loads("".join(delta.arguments for delta in deltas)) == call.arguments

    result = Message("tool", (ToolResult(call.id, call.name, "Cats are animals."),))
    turns = (*request.messages, said.turn(), result)
    answer = await caller.whole(LMRequest(turns, request.params, request.tools))
    assert answer.completions[0].text == "Cats are animals."


@everyone
async def test_a_schema_is_filled(caller: Caller) -> None:
    [said] = (await caller.whole(asking("3 birds", output=BIRDS))).completions

    assert json.loads(said.text).keys() == {"color", "count"}


@everyone
async def test_a_wrong_key_is_refused(caller: Caller) -> None:
    with pytest.raises(AuthFailed):
        await caller.whole(asking("Hi"), key="another")


@pytest.mark.parametrize("caller", ["openai", "gemini"], indirect=True)
async def test_like_texts_have_like_vectors(caller: Caller) -> None:
    one, like, other = await caller.vectors("a cat sat here", "a cat sat there", "stock exchange report")

    assert len(one) == len(other) == 64
    assert sum(map(mul, one, like)) > sum(map(mul, one, other))
