"""Indexes against a dictionary: whatever is added, written over and deleted, searches find what fits."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex.protocols.filters import Filter, fits
from dspex.protocols.fusion import fused
from dspex.protocols.metadata import Metadata
from dspex.protocols.retrieval import Passage, Vector
from dspex.services.retrieval.hashing import HashingEmbedder
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.services.retrieval.vector_index import VectorIndex
from tests.support.metadata import filters, metadata

identities = st.sampled_from(["a", "b", "c", "d", "1"])
words = st.lists(st.sampled_from(["heron", "swift", "日本語", "x"]), max_size=3).map(" ".join)


class IndexMachine(RuleBasedStateMachine):
    """One index in two hands: one changes it, the other one reads."""

    def make(self, path: Path) -> SqliteIndex | VectorIndex:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "index.db")
        self.writer, self.reader = self.make(path), self.make(path)
        self.writer.add([])
        self.known: dict[str, Passage] = {}

    @rule(identity=identities, text=words, about=metadata)
    def add(self, identity: str, text: str, about: Metadata) -> None:
        passage = Passage(f"all {text}", id=identity, metadata=about)
        self.writer.add([passage])
        self.known[identity] = passage

    @rule(gone=st.lists(identities, max_size=3))
    def delete(self, gone: list[str]) -> None:
        assert self.writer.delete(gone) == sum(self.known.pop(each, None) is not None for each in set(gone))

    @rule()
    def swap_hands(self) -> None:
        self.writer, self.reader = self.reader, self.writer

    @rule(asked=filters)
    def filter(self, asked: Filter) -> None:
        wanted = {each.id for each in self.known.values() if fits(asked, each.metadata)}
        assert {each.id for each in self.reader.search("all", 50, asked)} == wanted

    @invariant()
    def everything_is_found(self) -> None:
        if not hasattr(self, "reader"):
            return
        found = {each.id: each for each in self.reader.search("all", 50)}
        assert {key: (each.text, each.metadata) for key, each in found.items()} == {
            key: (each.text, each.metadata) for key, each in self.known.items()
        }
        assert self.reader.version == self.writer.version

    def teardown(self) -> None:
        if hasattr(self, "reader"):
            self.reader.close()
            self.writer.close()
            self.folder.cleanup()


class WordsMachine(IndexMachine):
    def make(self, path: Path) -> SqliteIndex:
        return SqliteIndex(path)


class VectorsMachine(IndexMachine):
    def make(self, path: Path) -> VectorIndex:
        return VectorIndex(path, HashingEmbedder(16))


class GraphMachine(IndexMachine):
    """A graph of some moment, with what was changed since."""

    def make(self, path: Path) -> VectorIndex:
        return VectorIndex(path, HashingEmbedder(16), exact_up_to=0)

    @rule()
    def prepare(self) -> None:
        assert isinstance(self.writer, VectorIndex)
        self.writer.prepare()
        assert self.writer.graph.covered == len(self.known)


# Each run makes a file and opens it twice: a tenth of a second.
FEWER = settings(
    max_examples=settings.default.max_examples // 8 if settings.default else 8, stateful_step_count=12, deadline=None
)
TestWords = WordsMachine.TestCase
TestWords.settings = FEWER
TestVectors = VectorsMachine.TestCase
TestVectors.settings = FEWER
TestGraph = GraphMachine.TestCase
TestGraph.settings = FEWER

numbers = st.floats(-1e6, 1e6, width=32)
vectors = st.lists(st.lists(numbers, min_size=3, max_size=3).filter(lambda each: any(map(abs, each))), max_size=8)


@given(points=vectors, asked=st.sampled_from([[1.0, 0.0, 0.0], [-1.0, 2.0, 0.5]]), k=st.integers(1, 9))
def test_vectors_are_found_as_plain_arithmetic_finds_them(points: list[list[float]], asked: Vector, k: int) -> None:
    """Within what float32 can tell."""

    def cosine(point: list[float]) -> float:
        largest = max(map(abs, point))
        scaled = [each / largest for each in point]
        return sum(a * b for a, b in zip(scaled, asked, strict=True)) / math.hypot(*scaled) / math.hypot(*asked)

    with tempfile.TemporaryDirectory() as folder:
        passages = [Passage(str(number), id=str(number)) for number in range(len(points))]
        index = VectorIndex.build(Path(folder, "v.db"), passages, "openai/none", vectors=points)
        found = index.search("", k, vector=asked)
        index.close()
    best = sorted((cosine(each) for each in points), reverse=True)[:k]

    assert [each.score for each in found] == pytest.approx(best, abs=1e-5)
    assert all(each.score == pytest.approx(cosine(points[int(each.id)]), abs=1e-5) for each in found)


rankings = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=4).map(
    lambda lists: [[Passage(each, id=each) for each in ranking] for ranking in lists]
)


@given(given=rankings, k=st.integers(1, 8), constant=st.integers(1, 100))
def test_fusion_is_its_formula(given: list[list[Passage]], k: int, constant: int) -> None:
    """The sum over the rankings, the first place of each counted; best first; whatever the order of the rankings."""
    found = fused(given, k, constant=constant)
    wanted: dict[str, float] = {}
    for ranking in given:
        places = [each.id for each in ranking]
        for each in set(places):
            wanted[each] = wanted.get(each, 0.0) + 1 / (constant + places.index(each) + 1)

    assert len(found) == min(k, len(wanted))
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert [each.score for each in found] == pytest.approx(sorted(wanted.values(), reverse=True)[:k])
    assert all(each.score == pytest.approx(wanted[each.id]) for each in found)
    assert [each.score for each in fused(given[::-1], k, constant=constant)] == [each.score for each in found]


@given(given=rankings, more=st.sampled_from("abcdef"))
def test_a_better_place_is_never_worse(given: list[list[Passage]], more: str) -> None:
    """A passage that one more ranking has at its top does not fall."""
    before = [each.id for each in fused(given, 9)]
    after = [each.id for each in fused([*given, [Passage(more, id=more)]], 9)]

    assert more not in before or after.index(more) <= before.index(more)


def test_fusion_refuses_what_makes_no_sense() -> None:
    for wrong in ({"k": 0}, {"constant": 0}, {"weights": [1.0]}, {"weights": [1.0, 0.0]}, {"weights": [1.0, math.nan]}):
        with pytest.raises(ValueError, match=r"must be at least 1|expected 2 positive"):
            fused([[], []], **{"k": 1, **wrong})  # type: ignore[arg-type]


def test_weights_move_the_winner() -> None:
    one, other = [Passage("", id="a"), Passage("", id="b")], [Passage("", id="b"), Passage("", id="a")]

    assert [each.id for each in fused([one, other], 1, weights=[1.0, 2.0])] == ["b"]
    assert [each.id for each in fused([one, other], 1, weights=[2.0, 1.0])] == ["a"]
