"""BM25 with scores worked out beforehand: order, filters, new generations, and damaged files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dspex.errors import IndexDamaged, PassageInvalid, RetrievalError, TargetExists
from dspex.protocols.retrieval import Passage, abilities_of
from dspex.services.retrieval.bm25_index import Bm25Index

PASSAGES = [
    Passage("the heron waits", "Heron", id="heron", metadata={"year": 1999}),
    Passage("the swift sleeps on the wing", id="swift", metadata={"year": 2020}),
    Passage("the heron and the heron", id="pair", metadata={"year": 2021}),
    Passage("日本語のテキスト", id="text"),
]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Bm25Index]:
    with closing(Bm25Index.build(tmp_path / "bm25", PASSAGES)) as built:
        yield built


def ids(index: Bm25Index, query: str, k: int = 9, **more: object) -> list[str]:
    return [each.id for each in index.search(query, k, **more)]  # type: ignore[arg-type]  # a filter


def test_scores_are_those_of_the_formula(index: Bm25Index) -> None:
    """Lucene's, with k1 = 1.5 and b = 0.75; a title is text."""
    lengths = {"heron": 4, "swift": 6, "pair": 5, "text": 8}
    average = sum(lengths.values()) / 4
    rarity = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))

    def score(name: str, count: int) -> float:
        return rarity * count / (count + 1.5 * (1 - 0.75 + 0.75 * lengths[name] / average))

    found = index.search("heron", 9)
    assert {each.id: each.score for each in found} == pytest.approx(
        {"heron": score("heron", 2), "pair": score("pair", 2)}, rel=1e-4
    )
    assert [each.id for each in found] == ["heron", "pair"]


def test_words_of_every_script_are_found(index: Bm25Index) -> None:
    assert ids(index, "テキスト") == ["text"]
    assert ids(index, "nobody") == ids(index, "") == ids(index, "?!") == []


def test_filters_act_before_the_best_are_chosen(index: Bm25Index) -> None:
    assert ids(index, "the heron", 1, filter={"year": 2020}) == ["swift"]
    assert ids(index, "heron", filter={"year": [1999, 2021]}) == ["heron", "pair"]
    assert ids(index, "heron", filter={"year": 0}) == []


def test_of_one_id_the_last_stays(tmp_path: Path) -> None:
    passages = [Passage("old words", id="a"), *(Passage("x", id=str(n)) for n in range(600)), Passage("new", id="a")]
    with closing(Bm25Index.build(tmp_path / "bm25", passages)) as index:
        assert len(index) == 601
        assert ids(index, "old words") == []
        assert ids(index, "new") == ["a"]


def test_readers_go_on_with_the_newest(index: Bm25Index, tmp_path: Path) -> None:
    """An index does not change; a new one takes its place while it is open, and nothing old is left."""
    assert ids(index, "heron")
    before = index.version
    counts: list[int] = []
    Bm25Index.build(tmp_path / "bm25", [Passage("a kite", id="kite")], counts.append).close()

    assert ids(index, "kite") == ["kite"]
    assert index.version != before
    assert counts == [1]
    assert len(list((tmp_path / "bm25").iterdir())) == 2
    assert not abilities_of(index).adds


def test_a_build_that_fails_leaves_the_old_one(index: Bm25Index, tmp_path: Path) -> None:
    with pytest.raises(PassageInvalid, match="passage 2"):
        Bm25Index.build(tmp_path / "bm25", [PASSAGES[0], Passage("\ud800")])

    assert ids(index, "swift") == ["swift"]
    assert len(list((tmp_path / "bm25").iterdir())) == 2


@pytest.mark.parametrize("texts", [[], [""], ["?!", "..."]])
def test_an_index_without_words_finds_nothing(tmp_path: Path, texts: list[str]) -> None:
    with closing(Bm25Index.build(tmp_path / "bm25", map(Passage, texts))) as index:
        assert len(index) == len(texts)
        assert index.search("word", 3) == []


def cut(folder: Path) -> None:
    path = next(folder.rglob("data.csc.index.npy"))
    path.write_bytes(path.read_bytes()[:-4])


def junk(folder: Path) -> None:
    path = next(folder.rglob("indices.csc.index.npy"))
    path.write_bytes(b"x" * path.stat().st_size)


def another_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "dspex_bm25": 99}))


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (cut, "missing or cut off"),
    (junk, "is damaged"),
    (another_format, "of format 99"),
    (lambda folder: next(folder.rglob("passages.db")).unlink(), "missing or cut off"),
    (lambda folder: (folder / "manifest.json").write_text("["), "cannot be read"),
    (lambda folder: (folder / "manifest.json").write_text('{"dspex_bm25": 1, "generation": "../x"}'), "is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_files_are_told(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    Bm25Index.build(tmp_path / "bm25", PASSAGES).close()
    damage(tmp_path / "bm25")
    with closing(Bm25Index(tmp_path / "bm25")) as index:
        for use in (lambda: index.search("heron", 1), index.check, lambda: len(index)):
            with pytest.raises(IndexDamaged, match=message):
                use()


def test_a_place_without_an_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(RetrievalError, match="there is no index at"):
        Bm25Index(tmp_path / "notes").search("x", 1)
    with pytest.raises(TargetExists):
        Bm25Index.build(tmp_path / "notes", PASSAGES)
    assert [each.name for each in (tmp_path / "notes").iterdir()] == ["a.txt"]
