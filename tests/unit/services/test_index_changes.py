"""Indexes that are changed in place: by id, whole or not at all, while others read, and after the writer's death."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dspex.errors import FilterInvalid, IndexDamaged, PassageInvalid, RetrievalError
from dspex.protocols.filters import Range
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval.hashing import HashingEmbedder
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.services.retrieval.vector_index import VectorIndex

OLD = [
    Passage("the heron waits at the water", "Heron", id="heron", metadata={"year": 1999, "tags": ["bird", "water"]}),
    Passage("the swift sleeps on the wing", "Swift", id="swift", metadata={"year": 2020, "tags": ["bird"]}),
    Passage("the owl hunts", "Owl", id="owl", metadata={"year": 2021}),
]
NEW = Passage("the wren nests in the hedge", "Wren", id="wren")

AnyIndex = SqliteIndex | VectorIndex
KINDS: dict[str, tuple[Callable[[Path], AnyIndex], Callable[[Path], AnyIndex]]] = {
    "words": (SqliteIndex, lambda path: SqliteIndex.build(path, OLD)),
    "vectors": (
        lambda path: VectorIndex(path, HashingEmbedder(64)),
        lambda path: VectorIndex.build(path, OLD, HashingEmbedder(64)),
    ),
    "graph": (
        lambda path: VectorIndex(path, HashingEmbedder(64), exact_up_to=0),
        lambda path: VectorIndex.build(path, OLD, HashingEmbedder(64), exact_up_to=0),
    ),
}


@pytest.fixture(params=KINDS)
def open_index(request: pytest.FixtureRequest) -> Callable[[Path], AnyIndex]:
    return KINDS[request.param][0]


@pytest.fixture
def path(request: pytest.FixtureRequest, tmp_path: Path, open_index: Callable[[Path], AnyIndex]) -> Path:
    kind = request.node.callspec.params["open_index"]
    KINDS[kind][1](tmp_path / "index.db").close()
    return tmp_path / "index.db"


@pytest.fixture
def index(path: Path, open_index: Callable[[Path], AnyIndex]) -> Iterator[AnyIndex]:
    with closing(open_index(path)) as opened:
        yield opened


def ids(index: AnyIndex, query: str = "the", filter: object = None) -> set[str]:
    return {each.id for each in index.search(query, 50, filter)}  # type: ignore[arg-type]  # the test's own


def test_what_is_added_is_found_and_what_is_deleted_is_not(index: AnyIndex) -> None:
    index.add([NEW])
    assert ids(index) == {"heron", "swift", "owl", "wren"}
    assert index.delete(["heron", "nobody", "heron"]) == 1

    assert ids(index) == {"swift", "owl", "wren"}
    assert len(index) == 3


def test_an_id_that_is_there_is_written_over(index: AnyIndex) -> None:
    """Text, title, metadata and whatever it was found by."""
    index.add([Passage("the kite circles", "Kite", id="heron", metadata={"year": 2000})])

    found = {each.id: each for each in index.search("kite circles", 50)}["heron"]
    assert (found.title, found.text, found.metadata) == ("Kite", "the kite circles", {"year": 2000})
    assert len(index) == 3
    assert ids(index, filter={"tags": "water"}) == set()
    assert ids(index, filter={"year": 2000}) == {"heron"}


def test_filters_act_before_the_best_are_chosen(index: AnyIndex) -> None:
    """The one that fits is found, however many fit the query better."""
    index.add([Passage(f"the owl hunts {number}", id=str(number)) for number in range(50)])
    found = index.search("the owl hunts", 1, {"tags": "water"})

    assert [each.id for each in found] == ["heron"]
    assert ids(index, "the", Range("year", at_least=2020)) == {"swift", "owl"}
    with pytest.raises(FilterInvalid):
        index.search("owl", 1, {"year": {}})  # type: ignore[dict-item]


def test_a_change_with_a_bad_passage_changes_nothing(index: AnyIndex) -> None:
    before = index.version
    with pytest.raises(PassageInvalid, match="passage 2"):
        index.add([NEW, Passage("\ud800")])
    with pytest.raises(PassageInvalid, match="a list of ids"):
        index.delete("heron")

    assert ids(index) == {"heron", "swift", "owl"}
    assert index.version == before


def test_the_version_tells_of_every_change(index: AnyIndex, path: Path, open_index: Callable[[Path], AnyIndex]) -> None:
    """And is the same in every reader."""
    versions = [index.version]
    for change in (lambda: index.add([NEW]), lambda: index.delete(["wren"]), lambda: index.add(OLD)):
        change()
        versions.append(index.version)

    assert len(set(versions)) == 4
    with closing(open_index(path)) as other:
        assert other.version == versions[-1]


def test_a_missing_file_is_made_by_adding(tmp_path: Path, open_index: Callable[[Path], AnyIndex]) -> None:
    with closing(open_index(tmp_path / "folder" / "new.db")) as index:
        with pytest.raises(RetrievalError, match="there is no index at"):
            index.search("heron", 1)
        index.add(OLD)
        assert ids(index) == {"heron", "swift", "owl"}


def test_no_file_is_left_beside_the_index(index: AnyIndex, path: Path) -> None:
    index.add([NEW])
    ids(index)
    index.close()

    assert {file.name for file in path.parent.iterdir()} - {f"{path.name}.graph"} == {path.name}


def test_all_readers_find_a_new_index_with_their_next_search(
    index: AnyIndex, path: Path, request: pytest.FixtureRequest
) -> None:
    """One that was never changed, one that was, and a writer."""
    index.add([NEW])
    assert "wren" in ids(index)
    kind = request.node.callspec.params["open_index"]
    KINDS[kind][1](path).close()

    assert ids(index) == {"heron", "swift", "owl"}
    index.add([NEW])
    assert ids(index) == {"heron", "swift", "owl", "wren"}


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM passages")
print("holding", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def writer_in_a_transaction(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that has changed the file and not yet said so."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_a_reader_does_not_wait_for_a_writer(
    index: AnyIndex, path: Path, open_index: Callable[[Path], AnyIndex]
) -> None:
    """It finds what was there before, be it open already or not; after the writer's death too."""
    ids(index)
    with writer_in_a_transaction(path) as process, closing(open_index(path)) as late:
        assert ids(index) == ids(late) == {"heron", "swift", "owl"}
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert ids(index) == {"heron", "swift", "owl"}
        index.add([NEW])
        assert ids(late) == {"heron", "swift", "owl", "wren"}


