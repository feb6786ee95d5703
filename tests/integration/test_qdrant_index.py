"""An index in Qdrant within an App, its failures, and what it does not take for its own."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import DimensionMismatch, MissingExtra, VectorInvalid
from dspex.retrieval import HashingEmbedder, QdrantIndex, Range, Vector
from dspex.simulator import Simulator
from tests.support.json_server import Answer, Asked, json_server
from tests.support.qdrant_server import QdrantEngine, qdrant_server

EMBEDDER = HashingEmbedder(32)
BIRDS = [
    dspex.Passage("it waits at the water", "Heron", id="heron", metadata={"seen": "2024-05-01"}),
    dspex.Passage("it sleeps on the wing", "Swift", id="swift", metadata={"seen": "2024-06-01"}),
]
KITE = dspex.Passage("it circles", "Kite", id="kite")


async def test_an_app_adds_searches_and_deletes_on_a_server() -> None:
    with qdrant_server() as url:
        index = QdrantIndex("birds", EMBEDDER, url=url)
        async with dspex.App(retriever=index) as app:
            report = await (await app.index(BIRDS, index, mode="add")).result()
            again = await (await app.index([*BIRDS, KITE], index, mode="add")).result()
            found = await app.run(dspex.Retrieve(k=1), query="waiting at the water")
            june = await app.run(dspex.Retrieve(k=2, filter=Range("seen", at_least="2024-05-15")), query="water")
            assert await index.delete(["heron", "nobody"]) == 1
            left = await app.run(dspex.Retrieve(k=2), query="waiting at the water")

    assert (report.counts.added, again.counts.added, again.counts.unchanged) == (2, 1, 2)
    assert [(each.id, each.title, each.metadata) for each in found] == [("heron", "Heron", {"seen": "2024-05-01"})]
    assert [each.id for each in june] == ["swift"]
    assert {each.id for each in left} == {"swift", "kite"}


async def test_a_model_makes_the_vectors_within_the_request() -> None:
    """Those of an index job, of what has changed alone, and of the query."""
    async with Simulator() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        index = QdrantIndex("birds", lm, path=":memory:")
        async with dspex.App(lm=lm, retriever=index) as app:
            first = await (await app.index(BIRDS, index, mode="add")).result()
            moved = dspex.Passage(BIRDS[0].text, BIRDS[0].title, id="heron", metadata={"seen": "2025-01-01"})
            again = await (await app.index([moved, BIRDS[1], KITE], index, mode="add")).result()
            request = app.start(dspex.Retrieve(k=1), query="waits at the water")
            (found,) = await request

    assert (first.counts.embedded, again.counts.embedded) == (2, 1)  # its words are the same: its vector is, too
    assert (found.id, found.metadata) == ("heron", {"seen": "2025-01-01"})
    assert request.details.usage.input_tokens > 0


@pytest.mark.parametrize("embedded", [True, False])
async def test_a_killed_index_repeats_its_search(tmp_path: Path, embedded: bool) -> None:
    """Its actor is killed while the server, or the embedder of an embedded one, is at work."""
    engine = QdrantEngine()
    loop = asyncio.get_running_loop()
    kills = 0

    def kill() -> None:
        nonlocal kills
        kills += 1
        runtime = app.running_tree().runtime
        (found,) = [each for each in runtime.processes.values() if each.label == "default" and each.alive]
        found.ref.kill()

    def answer(question: Asked) -> Answer:
        if question.path.endswith("/query") and not kills:
            kill()
        return engine(question)

    def embedder(texts: Sequence[str]) -> Sequence[Vector]:
        if embedded and texts == ["waiting at the water"] and not kills:
            loop.call_soon_threadsafe(kill)  # before the loop hears of our result
        return EMBEDDER(texts)

    async with json_server(answer) as server:
        where: dict[str, Any] = {"path": tmp_path / "q"} if embedded else {"url": server.url}
        filling = QdrantIndex("birds", embedder, **where)
        await filling.add(BIRDS)
        await filling.close()
        async with dspex.App(retriever=QdrantIndex("birds", embedder, **where)) as app:
            request = app.start(dspex.Retrieve(k=1), query="waiting at the water")
            assert [each.id for each in await request] == ["heron"]
    assert (kills, request.details.step_restarts) == (1, 1)


# Qdrant's client leaves the file of a lock open that it did not get.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_folder_is_there_again(tmp_path: Path) -> None:
    first = QdrantIndex("birds", EMBEDDER, path=tmp_path / "q")
    await first.add(BIRDS)
    other = QdrantIndex("birds", EMBEDDER, path=tmp_path / "q")
    with pytest.raises(dspex.RetrievalError, match=r"Qdrant in .*/q: RuntimeError: Storage folder .* already accessed"):
        await other.search("water", 1)
    gc.collect()  # that file
    await first.close()
    assert [each.id for each in await other.search("waiting at the water", 1)] == ["heron"]
    await other.close()


async def test_more_than_one_change_is_added_and_deleted() -> None:
    index = QdrantIndex("many", EMBEDDER, path=":memory:")
    many = [dspex.Passage(f"bird {n}", id=str(n), metadata={"n": str(n)}) for n in range(1_100)]
    await index.add([*many, many[0]], vectors=[[1.0, n / 1_100] for n in range(1_100)] + [[0.0, 1.0]])
    assert [each.id for each in await index.search("x", 2, vector=[0.0, 1.0])] == ["0", "1099"]
    # The condition compares the first six bytes, here all of the text: one page is enough. It is not where they end.
    behind = await index.search("x", 1, Range("n", at_least="5", at_most="5"), vector=[1.0, 0.0])
    assert [each.id for each in behind] == ["5"]
    assert await index.delete([each.id for each in many]) == 1_100
    assert await index.search("x", 2, vector=[0.0, 1.0]) == []
    await index.close()


async def test_what_fits_is_found_behind_pages_of_what_does_not() -> None:
    index = QdrantIndex("many", EMBEDDER, path=":memory:")
    many = [dspex.Passage("x", id=str(n), metadata={"at": f"2024-05-{n:04}"}) for n in range(700)]
    await index.add(many, vectors=[[1.0, n / 700] for n in range(700)])
    found = await index.search("x", 3, Range("at", at_least="2024-05-0690"), vector=[1.0, 0.0])
    assert [each.id for each in found] == ["690", "691", "692"]
    await index.close()


async def test_a_server_that_is_down_is_named() -> None:
    async with json_server([(200, {})]) as server:
        url = server.url  # nobody listens there in a moment
    index = QdrantIndex("birds", EMBEDDER, url=url, api_key=None, tries=2, backoff=0.0)
    with pytest.raises(dspex.RetrievalError, match=rf"Qdrant at {url} did not answer: ConnectError: .* \(2 tries\)"):
        await index.search("water", 1)
    with pytest.raises(dspex.RetrievalError, match="did not answer"):
        await index.add(BIRDS)
    await index.close()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(401, "who are you, sk-secret?")], r"answered 401: .*\[redacted\].* \(1 tries\)"),
        ([(503, "busy")], r"answered 503: .* \(3 tries\)"),
        ([(429, "slow down")], r"answered 429.* \(3 tries\)"),
        ([b""], r"did not answer.* \(3 tries\)"),
        ([(200, b"<html>")], r"answered something else than Qdrant does.* \(1 tries\)"),
        ([(200, {"result": {"exists": "perhaps?"}})], r"answered something else than Qdrant does.* \(1 tries\)"),
        ([(302, "")], r"answered 302.* \(1 tries\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
async def test_failures_are_typed_and_tried_again_where_that_helps(answers: list[Answer], message: str) -> None:
    async with json_server(answers) as server:
        index = QdrantIndex("birds", EMBEDDER, url=server.url, api_key="sk-secret", backoff=0.0)
        with pytest.raises(dspex.RetrievalError, match=message) as caught:
            await index.search("water", 1)
        await index.close()
    assert "sk-secret" not in str(caught.value) + repr(index)
    assert server.asked[0].headers["api-key"] == "sk-secret"


async def test_a_question_that_fails_now_and_then_is_answered() -> None:
    engine = QdrantEngine()
    asked = 0

    def flaky(question: Asked) -> Answer:
        nonlocal asked
        asked += 1
        return engine(question) if asked % 3 == 0 else ((503, "busy") if asked % 3 == 1 else b"")

    async with json_server(flaky) as server:
        index = QdrantIndex("birds", EMBEDDER, url=server.url, backoff=0.0)
        await index.add(BIRDS)
        assert [each.id for each in await index.search("waiting at the water", 1)] == ["heron"]
        assert await index.delete(["heron"]) == 1
        await index.close()


async def test_a_collection_that_is_gone_is_made_again() -> None:
    engine = QdrantEngine()
    async with json_server(engine) as server:
        index = QdrantIndex("birds", EMBEDDER, url=server.url)
        with pytest.raises(dspex.RetrievalError, match=r"no collection 'birds' at .*: add passages first"):
            await index.search("water", 1)
        assert await index.delete(["heron"]) == 0
        await index.add(BIRDS)
        engine.client.delete_collection("birds")
        with pytest.raises(dspex.RetrievalError, match="answered 404"):
            await index.search("water", 1)
        await index.add(BIRDS)
        assert len(await index.search("water", 5)) == 2
        await index.close()


async def test_other_vectors_are_refused_before_they_are_compared() -> None:
    with qdrant_server() as url:
        index = QdrantIndex("birds", EMBEDDER, url=url)
        await index.add(BIRDS)
        other = QdrantIndex("birds", HashingEmbedder(64), url=url)
        with pytest.raises(dspex.RetrievalError, match="were added with the embedder HashingEmbedder"):
            await other.search("water", 1, vector=[1.0] * 32)
        with pytest.raises(DimensionMismatch):
            await other.search("water", 1, vector=[1.0])
        with pytest.raises(DimensionMismatch):
            await other.add(BIRDS, vectors=[[1.0], [2.0]])
        with pytest.raises(DimensionMismatch):
            await other.add(BIRDS)
        with pytest.raises(VectorInvalid):
            await other.add(BIRDS, vectors=[[1.0] * 32])
        await other.close()
        await index.close()


async def test_what_something_else_has_stored_is_refused() -> None:
    from qdrant_client import models

    engine = QdrantEngine()
    engine.client.create_collection("cosine", models.VectorParams(size=32, distance=models.Distance.COSINE))
    engine.client.create_collection("theirs", models.VectorParams(size=2, distance=models.Distance.DOT))
    engine.client.upsert("theirs", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"page": "x"})])
    async with json_server(engine) as server:
        for name, message in {"cosine": "vectors of another kind", "theirs": "holds no passage of dspex"}.items():
            index = QdrantIndex(name, EMBEDDER, url=server.url)
            with pytest.raises(dspex.RetrievalError, match=message):
                await index.search("x", 1, vector=[1.0, 0.0])
            await index.close()


def test_an_index_is_in_one_place(tmp_path: Path) -> None:
    for options in ({}, {"url": "http://localhost", "path": tmp_path}):
        with pytest.raises(dspex.ConfigError, match="one of url="):
            QdrantIndex("birds", EMBEDDER, **options)  # type: ignore[arg-type]  # that is what is tested
    with pytest.raises(dspex.ConfigError, match="http"):
        QdrantIndex("birds", EMBEDDER, url="localhost:6333")
    with pytest.raises(dspex.ConfigError, match="embedder"):
        QdrantIndex("birds", 7, path=tmp_path)  # type: ignore[arg-type]  # that is what is tested


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"pip install 'dspex\[qdrant\]'"):
        QdrantIndex("birds", EMBEDDER, path=":memory:")


def test_the_library_is_loaded_by_the_first_index_alone() -> None:
    code = "import sys; from dspex.retrieval import QdrantIndex; sys.exit('qdrant_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
