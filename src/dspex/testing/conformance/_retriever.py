"""The contract of a retriever: passages, best first, from any thread; hostile queries are answered or refused."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from dspex.errors import PassageInvalid, RetrievalError
from dspex.protocols.filters import And, Equals, Filter, Not, OneOf, Or, Range, fits
from dspex.protocols.metadata import Metadata
from dspex.protocols.retrieval import Abilities, Passage, Retriever, abilities_of

__all__ = ["RetrieverContract"]

_HOSTILE: Final = (
    *("", " ", '"', "'", "*", "a*", "-", "NOT", "a AND", "OR OR", "(", ")", "a:b", "col:", "^", "{", "NEAR(", "%", "_"),
    *("\\", "\x00", "a\x00b", "\ud800", "é" * 3, "İ", "😀", "a\r\nb", "'; DROP TABLE passages; --", "word " * 5_000),
    "x" * 100_000,
)
_ABOUT: Final[dict[str, Metadata]] = {
    "dspex-1": {"year": 1999, "lang": "de", "tags": ["old", "it's"]},
    "dspex-2": {"year": 2020.5, "lang": "DE", "draft": True},
    "dspex-3": {"year": "1999", "draft": 1, "größe": None},
    "dspex-4": {},
}
_FILTERS: Final[tuple[Filter, ...]] = (
    *(Equals("year", 1999), Equals("draft", True), Equals("draft", 1), Equals("größe", None), Equals("tags", "it's")),
    *(Range("year", at_least=1999), Range("year", above=1999, below=3000), Range("year", at_most="2"), Or(), And()),
    *(OneOf("lang", ["de", "fr"]), OneOf("lang", []), Not(Equals("lang", "de")), Not(Or(Equals("year", 1999), And()))),
    And(Equals("lang", "de"), Or(Equals("year", 2020.5), Not(Range("year", below=0)))),
)


class RetrieverContract(ABC):
    """
    The contract of every ``Retriever``, async or blocking; the subclass makes one that finds ``query``.

    Filters, ``add`` and ``delete`` are tried where the retriever has them.
    """

    query: str = "heron"
    """A query that finds at least one passage."""

    @abstractmethod
    def make_retriever(self) -> Retriever:
        """Return a retriever with a few passages in it."""

    def test_it_has_both_methods(self) -> None:
        """``search`` and ``close``."""
        retriever = self.make_retriever()
        with _used(retriever):
            assert isinstance(retriever, Retriever), f"{type(retriever).__name__} lacks search() or close()"

    def test_it_returns_at_most_k_passages(self) -> None:
        """And something at all for its query."""
        with _used(self.make_retriever()) as used:
            for k in (1, 2, 50):
                found = used.search(self.query, k)
                assert 1 <= len(found) <= k, f"search(..., {k}) returned {len(found)} passages"
                assert all(isinstance(each, Passage) for each in found), "what it returned are not all passages"

    def test_the_best_come_first(self) -> None:
        """Scores never rise; fewer passages are the beginning of more."""
        with _used(self.make_retriever()) as used:
            found = used.search(self.query, 50)
            scores = [each.score for each in found]
            assert scores == sorted(scores, reverse=True), f"the scores rise: {scores}"
            assert used.search(self.query, 1) == found[:1], "search(..., 1) is not the first of many"

    def test_the_same_search_finds_the_same(self) -> None:
        """The evaluation of a program that retrieves could not be repeated otherwise."""
        with _used(self.make_retriever()) as used:
            assert used.search(self.query, 5) == used.search(self.query, 5)

    def test_it_works_in_another_thread(self) -> None:
        """A blocking one is made in one thread, searched in a second, and closed in a third."""
        retriever = self.make_retriever()
        if abilities_of(retriever).awaits:  # it stays on its loop
            with _used(retriever) as used:
                assert used.search(self.query, 3)
            return
        with ThreadPoolExecutor(1) as searching, ThreadPoolExecutor(1) as closing:
            found: object = searching.submit(retriever.search, self.query, 3).result()
            closing.submit(retriever.close).result()
        assert found, "it found nothing from another thread"

    def test_a_hostile_query_is_answered_or_refused(self) -> None:
        """Queries come from models: passages, or ``RetrievalError``, and the next search works."""
        with _used(self.make_retriever()) as used:
            for query in _HOSTILE:
                try:
                    found = used.search(query, 3)
                except RetrievalError:
                    continue
                assert len(found) <= 3, f"{query[:20]!r} found more than k passages"
            assert used.search(self.query, 1), "after hostile queries it finds nothing"

    def test_adding_is_writing_over(self) -> None:
        """One passage for each id, with the newest text and metadata, and none after it was deleted."""
        with _used(self.make_retriever()) as used:
            if not (used.can.adds and used.can.deletes):
                return
            used.call("add", [self._passage("dspex-1", "first")])
            used.call("add", [self._passage("dspex-1", "second"), self._passage("dspex-2", "other")])
            found = {each.id: each for each in used.search(self.query, 1_000)}
            assert found["dspex-1"].text == f"{self.query} second", "add() did not write over the passage with the id"
            assert found["dspex-1"].metadata == _ABOUT["dspex-1"], "metadata did not come back as it was given"
            gone = used.call("delete", ["dspex-1", "dspex-2", "dspex-nobody"])
            assert gone == 2, f"delete() returned {gone!r} for two passages"
            left = {each.id for each in used.search(self.query, 1_000)}
            assert not left & {"dspex-1", "dspex-2"}, "delete() left a passage that is found"
            assert used.search(self.query, 1), "delete() took passages that were not named"

    def test_a_change_is_whole_or_none(self) -> None:
        """A passage that cannot be kept keeps the others of its call out, too."""
        with _used(self.make_retriever()) as used:
            if not used.can.adds:
                return
            refused = ""
            try:
                used.call("add", [self._passage("dspex-1", "good"), Passage("\ud800", id="dspex-bad")])
            except RetrievalError as error:
                refused = type(error).__name__
            assert refused == PassageInvalid.__name__, "a text without a UTF-8 form must be refused: PassageInvalid"
            assert "dspex-1" not in {each.id for each in used.search(self.query, 1_000)}, "half of a change was made"

    def test_filters_find_what_fits(self) -> None:
        """Exactly the passages for which ``fits`` holds, chosen before the best ``k`` are."""
        with _used(self.make_retriever()) as used:
            if not (used.can.filters and used.can.adds):
                return
            used.call("add", [self._passage(name, name) for name in _ABOUT])
            about = {each.id: each.metadata for each in used.search(self.query, 1_000)}
            assert about.keys() >= _ABOUT.keys(), "it does not find what was added"
            for asked in _FILTERS:
                found = {each.id for each in used.search(self.query, 1_000, asked)}
                wanted = {name for name, metadata in about.items() if fits(asked, metadata)}
                assert found == wanted, f"{asked} found {sorted(found)}, expected {sorted(wanted)}"
                for k in range(1, len(wanted)):
                    assert len(used.search(self.query, k, asked)) == k, f"{asked} found fewer than {k}"

    def test_its_version_tells_of_changes(self) -> None:
        """Where it has one: the same while nothing changes, another one after a change."""
        with _used(self.make_retriever()) as used:
            if not (used.can.adds and used.version()):
                return
            before = used.version()
            used.search(self.query, 1)
            assert used.version() == before, "the version changes by itself"
            used.call("add", [self._passage("dspex-1", "new")])
            assert used.version() != before, "the version is the same after add()"

    def _passage(self, identity: str, text: str) -> Passage:
        return Passage(f"{self.query} {text}", id=identity, metadata=_ABOUT[identity])


class _Used:
    """A retriever in the hands of a test, with a loop for its async methods."""

    def __init__(self, retriever: Retriever, runner: asyncio.Runner) -> None:
        self._retriever = retriever
        self._runner = runner
        self.can: Abilities = abilities_of(retriever)

    def search(self, query: str, k: int, asked: Filter | None = None) -> Sequence[Passage]:
        found: Any = self.call("search", query, k, *([] if asked is None else [asked]))
        return list(found)

    def version(self) -> object:
        version = getattr(self._retriever, "version", None)
        return version() if callable(version) else version

    def call(self, method: str, *arguments: object) -> object:
        async def awaited() -> object:
            result = getattr(self._retriever, method)(*arguments)
            return await result if inspect.isawaitable(result) else result

        if method in self.can.awaits:
            return self._runner.run(awaited())
        return getattr(self._retriever, method)(*arguments)


@contextmanager
def _used(retriever: Retriever) -> Iterator[_Used]:
    with asyncio.Runner() as runner:
        used = _Used(retriever, runner)
        try:
            yield used
        finally:
            used.call("close")
