"""Retrievers behind their actors: whatever they can do, async or blocking, and what is said of what they lack."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import dspex
from dspex.protocols.filters import Filter, as_filter, fits
from dspex.protocols.retrieval import Index, Retriever, abilities_of
from dspex.protocols.scope import current_scope
from dspex.retrieval import Cached, HashingEmbedder, Hybrid, Reranked, VectorIndex
from dspex.services.retrieval.gateway import RetrieverGateway
from dspex.simulator import Simulator
from dspex.testing import FixedRetriever


class Least:
    """The least that a retriever is."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def search(self, question: str, most: int) -> Sequence[dspex.Passage]:
        self.threads.append(threading.current_thread().name)
        return [dspex.Passage(question)][:most]

    def close(self) -> None:
        self.threads.append("closed")


class Whole:
    """All that a retriever may be, and all of it async."""

    def __init__(self) -> None:
        self.passages: dict[str, dspex.Passage] = {}
        self.threads: set[str] = set()
        self.closed = 0

    async def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[dspex.Passage]:
        self.threads.add(threading.current_thread().name)
        return [each for each in self.passages.values() if fits(filter, each.metadata)][:k]

    async def add(self, passages: Sequence[dspex.Passage]) -> None:
        self.passages |= {each.id: each for each in passages}

    async def delete(self, ids: Sequence[str]) -> int:
        return sum(self.passages.pop(each, None) is not None for each in ids)

    async def close(self) -> None:
        self.closed += 1


class Look(dspex.Module):
    """Retrieve with a filter, through the scope."""

    async def forward(self, query: str, filter: object = None) -> list[str]:
        asked = as_filter(filter)  # type: ignore[arg-type]  # the test's own
        scope = current_scope.get()
        return [each.text for each in await scope.retrieve(query, 9, retriever=None, step="look", filter=asked)]


def rooms_of(app: dspex.App) -> tuple[RetrieverGateway, float]:
    """Return the App's room of retrievers, and a deadline."""
    tree = app.running_tree()
    return tree.retrieval, tree.runtime.clock.now() + 10


def test_abilities_are_seen_without_a_call() -> None:
    least, whole = abilities_of(Least()), abilities_of(Whole())

    assert isinstance(Least(), Retriever)
    assert isinstance(Whole(), Index)
    assert (least.filters, least.adds, least.deletes, least.embeds, least.awaits) == (False,) * 4 + (frozenset(),)
    assert (whole.filters, whole.adds, whole.deletes) == (True, True, True)
    assert whole.awaits == {"search", "add", "delete", "close"}
    assert not abilities_of(type("Builtin", (), {"search": dict})()).filters


async def test_a_blocking_retriever_runs_in_its_thread_and_lacks_the_rest() -> None:
    index = Least()
    async with dspex.App(retriever=index) as app:
        assert await app.run(Look(), query="q") == ["q"]
        with pytest.raises(dspex.RetrieverLacks, match="retriever 'default' cannot filter: Least does not know how"):
            await app.run(Look(), query="q", filter={"year": 2020})
        room, deadline = rooms_of(app)
        with pytest.raises(dspex.RetrieverLacks, match="cannot add") as caught:
            await room.add(None, [dspex.Passage("x")], deadline)
        assert caught.value.operation == "add"
        with pytest.raises(dspex.RetrieverLacks, match="cannot delete"):
            await room.delete(None, ["x"], deadline)

    assert index.threads[-1] == "closed"
    assert all(name.startswith("dspex-retriever-default") for name in index.threads[:-1])


async def test_an_async_retriever_runs_on_the_loop() -> None:
    index = Whole()
    async with dspex.App(retriever=index) as app:
        room, deadline = rooms_of(app)
        old, new = (dspex.Passage(str(year), id=str(year), metadata={"year": year}) for year in (1999, 2020))
        await room.add(None, [old, new], deadline)
        assert await app.run(Look(), query="q", filter={"year": 2020}) == ["2020"]
        assert await room.delete(None, ["1999", "1999", "0"], deadline) == 1
        assert await app.run(Look(), query="q") == ["2020"]

    assert index.threads == {threading.main_thread().name}
    assert index.closed == 1


