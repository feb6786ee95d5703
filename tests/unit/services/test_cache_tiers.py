"""The cache's tiers: what is kept, for how long, and what a damaged file does."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import CacheError
from dspex.protocols.cache import cache_key
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMRequest, LMResponse, Message, TokenLogprob, Usage
from dspex.protocols.model import LM, LMParams
from dspex.services.cache.codec import decode_response, encode_response
from dspex.services.cache.memory import MemoryTier
from dspex.services.cache.sqlite import SqliteCache

texts = st.text(st.characters(exclude_categories=["Cs"]))
said = st.text(st.characters())  # by a model: half of a surrogate pair, too
counts = st.integers(0, 10**9)
objects = st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(texts), max_size=2)
numbers = st.floats(allow_nan=False)
completions = st.builds(
    Completion,
    said,
    texts,
    tool_calls=st.lists(st.builds(ToolCall, texts, texts, st.none() | objects, said, objects), max_size=2).map(tuple),
    reasoning=st.lists(st.builds(ReasoningPart, said, texts, objects), max_size=2).map(tuple),
    logprobs=st.none()
    | st.lists(
        st.builds(TokenLogprob, said, numbers, st.lists(st.tuples(said, numbers), max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    citations=st.lists(
        st.builds(Citation, texts, texts, texts, st.none() | counts, st.none() | counts), max_size=2
    ).map(tuple),
)
responses = st.builds(
    LMResponse,
    completions=st.lists(completions, min_size=1, max_size=3).map(tuple),
    usage=st.builds(Usage, counts, counts, counts, counts, counts),
    model=texts,
    request_id=st.none() | texts,
    headers=st.dictionaries(texts, texts, max_size=3),
    withheld=counts,
)


def response(text: str = "answer") -> LMResponse:
    return LMResponse((Completion(text),), Usage(1, 2), "rules-1")


@given(responses)
def test_codec_round_trips(original: LMResponse) -> None:
    """A stored response comes back equal, calls, thoughts, probabilities and sources included."""
    stored = encode_response(original)

    assert stored.isascii()
    assert decode_response(stored) == original


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        str
    )
)
def test_codec_reads_anything(text: str) -> None:
    """Whatever stands in a file is a response or nothing, never an exception."""
    decode_response(text)


@pytest.mark.parametrize(
    "damage",
    [('"v":2', '"v":1'), ('"usage":[1', '"usage":["x"'), ('[["answer"', "[[7"), ('"headers":{}', '"headers":[]')],
)
def test_codec_refuses_other_shapes(damage: tuple[str, str]) -> None:
    """Another version, or a value of the wrong type, is not an answer."""
    damaged = encode_response(response()).replace(*damage)

    assert damaged != encode_response(response())
    assert decode_response(damaged) is None


@given(st.lists(st.tuples(st.sampled_from(["get", "set", "delete"]), st.sampled_from("abcdef"), st.integers(0, 400))))
def test_memory_tier_is_a_bounded_lru(operations: list[tuple[str, str, int]]) -> None:
    """Against a model: at most three entries and 3,000 bytes, the least recently used leave first."""
    tier = MemoryTier(max_entries=3, max_bytes=3_000)
    model: OrderedDict[str, int] = OrderedDict()
    for operation, key, size in operations:
        if operation == "set":
            tier.set_nowait(key, response("x" * size))
            model.pop(key, None)
            model[key] = 600 + size
            while len(model) > 3 or (sum(model.values()) > 3_000 and len(model) > 1):
                model.popitem(last=False)
        elif operation == "get":
            assert (tier.get_nowait(key) is not None) == (key in model)
            if key in model:
                model.move_to_end(key)
        elif key in model:
            del model[key]
            tier._cache.pop(key)
            tier.bytes = sum(model.values())
    assert list(tier._cache) == list(model)
    assert tier.bytes == sum(model.values())


def test_sqlite_tier_keeps_answers_across_openings(tmp_path: Path) -> None:
    """A second process finds what the first one stored."""
    table = SqliteCache(tmp_path / "c.db").open()
    table.set("k", response())
    table.close()
    again = SqliteCache(tmp_path / "c.db").open()

    assert again.get("k") == response()
    assert again.get("other") is None
    again.close()


def test_sqlite_tier_evicts_the_least_recently_used(tmp_path: Path) -> None:
    """Beyond its bound the oldest answers leave, down to nine tenths."""
    table = SqliteCache(tmp_path / "c.db", max_bytes=2_000).open()
    evicted = sum(table.set(f"k{i}", response("x" * 300)) for i in range(10))

    kept = [i for i in range(10) if table.get(f"k{i}") is not None]
    assert evicted == 10 - len(kept) > 0
    assert kept == list(range(10 - len(kept), 10))
    table.close()


def test_sqlite_tier_treats_a_damaged_row_as_absent(tmp_path: Path) -> None:
    """Nothing read from disk is trusted."""
    table = SqliteCache(tmp_path / "c.db").open()
    table.set("k", response())
    table.close()
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.execute("UPDATE entries SET value = '{\"v\":1}'")
    db.close()
    table = SqliteCache(tmp_path / "c.db").open()

    assert table.get("k") is None
    table.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 40, None])
def test_sqlite_tier_names_a_file_it_cannot_open(tmp_path: Path, content: bytes | None) -> None:
    """A file that is something else, or a folder, is a CacheError with the path in it."""
    path = tmp_path / "c.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)

    with pytest.raises(CacheError, match=r"c\.db"):
        SqliteCache(path).open()


def test_cache_key_depends_on_the_question_and_not_on_the_key() -> None:
    """Model, server, turns and every parameter count; the API key does not."""
    lm = LM("openai/m", api_key="one")
    request = LMRequest((Message("user", "q"),))
    key = cache_key(lm, request)

    assert cache_key(LM("openai/m", api_key="two"), request) == key
    others = [
        cache_key(LM("openai/n"), request),
        cache_key(LM("openai/m", api_base="http://localhost:1/v1"), request),
        cache_key(lm, LMRequest((Message("system", "q"),))),
        cache_key(lm, LMRequest((Message("user", "q"), Message("user", "")))),
        cache_key(lm, LMRequest(request.messages, LMParams(temperature=0.0))),
        cache_key(lm, LMRequest(request.messages, LMParams(seed=1))),
        cache_key(lm, LMRequest(request.messages, LMParams(extra_body={"top_k": 1}))),
    ]
    assert len({key, *others}) == 8
