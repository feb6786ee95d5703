"""Filters in Qdrant: its conditions let through what fits, and what comes back is exactly that."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.local.payload_filters import calculate_payload_mask

from dspex.protocols.filters import And, Filter, Not, Range, fits
from dspex.protocols.metadata import Metadata
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval._qdrant_points import condition_of, passage_of, payload_of
from dspex.services.retrieval.hashing import HashingEmbedder
from dspex.services.retrieval.qdrant_index import QdrantIndex
from tests.support.metadata import filters, metadata

FEWER = settings(max_examples=settings.default.max_examples // 4 if settings.default else 25, deadline=None)


@given(asked=filters, about=st.lists(metadata, min_size=1, max_size=5))
@example(asked=Not(Range("n", at_most=2**53)), about=[{"n": 2**53 + 1}])
@example(asked=Range("n", below=2**53 + 1, above=2**53 - 1), about=[{"n": 2**53}, {"n": [1, 2**60]}])
@example(asked=Not(Range("n", at_least="abcdefg")), about=[{"n": "abcdefa"}, {"n": "abcdefz"}, {"n": 1}])
@example(asked=Range("a.b[0]", at_least=1, above=0.5), about=[{"a.b[0]": 1}, {"a": 2}])
@example(asked=And(Range("n", at_least=-0.0, at_most=0)), about=[{"n": 0.0}, {"n": False}])
def test_a_condition_lets_through_what_fits(asked: Filter, about: list[Metadata]) -> None:
    payloads = [payload_of(Passage("x", id="x", metadata=each), "") for each in about]
    condition = models.Filter.model_validate(condition_of(asked))
    let_through = calculate_payload_mask(payloads, condition, list(range(len(payloads))), {})
    for each, passed in zip(about, let_through, strict=True):
        assert passed or not fits(asked, each)


@given(about=metadata, title=st.text(max_size=9), text=st.text(max_size=9), identity=st.text(max_size=9))
def test_a_passage_comes_back_as_it_was(about: Metadata, title: str, text: str, identity: str) -> None:
    try:
        f"{title}{text}{identity}".encode()
    except UnicodeEncodeError:
        return
    passage = Passage(text, title, 0.5, identity, about)
    assert passage_of(payload_of(passage, "e"), 0.5) == passage


@FEWER
@given(asked=filters, about=st.lists(metadata, min_size=1, max_size=8), k=st.integers(1, 9))
def test_a_search_finds_exactly_what_fits(asked: Filter, about: list[Metadata], k: int) -> None:
    """More passages than a page has: those that fit may come behind many that a condition let through."""

    async def found() -> list[str]:
        index = QdrantIndex("x", HashingEmbedder(16), path=":memory:")
        known = [Passage(f"all {n}", id=str(n), metadata=each) for n, each in enumerate(about)]
        await index.add(known, vectors=[[1.0, n / 7] for n in range(len(known))])
        try:
            return [each.id for each in await index.search("all", k, asked, vector=[1.0, 0.0])]
        finally:
            await index.close()

    assert asyncio.run(found()) == [str(n) for n, each in enumerate(about) if fits(asked, each)][:k]