async def test_what_is_found_must_be_passages() -> None:
    class Texts(Least):
        def search(self, question: str, most: int) -> Sequence[dspex.Passage]:
            return ["a text"]  # type: ignore[list-item]

    async with dspex.App(retriever=Texts()) as app:
        with pytest.raises(dspex.RetrievalError, match="retriever 'default' found a str, expected Passages"):
            await app.run(Look(), query="q")


async def test_a_name_that_the_app_lacks_is_told_with_those_it_has() -> None:
    async with dspex.App(retrievers={"birds": Least()}) as app:
        room, deadline = rooms_of(app)
        with pytest.raises(dspex.ConfigError, match=r"no retriever named 'default' \(configured: birds\)"):
            await room.add(None, [], deadline)


PASSAGES = [
    dspex.Passage("the heron waits at the water", id="heron"),
    dspex.Passage("the swift sleeps on the wing", id="swift"),
    dspex.Passage("sleeping dragons", id="dragon"),
]


def app_at(simulator: Simulator, **arguments: object) -> dspex.App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    return dspex.App(lm=lm, **arguments)  # type: ignore[arg-type]  # the App's own arguments


def calls(simulator: Simulator) -> int:
    return simulator.stats().requests.get("ok", 0)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as served:
        yield served


async def test_a_model_makes_the_vectors_within_the_request(simulator: Simulator, tmp_path: Path) -> None:
    """Of added passages and of queries: counted, paid for and cached like its answers."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    index = VectorIndex(tmp_path / "v.db", lm)
    index.add([])
    async with app_at(simulator, retriever=index) as app:

        class Fill(dspex.Module):
            async def forward(self) -> None:
                room, deadline = rooms_of(app)
                await room.add(None, PASSAGES, deadline)

        await app.run(Fill())
        assert calls(simulator) == 1
        request = app.start(dspex.Retrieve(k=1), query="sleeping on the wing")
        (found,) = await request
        assert found.id == "swift"
        assert request.details.usage.input_tokens > 0
        again = app.start(dspex.Retrieve(k=1), query="sleeping on the wing")
        assert await again == [found]
        assert again.details.usage.input_tokens == 0
        assert calls(simulator) == 2
        with pytest.raises(dspex.BudgetExceeded):
            await app.options(budget=dspex.Budget(tokens=1)).run(dspex.Retrieve(), query="a longer one than that")
        with pytest.raises(dspex.ConfigError, match="an estimate asks no model"):
            await app.estimate(dspex.Retrieve(), query="anything")
        assert calls(simulator) == 2


async def test_only_texts_without_a_vector_in_the_cache_are_asked_for(simulator: Simulator, tmp_path: Path) -> None:
    """Each by itself, whoever asked for it before, in memory or in a file; equal texts once."""
    embed = dspex.Embed()
    known = [f"known {number}" for number in range(9)]
    async with app_at(simulator, cache=tmp_path / "cache.db") as app:
        before = await app.run(embed, known)
        texts = [*known, "new", "other", "new"]
        request = app.start(embed, texts)
        vectors = await request
        assert vectors[:9] == before
        assert vectors[9] == vectors[11] != vectors[10]
        assert request.details.usage.input_tokens == await tokens_of(app, ["new", "other"]) > 0
        for mode, count in (("bypass", 1), ("refresh", 1), ("use", 0), ("only", 0)):
            so_far = calls(simulator)
            view = app.options(cache=mode)  # type: ignore[arg-type]  # one of the words
            assert await view.run(embed, texts) == vectors
            assert calls(simulator) - so_far == count, mode
        with pytest.raises(dspex.TransportFailed, match=r"1 of 2 vectors are not in the cache and cache='only'"):
            await app.options(cache="only").run(embed, ["new", "nowhere"])
    so_far = calls(simulator)
    async with app_at(simulator, cache=tmp_path / "cache.db") as app:
        assert await app.run(embed, texts) == vectors
    assert calls(simulator) == so_far


async def tokens_of(app: dspex.App, texts: list[str]) -> int:
    request = app.options(cache="bypass").start(dspex.Embed(), texts)
    await request
    return request.details.usage.input_tokens


async def test_texts_that_are_asked_for_at_once_are_asked_for_once(simulator: Simulator) -> None:
    """In whichever order; nobody waits for ever."""
    async with app_at(simulator) as app:
        texts = [f"text {number}" for number in range(20)]
        runs = [app.start(dspex.Embed(), texts[::step]) for step in (1, -1, 2, -2, 3)]
        results = [await each for each in runs]
        assert results[1] == results[0][::-1]
        assert results[2] == results[0][::2]
        tokens = sum(each.details.usage.input_tokens for each in runs)
        assert tokens == await tokens_of(app, texts)


async def test_hybrid_search_asks_its_parts_at_once(simulator: Simulator, tmp_path: Path) -> None:
    """Each has its own actor and its own step; a passage that both know is one."""
    dspex.SqliteIndex.build(tmp_path / "words.db", PASSAGES).close()
    meaning = VectorIndex.build(tmp_path / "v.db", PASSAGES, HashingEmbedder())
    hybrid = Hybrid({"words": tmp_path / "words.db", "meaning": meaning})
    async with app_at(simulator, retriever=hybrid) as app:
        request = app.start(dspex.Retrieve(k=3), query="the sleeping swift")
        found = await request
        assert sorted(each.id for each in found) == ["dragon", "heron", "swift"]
        assert found[0].id == "swift"
        room, deadline = rooms_of(app)
        await room.add(None, [dspex.Passage("a kite", id="kite")], deadline)
        assert [each.id for each in await app.run(dspex.Retrieve("default/words"), query="kite")] == ["kite"]
        assert "kite" in [each.id for each in await app.run(dspex.Retrieve("default/meaning", k=9), query="kite")]
        assert await room.delete(None, ["kite", "nobody"], deadline) == 1
        assert [each.id for each in await app.run(dspex.Retrieve(), query="kite")] != ["kite"]


async def test_a_part_that_fails_fails_the_search(tmp_path: Path) -> None:
    class Broken(Least):
        def search(self, question: str, most: int) -> Sequence[dspex.Passage]:
            raise OSError("disk gone")

    async with dspex.App(retriever=Hybrid({"good": Least(), "bad": Broken()})) as app:
        with pytest.raises(dspex.RetrievalError, match="retriever 'default/bad' failed: OSError: disk gone"):
            await app.run(dspex.Retrieve(), query="x")


class Shortest(dspex.Module):
    """A program that ranks."""

    async def forward(self, query: str, passages: Sequence[dspex.Passage]) -> list[float]:
        return [-len(each.text) for each in passages]


def backwards(query: str, passages: Sequence[dspex.Passage]) -> list[float]:
    assert threading.current_thread() is not threading.main_thread()
    return [float(number) for number in range(len(passages))]


async def test_programs_and_functions_put_passages_into_order() -> None:
    found = FixedRetriever(["aaa", "a", "aa"])
    rankers = {"program": Reranked(found, by=Shortest()), "function": Reranked(found, by=backwards, candidates=3)}
    async with dspex.App(retrievers=rankers) as app:
        assert [each.text for each in await app.run(dspex.Retrieve("program"), query="x")] == ["a", "aa", "aaa"]
        assert [each.text for each in await app.run(dspex.Retrieve("function", k=1), query="x")] == ["aa"]


@pytest.mark.parametrize("scores", [[1.0], ["high"] * 2, [1.0, float("nan")], None])
async def test_a_ranker_without_scores_is_told(scores: object) -> None:
    async def ranker(query: str, passages: Sequence[dspex.Passage]) -> object:
        return scores

    async with dspex.App(retriever=Reranked(FixedRetriever(["a", "b"]), by=ranker)) as app:  # type: ignore[arg-type]
        with pytest.raises(dspex.RetrievalError, match=r"the ranker .* (did not return numbers|returned \d scores)"):
            await app.run(dspex.Retrieve(), query="x")


def test_composites_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: Hybrid({}),
        lambda: Hybrid({"a": Least()}, candidates=0),
        lambda: Hybrid({"a": Least()}, weights={"b": 1.0}),
        lambda: Hybrid({"a": Least()}, weights={"a": -1.0}),
        lambda: Reranked(Least(), by="cohere"),  # type: ignore[arg-type]
        lambda: dspex.App(retriever=Hybrid({"a": Least()}), retrievers={"default/a": Least()}),
    ):
        with pytest.raises(dspex.ConfigError):
            make()


class Counted(Whole):
    """Counts its searches, and has a version."""

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0
        self.version = "1"

    def __repr__(self) -> str:
        return "Counted()"

    async def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[dspex.Passage]:
        self.searches += 1
        return [dspex.Passage(f"{query} {self.version}", "t", 0.5, "i", {"year": 1, "tags": ["a", None]})][:k]


async def test_results_are_kept_under_the_version_of_the_index(tmp_path: Path) -> None:
    """In the App's cache, under its words; across Apps; and each question by itself."""
    index = Counted()
    for _ in range(2):
        async with dspex.App(retriever=Cached(index), cache=tmp_path / "cache.db") as app:
            found = await app.run(dspex.Retrieve(), query="q")
            assert found == [dspex.Passage("q 1", "t", 0.5, "i", {"year": 1, "tags": ["a", None]})]
            assert await app.run(dspex.Retrieve(), query="q") == found
    assert index.searches == 1
    async with dspex.App(retriever=Cached(index), cache=tmp_path / "cache.db") as app:
        for program, query in (
            (dspex.Retrieve(), "other"),
            (dspex.Retrieve(k=1), "q"),
            (dspex.Retrieve(filter={"year": 1}), "q"),
        ):
            before = index.searches
            await app.run(program, query=query)
            await app.run(program, query=query)
            assert index.searches == before + 1
        for mode, more in (("use", 0), ("only", 0), ("bypass", 1), ("refresh", 1)):
            before = index.searches
            view = app.options(cache=mode)  # type: ignore[arg-type]  # one of the words
            assert await view.run(dspex.Retrieve(), query="q") == found
            assert index.searches == before + more, mode
        with pytest.raises(dspex.RetrievalError, match="cache='only' forbids searching"):
            await app.options(cache="only").run(dspex.Retrieve(), query="never asked")
        index.version = "2"
        assert [each.text for each in await app.run(dspex.Retrieve(), query="q")] == ["q 2"]


