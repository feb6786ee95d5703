"""Vectors: which come first, what is refused early, and who makes them."""

from __future__ import annotations

import math
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dspex.errors import ConfigError, DimensionMismatch, IndexDamaged, NotInRequest, RetrievalError, VectorInvalid
from dspex.lm import LM
from dspex.protocols.retrieval import Passage, Vector
from dspex.services.retrieval.embedding import embed
from dspex.services.retrieval.hashing import HashingEmbedder
from dspex.services.retrieval.vector_index import VectorIndex

POINTS: dict[str, Sequence[float]] = {"east": [1, 0], "north": [0, 1], "north-east": [1, 1], "west": [-1, 0]}


def compass(texts: Sequence[str]) -> list[Vector]:
    return [POINTS[text] for text in texts]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    passages = [Passage(text, id=text) for text in POINTS]
    with closing(VectorIndex.build(tmp_path / "v.db", passages, compass)) as built:
        yield built


def test_the_most_alike_come_first_whatever_their_length(index: VectorIndex) -> None:
    found = index.search("east", 9)

    assert [each.id for each in found] == ["east", "north-east", "north", "west"]
    assert [each.score for each in found] == pytest.approx([1, math.sqrt(0.5), 0, -1], abs=1e-6)
    assert index.search("", 2, vector=[300, 0]) == found[:2]


def test_equals_come_in_the_order_of_building(index: VectorIndex) -> None:
    index.add([Passage("east", id=f"east {number}") for number in range(30)])

    assert [each.id for each in index.search("east", 5)] == ["east", *(f"east {number}" for number in range(4))]


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        ([0, 0], VectorInvalid, "the query's vector is all zeros"),
        ([math.nan, 1], VectorInvalid, "holds NaN or infinity"),
        ([-math.inf, 1], VectorInvalid, "holds NaN or infinity"),
        ([1, 2, 3], DimensionMismatch, "has 3 numbers, the index holds vectors of 2"),
        ([], DimensionMismatch, "has 0 numbers"),
        (["a", 1], VectorInvalid, "is not a list of numbers"),
        ([[1], [2]], VectorInvalid, "is not a list of numbers"),
        (7, VectorInvalid, "is not a list of numbers"),
    ],
)
def test_a_vector_that_is_none_is_refused(index: VectorIndex, vector: Vector, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        index.search("east", 1, vector=vector)
    with pytest.raises(error, match=message.replace("the query's", "a passage's")):
        index.add([Passage("x")], vectors=[vector])
    assert len(index) == 4


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e200])
def test_tiny_and_huge_vectors_have_a_direction(index: VectorIndex, size: float) -> None:
    assert index.search("", 1, vector=[size, size])[0].id == "north-east"


def test_vectors_may_be_given(tmp_path: Path) -> None:
    """In place of those of a model, which is not asked."""
    passages = [Passage("one", id="1"), Passage("two", id="2")]
    vectors = [array("f", [1.0, 0.0]), array("f", [0.0, 1.0])]
    with closing(VectorIndex.build(tmp_path / "v.db", passages, "openai/none", vectors=iter(vectors))) as index:
        assert index.search("", 1, vector=[1, 3])[0].id == "2"
        index.add([Passage("again", id="2"), Passage("last", id="2")], vectors=[[0, 1], [1, 1]])
        assert [(each.text, each.id) for each in index.search("", 9, vector=[1, 1])] == [("last", "2"), ("one", "1")]
        for change in (lambda: index.add([Passage("x")]), lambda: index.search("x", 1)):
            with pytest.raises(ConfigError, match="'openai/none' is asked within a request"):
                change()
        with pytest.raises(VectorInvalid, match="fewer vectors than passages"):
            index.add([Passage("x"), Passage("y")], vectors=[[1, 1]])


