"""Retrievers behind their actors: whatever they can do, async or blocking, and what is said of what they lack."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

import dspex
from dspex.protocols.filters import Filter, as_filter, fits
from dspex.protocols.retrieval import Index, Retriever, abilities_of
from dspex.protocols.scope import current_scope
from dspex.services.retrieval.gateway import RetrieverGateway


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