ADD = """
import sys
from dspex import Passage
from dspex.retrieval import HashingEmbedder, VectorIndex
from dspex import SqliteIndex
index = SqliteIndex(sys.argv[1]) if sys.argv[2] == "words" else VectorIndex(sys.argv[1], HashingEmbedder(64))
for number in range(1_000_000):
    index.add([Passage(f"the number {number}", id=f"{number}-{part}") for part in "ab"])
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_has_added(
    index: AnyIndex, path: Path, request: pytest.FixtureRequest
) -> None:
    """And leaves no half of an addition."""
    kind = request.node.callspec.params["open_index"]
    command = [sys.executable, "-c", ADD, str(path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "5\n":
                break
        process.kill()
    found = {each.id for each in index.search("the number", 1_000)}

    assert {f"{number}-{part}" for number in range(6) for part in "ab"} <= found
    assert {each.removesuffix("-a") for each in found if each.endswith("-a")} == {
        each.removesuffix("-b") for each in found if each.endswith("-b")
    }


def test_one_thread_adds_while_another_searches(index: AnyIndex) -> None:
    """Each search finds whole additions."""
    stop = threading.Event()

    def add() -> None:
        for number in range(20):
            index.add([Passage("the pair", id=f"{number}{part}") for part in "ab"])
        stop.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not stop.is_set():
        assert len(ids(index)) % 2 == 1
    thread.join()

    assert len(ids(index)) == 43


def test_an_index_can_be_read_where_nothing_may_be_written(index: AnyIndex, path: Path, tmp_path: Path) -> None:
    """Also when it was changed in place before it was copied there; tried with SQLite's own words for such a place."""
    index.add([NEW])
    index.close()
    copy = tmp_path / "elsewhere" / "index.db"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM passages").fetchall() == [(4,)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE passages SET text = x'00'",
        "UPDATE passages SET metadata = '['",
        "UPDATE passages SET metadata = '{\"a\": {}}'",
        "UPDATE passages SET metadata = '[1]'",
    ],
)
def test_a_damaged_row_is_told(index: AnyIndex, path: Path, damage: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(damage)
    with pytest.raises(IndexDamaged, match=r"is damaged: .*; build it again"):
        index.search("the", 3)


def test_another_kind_of_index_is_told(tmp_path: Path) -> None:
    SqliteIndex.build(tmp_path / "words.db", OLD).close()
    with pytest.raises(IndexDamaged, match="is not an index made by VectorIndex"):
        VectorIndex(tmp_path / "words.db", HashingEmbedder()).search("the", 1)