def test_each_of_many_passages_has_its_own_vector(tmp_path: Path) -> None:
    """Of more than are written at once."""
    passages = [Passage(str(number), id=str(number)) for number in range(1_001)]
    vectors = [[1.0, float(number)] for number in range(1_001)]
    with closing(VectorIndex.build(tmp_path / "v.db", passages, "openai/none", vectors=vectors)) as index:
        found = index.vectors(["0", "499", "500", "1000", "none"])
        assert {id_: round(second / first) for id_, (first, second) in found.items()} == {
            "0": 0,
            "499": 499,
            "500": 500,
            "1000": 1_000,
        }


def test_another_embedder_is_told_before_anything_is_compared(tmp_path: Path) -> None:
    VectorIndex.build(tmp_path / "v.db", [Passage("a")], HashingEmbedder(32)).close()
    other = VectorIndex(tmp_path / "v.db", HashingEmbedder(64))
    for use in (other.check, lambda: other.search("a", 1), lambda: other.add([Passage("b")])):
        with pytest.raises(RetrievalError, match=r"made with the embedder HashingEmbedder\(32\)"):
            use()
    other.close()


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        (lambda texts: [[1.0, 0.0]] * (len(texts) + 1), "returned 2 vectors for 1 texts"),
        (lambda texts: 5, "returned a int"),
        (lambda texts: {"ab": 1}, "not a list of numbers"),
    ],
)
def test_an_embedder_that_makes_no_vectors_is_told(
    index: VectorIndex, embedder: Callable[[Sequence[str]], Sequence[Vector]], message: str
) -> None:
    index.embedder = embedder
    with pytest.raises(VectorInvalid, match=message):
        index.search("east", 1)


@pytest.mark.parametrize("embedder", [None, 5, HashingEmbedder])
def test_what_is_no_embedder_is_refused(tmp_path: Path, embedder: object) -> None:
    with pytest.raises(ConfigError, match="embedder="):
        VectorIndex(tmp_path / "v.db", embedder)  # type: ignore[arg-type]


async def test_a_model_is_asked_in_a_request_only() -> None:
    with pytest.raises(NotInRequest):
        await embed(LM("openai/x"), ["text"])


async def test_functions_embed_async_or_not() -> None:
    async def later(texts: Sequence[str]) -> list[Vector]:
        return compass(texts)

    assert await embed(compass, ["east"]) == await embed(later, ["east"]) == [[1, 0]]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET vector = x'00'",
        "UPDATE vectors SET vector = x'0000c07f0000c07f'",  # NaN
        "UPDATE vectors SET vector = 'text'",
        "DELETE FROM passages",
    ],
)
def test_damaged_vectors_are_told(index: VectorIndex, tmp_path: Path, damage: str) -> None:
    with closing(sqlite3.connect(tmp_path / "v.db", isolation_level=None)) as connection:
        connection.execute(damage)
    with pytest.raises(IndexDamaged, match=r"v\.db is damaged"):
        index.search("east", 1)


class TestHashing:
    """The embedder without a model."""

    def test_it_gives_the_same_vector_everywhere(self) -> None:
        """For ever: files hold them."""
        (vector,) = HashingEmbedder(16)(["Sleeping swifts"])

        assert [round(each, 4) for each in vector] == GOLDEN

    def test_its_vectors_have_length_1(self) -> None:
        for text in ("", "?!", "a", "the heron waits", "日本語", "\ud800 x", "a " * 10_000):
            (vector,) = HashingEmbedder()([text])
            assert math.fsum(each * each for each in vector) == pytest.approx(1.0)

    def test_spelling_makes_texts_alike(self) -> None:
        one, like, other = HashingEmbedder()(["sleeping swifts", "a swift sleeps", "the owl hunts"])

        assert sum(map(float.__mul__, one, like)) > sum(map(float.__mul__, one, other)) + 0.2

    def test_it_needs_some_room(self) -> None:
        with pytest.raises(ValueError, match="dimensions=15"):
            HashingEmbedder(15)


GOLDEN = [
    *(0.0, 0.181, 0.155, -0.3619, -0.155, -0.026, 0.6002, -0.155),
    *(0.155, 0.155, -0.026, 0.207, -0.026, -0.4452, 0.0, -0.3359),
]
