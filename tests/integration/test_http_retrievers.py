"""Retrievers and rankers on servers: their forms of question and answer, and what is said when they fail."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import dspex
from dspex.retrieval import ColBERTv2, HttpReranker, HttpRetriever, Metadata, Reranked
from dspex.testing import FixedRetriever
from tests.support.json_server import Answer, Asked, json_server

HITS = {"hits": {"hits": [{"_id": 7, "_score": 2.5, "_source": {"body": "a heron", "name": "Heron", "year": 1999}}]}}


async def test_any_form_of_answer_is_mapped() -> None:
    """An Elasticsearch's here; a body of one's own is what the server is sent."""
    async with json_server([(200, HITS)]) as server:
        index = HttpRetriever(
            server.url,
            body=lambda query, k: {"query": {"match": {"body": query}}, "size": k},
            passages="hits.hits",
            text="_source.body",
            title="_source.name",
            score="_score",
            id="_id",
            metadata="_source",
            api_key="sk-secret",
        )
        async with dspex.App(retriever=index) as app:
            found = await app.run(dspex.Retrieve(k=3), query="heron")

    about: Metadata = {"body": "a heron", "name": "Heron", "year": 1999}
    assert found == [dspex.Passage("a heron", "Heron", 2.5, "7", about)]
    (asked,) = server.asked
    assert (asked.method, asked.body) == ("POST", {"query": {"match": {"body": "heron"}}, "size": 3})
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in repr(index)


async def test_passages_without_scores_stay_in_the_order_of_the_server() -> None:
    answer = ["one", {"text": "two", "metadata": {"a": {}, "b": [1], "c": None}}, {"text": "three"}]
    async with json_server([(200, answer)]) as server:
        index = HttpRetriever(server.url, passages="")
        found = await index.search("x", 2)
        await index.close()

    assert [(each.text, each.score, each.metadata) for each in found] == [
        ("one", 0.0, {}),
        ("two", -1.0, {"b": [1], "c": None}),
    ]
    assert server.asked[0].body == {"query": "x", "k": 2}


async def test_colbert_is_asked_as_dspy_asks_it() -> None:
    topk = [
        {"text": "Heron | it waits", "score": 20.5, "pid": 3, "prob": 0.9, "rank": 1},
        {"text": "no bar", "score": 1},
    ]
    async with json_server([(200, {"query": "x", "topk": topk})]) as server:
        index = ColBERTv2(server.url)
        found = await index.search("who waits?", 5)
        await index.close()

    assert found == [dspex.Passage("it waits", "Heron", 20.5, "3"), dspex.Passage("no bar", "", 1.0)]
    assert (server.asked[0].method, server.asked[0].query) == ("GET", {"query": ["who waits?"], "k": ["5"]})


@pytest.mark.parametrize(
    ("answers", "tries", "message"),
    [
        ([(503, "busy"), b"", (200, [])], 3, ""),
        ([(500, "down sk-secret")], 3, r"answered 500 \(3 tries\): \"down \[redacted\]\""),
        ([(401, "who are you, sk-secret?")], 1, r"answered 401 \(1 tries\).*\[redacted\]"),
        ([(302, "")], 1, "answered 302"),
        ([b""], 3, "did not answer"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[]"], 3, "did not answer"),
        ([b"junk\r\n\r\n"], 3, "did not answer"),
        ([(200, b"<html>")], 1, "is not JSON"),
        ([b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 9\r\n\r\n"], 1, "packed its answer"),
        ([(200, b"[" * 100_000)], 1, "is not JSON"),
        ([(200, {"passages": 5})], 1, "without a list"),
        ([(200, [{"title": "x"}])], 1, "passage 1 has no text at 'text'"),
        ([(200, b"x" * (17 * 2**20))], 1, "answered more than 16777216 bytes"),
    ],
)
async def test_failures_are_typed_and_tried_again_where_that_helps(
    answers: list[Answer], tries: int, message: str
) -> None:
    async with json_server(answers) as server:
        index = HttpRetriever(
            server.url,
            passages="" if isinstance(answers[-1], tuple) and isinstance(answers[-1][1], list) else "passages",
            api_key="sk-secret",
            backoff=0.001,
        )
        if message:
            with pytest.raises(dspex.RetrievalError, match=message) as caught:
                await index.search("x", 1)
            assert "sk-secret" not in str(caught.value)
            assert server.url in str(caught.value)
        else:
            assert await index.search("x", 1) == []
        await index.close()

    assert len(server.asked) == tries


async def test_a_server_that_is_not_there_is_told() -> None:
    index = HttpRetriever("http://127.0.0.1:9/search", backoff=0.001)
    with pytest.raises(dspex.RetrievalError, match=r"127\.0\.0\.1:9/search: it did not answer: ConnectError"):
        await index.search("x", 1)
    await index.close()


async def test_proxies_of_the_environment_are_not_used() -> None:
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"
    try:
        async with json_server([(200, [])]) as server:
            index = HttpRetriever(server.url, passages="")
            assert await index.search("x", 1) == []
            await index.close()
    finally:
        del os.environ["HTTP_PROXY"]


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "http://me:secret@host/", "no address", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    for make in (HttpRetriever, ColBERTv2, HttpReranker):
        with pytest.raises(dspex.ConfigError) as caught:
            make(url)
        assert "secret" not in str(caught.value)


def tei(asked: Asked) -> Answer:
    """Text Embeddings Inference: the best first."""
    assert isinstance(asked.body, dict)
    scores = [len(each) for each in asked.body["texts"]]
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    return 200, [{"index": at, "score": float(scores[at])} for at in order]


def cohere(asked: Asked) -> Answer:
    assert isinstance(asked.body, dict)
    assert asked.body["model"] == "judge"
    results = [{"index": at, "relevance_score": len(each)} for at, each in enumerate(asked.body["documents"])]
    return 200, {"id": "x", "results": results[::-1]}


@pytest.mark.parametrize(("answer", "model"), [(tei, None), (cohere, "judge")])
async def test_a_server_puts_passages_into_order(answer: Callable[[Asked], Answer], model: str | None) -> None:
    """In questions of the size that it takes."""
    found = FixedRetriever(["a", "abc", "ab", "abcde", "abcd"])
    async with json_server(answer) as server:
        ranker = HttpReranker(server.url, model=model, batch=2)
        async with dspex.App(retriever=Reranked(found, by=ranker)) as app:
            best = await app.run(dspex.Retrieve(k=2), query="x")

    assert [(each.text, each.score) for each in best] == [("abcde", 5.0), ("abcd", 4.0)]
    assert len(server.asked) == 3
    assert found.queries == [("x", 50)]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 0, "relevance_score": 1.0}]},
        [{"index": 0, "score": 1}, {"index": 2, "score": 1}],
        [{"index": 0, "score": "high"}, {"index": 1, "score": 1}],
        [{"index": True, "score": 1}, {"index": 1, "score": 1}],
        {"error": "x"},
    ],
)
async def test_a_server_that_does_not_score_each_passage_is_told(answer: object) -> None:
    async with json_server([(200, answer)]) as server:
        with pytest.raises(dspex.RetrievalError, match="did not score each of 2 passages"):
            await HttpReranker(server.url)("x", [dspex.Passage("a"), dspex.Passage("b")])
