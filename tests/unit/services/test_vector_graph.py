"""The graph over many vectors: it finds nearly the same, says how much, and is never one of other passages."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dspex.errors import ConfigError, DimensionMismatch, VectorInvalid
from dspex.protocols.retrieval import Passage, Vector
from dspex.services.retrieval._graph import Graph, read_graph, seal
from dspex.services.retrieval.near import EXACT_UP_TO
from dspex.services.retrieval.vector_index import VectorIndex

np = pytest.importorskip("numpy")
pytest.importorskip("usearch")

COUNT, DIMENSIONS = 600, 16
MODEL = "openai/none"


def clustered(count: int, seed: int) -> list[Vector]:
    """Return vectors in a hundred heaps, as those of texts are."""
    chance = np.random.default_rng(7)
    middles = chance.standard_normal((100, DIMENSIONS))
    chance = np.random.default_rng(seed)
    return list(middles[chance.integers(0, 100, count)] + 0.4 * chance.standard_normal((count, DIMENSIONS)))


PASSAGES = [Passage(f"text {number}", id=str(number), metadata={"third": number % 3}) for number in range(COUNT)]
VECTORS = clustered(COUNT, 1)
ASKED = clustered(40, 2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    VectorIndex.build(folder / "v.db", PASSAGES, MODEL, vectors=VECTORS, exact_up_to=0).close()
    return folder


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    for each in built.glob("v.db*"):
        shutil.copy(each, tmp_path / each.name)
    return tmp_path / "v.db"


@pytest.fixture
def near(path: Path) -> Iterator[VectorIndex]:
    with closing(VectorIndex(path, MODEL, exact_up_to=0)) as index:
        yield index


@pytest.fixture
def exact(path: Path) -> Iterator[VectorIndex]:
    with closing(VectorIndex(path, MODEL, exact_up_to=None)) as index:
        yield index


def wait_for_graph() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("dspex-graph-"):
            thread.join()


def assert_same(found: Sequence[Passage], wanted: Sequence[Passage]) -> None:
    """Within what float32 can tell: sums are made in another order elsewhere in memory."""
    assert [each.id for each in found] == [each.id for each in wanted]
    assert [each.score for each in found] == pytest.approx([each.score for each in wanted], abs=1e-6)


def recall(near: VectorIndex, exact: VectorIndex, k: int = 10) -> float:
    found = 0
    for asked in ASKED:
        wanted = {each.id: each.score for each in exact.search("", k, vector=asked)}
        ours = near.search("", k, vector=asked)
        assert len(ours) == len(wanted)
        assert [each.score for each in ours] == sorted((each.score for each in ours), reverse=True)
        found += sum(each.id in wanted for each in ours)
        assert all(each.score == pytest.approx(wanted.get(each.id, each.score), abs=1e-6) for each in ours)
    return found / k / len(ASKED)


def test_it_finds_nearly_the_same_with_the_same_scores(near: VectorIndex, exact: VectorIndex) -> None:
    assert near.graph.used
    assert near.graph.covered == COUNT
    assert near.graph.recall >= 0.95
    assert near.graph.why == ""
    for k in (1, 10, 50):
        assert recall(near, exact, k) >= 0.95


def test_it_is_read_and_not_made_again(near: VectorIndex, path: Path) -> None:
    before = path.with_name("v.db.graph").stat()
    near.search("", 1, vector=ASKED[0])
    near.prepare()
    wait_for_graph()

    assert near.graph.used
    assert path.with_name("v.db.graph").stat() == before


def test_changes_count_at_once(near: VectorIndex, exact: VectorIndex) -> None:
    """New vectors are found, deleted ones are not, and those that were written over are where they are now."""
    moved, asked = list(range(0, COUNT, 12)), ASKED[0]
    near.add([replace(PASSAGES[at], text="moved") for at in moved], vectors=[asked] * len(moved))
    gone = [each.id for each in exact.search("", 60, vector=asked) if each.text != "moved"]
    assert near.delete(gone) == 10
    near.add([Passage("new", id="new")], vectors=[asked])

    assert near.graph.used
    assert near.graph.covered == COUNT
    assert sorted(each.text for each in near.search("", 51, vector=asked)) == ["moved"] * 50 + ["new"]
    assert recall(near, exact) >= 0.95
    near.prepare()
    assert near.graph.covered == len(exact)
    assert recall(near, exact) >= 0.95


def test_no_hit_is_lost_to_deleted_ones(near: VectorIndex, exact: VectorIndex) -> None:
    """All candidates of the graph are gone: the search is exact."""
    gone = [each.id for each in exact.search("", 60, vector=ASKED[0])]
    assert near.delete(gone) == 60

    assert near.graph.used
    assert near.search("", 10, vector=ASKED[0]) == exact.search("", 10, vector=ASKED[0])


def test_when_much_has_changed_a_new_one_is_made_meanwhile(near: VectorIndex, exact: VectorIndex) -> None:
    more = clustered(1_100, 3)
    near.add([Passage("", id=f"more {number}") for number in range(len(more))], vectors=more)
    assert near.graph.covered == COUNT
    assert recall(near, exact) >= 0.95
    wait_for_graph()

    assert near.graph.covered == COUNT + len(more)
    assert exact.graph.why == "any number are compared exactly"


def test_a_filter_is_exact(near: VectorIndex, exact: VectorIndex) -> None:
    for asked in ASKED[:5]:
        found = near.search("", 20, {"third": 1}, vector=asked)
        assert len(found) == 20
        assert_same(found, exact.search("", 20, {"third": 1}, vector=asked))


def test_many_are_exact(near: VectorIndex, exact: VectorIndex) -> None:
    assert near.search("", COUNT, vector=ASKED[0]) == exact.search("", COUNT, vector=ASKED[0])
    assert len(near.search("", 251, vector=ASKED[0])) == 251


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5_000])


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def other(file: Path) -> None:
    with closing(VectorIndex.build(file.with_name("o.db"), PASSAGES, MODEL, vectors=VECTORS, exact_up_to=0)):
        file.with_name("o.db.graph").replace(file)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (Path.unlink, "its file is missing"),
        (cut, "its file is damaged, or of another format"),
        (change, "its file is damaged"),
        (lambda file: file.write_bytes(b""), "its file is cut off"),
        (lambda file: file.write_bytes(b"x" * 9_999), "its file is damaged, or of another format"),
        (other, "its file is that of another one"),
    ],
)
def test_a_damaged_one_is_told_and_made_again(
    damage: Callable[[Path], object], why: str, path: Path, near: VectorIndex, exact: VectorIndex
) -> None:
    """The search is exact until there is a new one."""
    damage(path.with_name("v.db.graph"))

    assert not near.graph.used
    assert near.graph.why == f"there is no graph: {why}"
    assert near.search("", 10, vector=ASKED[0]) == exact.search("", 10, vector=ASKED[0])
    wait_for_graph()
    assert near.graph.used
    assert near.graph.covered == COUNT
    with closing(VectorIndex(path, MODEL, exact_up_to=0)) as again:
        assert again.graph.used


def test_an_older_file_of_passages_does_not_take_a_newer_graph(
    path: Path, near: VectorIndex, exact: VectorIndex, tmp_path: Path
) -> None:
    """A copy that somebody puts back has other changes by the same numbers."""
    near.close()
    kept = path.read_bytes()
    near.delete([str(number) for number in range(COUNT // 2)])
    near.prepare()
    near.close()
    path.write_bytes(kept)

    assert not near.graph.used
    assert recall(near, exact) == 1.0
    near.prepare()
    assert near.graph.covered == COUNT


def test_one_that_finds_too_little_is_not_used(path: Path, near: VectorIndex) -> None:
    file = path.with_name("v.db.graph")
    named = near._state("graph")["graph"]
    graph = read_graph(file, named)
    assert isinstance(graph, Graph)
    file.write_bytes(file.read_bytes()[:-4_096])
    seal(file, replace(graph.facts, recall=0.62))

    assert not near.graph.used
    assert near.graph.why == "the graph finds 62% of the ten most alike, 95% are wanted"
    near.search("", 10, vector=ASKED[0])
    assert not near.graph.building  # it would be the same again


def test_the_place_of_another_index_is_taken_with_its_graph(path: Path, tmp_path: Path) -> None:
    target = VectorIndex.build(tmp_path / "t.db", PASSAGES[:9], MODEL, vectors=VECTORS[:9], exact_up_to=0)
    with closing(target):
        assert target.graph.covered == 9
        target.take_over(VectorIndex(path, MODEL, exact_up_to=0))
        assert target.graph.used
        assert target.graph.covered == COUNT
        assert not path.with_name("v.db.graph").exists()


def test_to_close_stops_what_is_being_made(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((2_000, 128))
    passages = [Passage("", id=str(number)) for number in range(len(vectors))]
    VectorIndex.build(tmp_path / "v.db", passages, MODEL, vectors=vectors, exact_up_to=None).close()
    index = VectorIndex(tmp_path / "v.db", MODEL, exact_up_to=0)
    index.search("", 1, vector=vectors[0])
    index.close()

    assert not [each for each in threading.enumerate() if each.name.startswith("dspex-graph-")]
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_small_indexes_have_none(tmp_path: Path) -> None:
    with closing(VectorIndex.build(tmp_path / "v.db", PASSAGES[:9], MODEL, vectors=VECTORS[:9])) as index:
        index.prepare()
        assert index.graph.why == f"up to {EXACT_UP_TO:,} are compared exactly"
    assert [each.name for each in tmp_path.iterdir()] == ["v.db"]


def test_what_is_refused(near: VectorIndex, path: Path) -> None:
    with pytest.raises(DimensionMismatch, match="the query's vector has 2 numbers"):
        near.search("", 1, vector=[1.0, 2.0])
    with pytest.raises(VectorInvalid, match="all zeros"):
        near.search("", 1, vector=[0.0] * DIMENSIONS)
    with pytest.raises(ConfigError, match="exact_up_to=-1"):
        VectorIndex(path, MODEL, exact_up_to=-1)
