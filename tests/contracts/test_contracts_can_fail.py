"""A contract that nothing breaks is worth nothing: each is broken here, by one slip at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

import dspex
from dspex.lm import Completion, LMRequest, LMResponse, OpenAIChat, Secret, Usage
from dspex.programs import Adapter, ChatAdapter, Parsed
from dspex.protocols.cache import CacheStore
from dspex.protocols.executor import Executor, Ok, Outcome, RunOptions
from dspex.protocols.filters import Filter
from dspex.protocols.retrieval import Passage, Retriever
from dspex.testing import FixedRetriever, ScriptedLM
from dspex.testing.conformance import AdapterContract, CacheStoreContract, ExecutorContract, RetrieverContract
from tests.contracts import test_wires


def broken(contract: object) -> set[str]:
    """Return the tests that fail."""
    failed = set()
    for name in sorted(each for each in dir(contract) if each.startswith("test_")):
        try:
            getattr(contract, name)()
        except Exception:  # whatever it is: a test that fails
            failed.add(name.removeprefix("test_"))
    return failed


class ForgetsToSay(OpenAIChat):
    """Reads whatever has a text."""

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        found = json.loads(body)
        return LMResponse((Completion(found["choices"][0]["message"]["content"]),), Usage(), "m")


class TellsTheKey(OpenAIChat):
    """Puts any key into a header."""

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        return {"Authorization": key.reveal() if key else "none", "content-type": "application/json"}


class DropsTheRest(OpenAIChat):
    """Sends the last turn only."""

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        return json.dumps({"prompt": request.messages[-1].text}).encode()


@pytest.mark.parametrize(
    ("wire", "found"),
    [
        (ForgetsToSay(), {"junk_is_a_typed_error", "failures_say_what_they_mean"}),
        (TellsTheKey(), {"headers_can_be_sent", "a_key_that_cannot_be_sent_is_not_told"}),
        (DropsTheRest(), {"a_request_is_the_same_bytes_each_time", "a_request_that_cannot_be_written_is_rejected"}),
    ],
)
def test_of_wires(wire: OpenAIChat, found: set[str]) -> None:
    contract = test_wires.TestOpenAIChat()
    contract.make_wire = lambda: wire  # type: ignore[method-assign]  # another wire, the same answers

    assert broken(contract) >= found
    assert not broken(test_wires.TestOpenAIChat())


class TooMany(FixedRetriever):
    def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[Passage]:
        return [*super().search(query, k), *super().search(query, k)]


class Rising(FixedRetriever):
    def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[Passage]:
        return [Passage(str(number), score=number) for number in range(k)]


class Fragile(FixedRetriever):
    def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[Passage]:
        query.encode()
        return super().search(query, k)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (TooMany, "it_returns_at_most_k_passages"),
        (Rising, "the_best_come_first"),
        (Fragile, "a_hostile_query_is_answered_or_refused"),
    ],
)
def test_of_retrievers(make: type[FixedRetriever], found: str) -> None:
    class Held(RetrieverContract):
        def make_retriever(self) -> Retriever:
            return make(["heron", "heron again"])

    assert found in broken(Held())


class Kept:
    """A store in memory, as a user might write it."""

    def __init__(self) -> None:
        self.answers: dict[str, LMResponse] = {}

    def open(self) -> Kept:
        return self

    def get(self, key: str) -> LMResponse | None:
        return self.answers.get(key)

    def set(self, key: str, response: LMResponse) -> int:
        self.answers[key] = response
        return 0

    def remove(self, key: str, response: LMResponse) -> None:
        if self.answers.get(key) == response:
            del self.answers[key]

    def close(self) -> None:
        pass


class FirstWins(Kept):
    def set(self, key: str, response: LMResponse) -> int:
        self.answers.setdefault(key, response)
        return 0


class RemovesAny(Kept):
    def remove(self, key: str, response: LMResponse) -> None:
        self.answers.pop(key, None)


class TextOnly(Kept):
    def get(self, key: str) -> LMResponse | None:
        found = self.answers.get(key)
        return found and LMResponse((Completion(found.completions[0].text),), Usage(), "m")


class Forgets(Kept):
    def close(self) -> None:
        self.answers.clear()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Kept, set[str]()),
        (FirstWins, {"the_last_one_stored_counts"}),
        (RemovesAny, {"only_the_very_answer_is_removed"}),
        (TextOnly, {"what_is_stored_comes_back", "it_is_read_and_written_at_the_same_time"}),
        (Forgets, {"a_store_is_opened_again"}),
    ],
)
def test_of_stores(make: type[Kept], found: set[str]) -> None:
    class Held(CacheStoreContract):
        def make_store(self) -> CacheStore:
            return make()

    assert broken(Held()) >= found
    assert found or not broken(Held())


async def test_a_store_of_ones_own_serves_an_app() -> None:
    """In a second App, too, which has another memory."""
    store = Kept()
    answers = ScriptedLM([{"answer": "Ada"}], model="scripted/m")
    for _ in range(2):
        async with dspex.App(answers, cache=store) as app:
            assert (await app.run(dspex.Predict("question -> answer"), question="Who?")).answer == "Ada"

    assert len(answers.requests) == 1
    assert len(store.answers) == 1


@pytest.mark.parametrize("cache", [Kept, object(), 7, ["cache.db"]])
def test_what_is_not_a_store_is_refused(cache: Any) -> None:
    with pytest.raises(dspex.ConfigError, match="a store with open"):
        dspex.App(cache=cache)


class Raises:
    async def run(self, program: Any, inputs: Mapping[str, object], options: RunOptions) -> Outcome:
        return Ok(await program.forward(**inputs))


class OneByOne:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def run(self, program: Any, inputs: Mapping[str, object], options: RunOptions) -> Outcome:
        return Ok(None)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Raises, {"an_exception_is_an_outcome", "inputs_that_do_not_fit_are_an_outcome"}),
        (OneByOne, {"a_value_is_an_outcome", "an_exception_is_an_outcome", "a_deadline_is_kept"}),
    ],
)
def test_of_executors(make: Callable[[], Executor], found: set[str]) -> None:
    class Held(ExecutorContract):
        @asynccontextmanager
        async def open_executor(self) -> AsyncIterator[Executor]:
            yield make()

        def test_a_deadline_is_kept(self) -> None:
            if make is not Raises:  # it would wait for ever
                super().test_a_deadline_is_kept()

    assert broken(Held()) >= found


@dataclasses.dataclass(frozen=True, slots=True)
class Careless(ChatAdapter):
    """Reads any text as the last output, and asks every model for JSON."""

    def parse(self, signature: Any, completion: Any) -> Parsed:
        return Parsed({"text": str(completion)}, ())


class NoValue(ChatAdapter):
    """Every one is another."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Careless, {"what_it_writes_it_reads", "junk_is_a_typed_error"}),
        (NoValue, {"it_is_a_value"}),
    ],
)
def test_of_adapters(make: type[ChatAdapter], found: set[str]) -> None:
    class Held(AdapterContract):
        def make_adapter(self) -> Adapter:
            return make()

    assert broken(Held()) >= found