async def test_a_result_of_an_index_that_changed_meanwhile_is_not_kept() -> None:
    class Changing(Counted):
        async def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[dspex.Passage]:
            self.version = "new" if self.searches == 0 else self.version
            return await super().search(query, k, filter)

    index = Changing()
    async with dspex.App(retriever=Cached(index)) as app:
        await app.run(dspex.Retrieve(), query="q")
        index.version = "1"
        assert [each.text for each in await app.run(dspex.Retrieve(), query="q")] == ["q 1"]
    assert index.searches == 2


async def test_changed_files_are_searched_again(tmp_path: Path) -> None:
    """Of each part of a hybrid."""
    dspex.SqliteIndex.build(tmp_path / "words.db", PASSAGES).close()
    meaning = VectorIndex.build(tmp_path / "v.db", PASSAGES, HashingEmbedder())
    cached = Cached(Hybrid({"words": tmp_path / "words.db", "meaning": meaning}))
    async with dspex.App(retriever=cached) as app:
        assert "kite" not in {each.id for each in await app.run(dspex.Retrieve(k=9), query="kite")}
        with closing(dspex.SqliteIndex(tmp_path / "words.db")) as index:
            index.add([dspex.Passage("a kite", id="kite")])
        assert "kite" in {each.id for each in await app.run(dspex.Retrieve(k=9), query="kite")}


async def test_a_retriever_without_a_version_is_not_cached() -> None:
    async with dspex.App(retriever=Cached(Least())) as app:
        with pytest.raises(dspex.RetrieverLacks, match="cannot be cached: it has no version"):
            await app.run(dspex.Retrieve(), query="q")
