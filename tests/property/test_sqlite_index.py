"""Any text is a query, and any passages make an index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dspex.protocols.retrieval import Passage
from dspex.services.retrieval.sqlite_index import SqliteIndex

WORDS = [
    "and",
    "or",
    "not",
    "near",
    "json",
    "título",
    "日本",
    "x_y",
    "a.b",
    "I'm",
    "title:json",
    '"quoted',
    "*",
    "(",
    "-",
]
queries = st.text() | st.text(st.characters()) | st.lists(st.sampled_from(WORDS)).map(" ".join)
# Each builds a file, which is on the disk in the end: a twentieth of a second.
FEWER = settings(
    max_examples=min(settings.default.max_examples, 700) if settings.default else 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    passages = [Passage(f"{word} is number {number}", word) for number, word in enumerate(WORDS)]
    built = SqliteIndex.build(tmp_path / "a.db", passages)
    yield built
    built.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # read only
@given(query=queries, k=st.integers(1, 20))
def test_any_text_gives_passages_or_none(index: SqliteIndex, query: str, k: int) -> None:
    """Best first, at most ``k``, the same again."""
    found = index.search(query, k)

    assert len(found) <= k
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    assert found == index.search(query, k)


@FEWER
@given(texts=st.lists(encodable, max_size=5))
def test_what_was_put_in_comes_out(tmp_path: Path, texts: list[str]) -> None:
    """Whole, nulls and all, found by a word all passages share."""
    index = SqliteIndex.build(tmp_path / "a.db", [Passage(text, "shared") for text in texts])
    found = index.search("shared", 10)
    index.close()

    assert sorted(passage.text for passage in found) == sorted(set(texts))  # of equal content there is one


@FEWER
@given(text=st.text("日本語のテキスト한국어ไทย ab1", min_size=1, max_size=12), data=st.data())
def test_every_part_of_a_text_finds_it(tmp_path: Path, text: str, data: st.DataObject) -> None:
    """A part in one script without spaces, of any length, wherever it stands."""
    runs = re.findall("[日本語のテキスト한국어ไทย]+", text)
    assume(runs)
    run = data.draw(st.sampled_from(runs))
    start = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(start + 1, len(run)))
    with closing(SqliteIndex.build(tmp_path / "a.db", [Passage(text)])) as index:
        assert [passage.text for passage in index.search(run[start:end], 1)] == [text]
