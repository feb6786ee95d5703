"""The SQLite index: what is found, in which order, and what is said when there is no index."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dspex.errors import RetrievalError
from dspex.protocols.retrieval import Passage, Retriever
from dspex.services.retrieval.sqlite_index import SqliteIndex

PASSAGES = [
    Passage("Serialize an object to a JSON formatted string.", "json.dumps"),
    Passage("Return the square root of x.", "math.sqrt", id="root"),
    Passage("Encoding of binary data.", "base64"),
    Passage("Nothing to see; json is mentioned.", "other"),
]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    built = SqliteIndex.build(tmp_path / "a.db", PASSAGES)
    yield built
    built.close()


def titles(index: SqliteIndex, query: str, k: int = 10) -> list[str]:
    return [passage.title for passage in index.search(query, k)]


def test_it_is_a_retriever(index: SqliteIndex) -> None:
    """Of the protocol."""
    assert isinstance(index, Retriever)


def test_the_best_passage_comes_first_with_its_parts(index: SqliteIndex) -> None:
    """Higher is better."""
    found = index.search("square root", 3)

    assert [(passage.title, passage.id) for passage in found] == [("math.sqrt", "root")]
    assert found[0].text == PASSAGES[1].text
    assert found[0].score > 0


def test_titles_weigh_more_than_text(index: SqliteIndex) -> None:
    """A name is what the passage is about."""
    assert titles(index, "json") == ["json.dumps", "other"]


def test_words_are_stemmed_and_any_of_them_matches(index: SqliteIndex) -> None:
    """ "encoded" finds "encoding"; a word nobody knows does no harm."""
    assert titles(index, "encoded zzz") == ["base64"]


def test_k_bounds_the_answer(index: SqliteIndex) -> None:
    """And is at least one."""
    assert len(index.search("json of a the", 2)) == 2
    with pytest.raises(RetrievalError, match="k=0"):
        index.search("json", 0)


@pytest.mark.parametrize("query", ["", "   ", "?!", "_", '"', "\0", "\ud800", "\N{COMBINING ACUTE ACCENT}"])
def test_a_query_without_words_finds_nothing(index: SqliteIndex, query: str) -> None:
    """It is not an error either."""
    assert index.search(query, 3) == []


@pytest.mark.parametrize(
    "query", ["json AND", "NOT json", 'json"', "json*", "title: json", "NEAR(json)", "^json", "(json"]
)
def test_operators_are_words(index: SqliteIndex, query: str) -> None:
    """A question is text, not an expression."""
    assert "json.dumps" in titles(index, query)


def test_a_whole_document_is_a_query(index: SqliteIndex) -> None:
    """However long."""
    assert titles(index, "json " + " ".join(f"w{number}" for number in range(50_000)))[0] == "json.dumps"


def test_ties_come_in_the_order_of_building(tmp_path: Path) -> None:
    """The same question gives the same answer everywhere."""
    index = SqliteIndex.build(tmp_path / "t.db", [Passage("same words", str(n)) for n in range(50)])
    found = index.search("words", 50)
    index.close()

    assert [passage.title for passage in found] == [str(n) for n in range(50)]
    assert len({passage.id for passage in found}) == 50


def test_its_length_is_the_number_of_passages(index: SqliteIndex, tmp_path: Path) -> None:
    """None is a number too."""
    empty = SqliteIndex.build(tmp_path / "e.db", [])

    assert len(index) == 4
    assert len(empty) == 0
    assert empty.search("x", 1) == []
    empty.close()


def test_building_reports_progress_and_replaces_at_the_end(tmp_path: Path) -> None:
    """Whoever has the old one open finds what is in the new one, and nothing of it before it is whole."""
    path = tmp_path / "a.db"
    counts: list[tuple[int, int]] = []
    old = SqliteIndex.build(path, PASSAGES)
    assert len(old) == 4
    passages = (Passage("x", str(n)) for n in range(1200))
    new = SqliteIndex.build(path, passages, lambda taken: counts.append((taken, len(old))))

    assert counts == [(500, 4), (1000, 4), (1200, 4)]
    assert (len(old), len(new)) == (1200, 1200)
    assert old.search("json", 1) == []
    old.close()
    new.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


def test_a_failed_build_leaves_the_old_index_and_no_rest(tmp_path: Path) -> None:
    """Whoever fails: the passages here."""
    path = tmp_path / "a.db"
    SqliteIndex.build(path, PASSAGES)

    def passages() -> Iterator[Passage]:
        yield PASSAGES[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        SqliteIndex.build(path, passages())
    with pytest.raises(RetrievalError, match=r"passage 1 \('bad'\)"):
        SqliteIndex.build(path, [Passage("\ud800", "bad")])
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]
    index = SqliteIndex(path)
    assert len(index) == 4
    index.close()


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    """As every file that is written has them made; where that is impossible, one line says where."""
    SqliteIndex.build(tmp_path / "none" / "a.db", PASSAGES).close()
    assert (tmp_path / "none" / "a.db").exists()
    with pytest.raises(RetrievalError, match=r"a\.db"):
        SqliteIndex.build(tmp_path / "none" / "a.db" / "b.db", PASSAGES)


def make_nothing(path: Path) -> None:
    """Leave the path empty."""


def make_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t(x)")
    connection.close()


def make_old(path: Path) -> None:
    SqliteIndex.build(path, PASSAGES)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_nothing, "there is no index at .*: make one with SqliteIndex.build"),
        (Path.touch, "is not an index"),
        (lambda path: path.write_text("some text\n" * 200), "cannot be read as an index: file is not a database"),
        (Path.mkdir, "is not an index but a folder"),
        (make_database, "is not an index"),
        (make_old, "of format 99"),
    ],
)
def test_what_is_no_index_is_said_in_one_line(tmp_path: Path, make: object, message: str) -> None:
    """With the path, and for the length as for a search."""
    path = tmp_path / "odd name?#%.db"
    assert callable(make)
    make(path)
    index = SqliteIndex(path)
    for use in (lambda: index.search("x", 1), lambda: len(index)):
        with pytest.raises(RetrievalError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_another_thread_may_use_and_close_it(index: SqliteIndex) -> None:
    """After a close the next search opens it again."""
    index.search("json", 1)
    found: list[list[str]] = []
    for action in (
        lambda: found.append(titles(index, "root")),
        index.close,
        lambda: found.append(titles(index, "root")),
    ):
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()

    assert found == [["math.sqrt"], ["math.sqrt"]]


def test_searching_never_writes(index: SqliteIndex, tmp_path: Path) -> None:
    """The file may lie in a read-only place."""
    before = (tmp_path / "a.db").read_bytes()
    index.search("json", 1)

    assert (tmp_path / "a.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("日本語のテキストです", "日本語"),
        ("日本語のテキストです", "テキスト"),
        ("日本語のテキストです", "す"),
        ("我喜欢喝绿茶", "绿茶"),
        ("한국어를 배웁니다", "한국어"),
        ("ภาษาไทยสนุก", "ไทย"),
        ("python3で書いた本", "python3"),
        ("ﾃｷｽﾄを読む", "テキスト"),
    ],
)
def test_scripts_without_spaces_are_found(tmp_path: Path, text: str, query: str) -> None:
    """By any part of a text; the passage comes out as it was given."""
    with closing(SqliteIndex.build(tmp_path / "a.db", [Passage("owls do not sing"), Passage(text, "owl")])) as index:
        assert [passage.text for passage in index.search(query, 1)] == [text]


def test_the_better_match_in_a_script_without_spaces_comes_first(tmp_path: Path) -> None:
    """More pairs in common weigh more than one."""
    texts = ["東京大学の歴史", "東京の天気", "京都の寺", "大阪の食べ物"]
    with closing(SqliteIndex.build(tmp_path / "a.db", [Passage(text) for text in texts])) as index:
        assert [passage.text for passage in index.search("東京大学", 4)] == ["東京大学の歴史", "東京の天気"]
