"""Files that are damaged in any way: one error of dspex that names the file, and nothing else comes out."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex
from dspex.errors import CacheError, DspexError, FileError, IndexDamaged, OptimizationError, StateError, TargetExists
from dspex.optimizers.control import JobFolder
from dspex.optimizers.identity import Identity
from dspex.optimizers.journal import Journal, read_page
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.protocols.retrieval import Passage
from dspex.retrieval import HashingEmbedder, VectorIndex
from dspex.services.cache.sqlite import SqliteCache
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.services.shared.sqlite_cells import SqliteFile
from dspex.testing import cassette

# Each example makes a file, and some of them open it ten times: eight kinds of 500 are a minute or two.
QUICK = settings(
    max_examples=min(settings.default.max_examples * 2 // 3, 500) if settings.default else 40, deadline=None
)

Damage = Callable[[bytes], bytes]


def cut(at: float) -> Damage:
    return lambda data: data[: int(len(data) * at)]


def written(at: float, what: bytes) -> Damage:
    def damage(data: bytes) -> bytes:
        place = int(len(data) * at)
        return data[:place] + what + data[place + len(what) :]

    return damage


def exchanged(old: bytes, new: bytes) -> Damage:
    return lambda data: data.replace(old, new, 100)  # of a few megabytes at most, three times over


ODD = [b"null", b"[]", b"{}", b"-1", b"1e999", b"9" * 5_000, b"[" * 3_000, b'"\\ud800"', b"\xff\xfe", b"NaN", b"true"]
SHARE = st.floats(0, 1)
DAMAGES = st.one_of(
    SHARE.map(cut),
    st.builds(written, SHARE, st.binary(min_size=1, max_size=40)),
    st.builds(written, SHARE, st.sampled_from(ODD)),
    st.builds(exchanged, st.sampled_from([b'"', b"1", b"{", b"[", b":", b"0", b"text", b"~"]), st.sampled_from(ODD)),
)


class Program(dspex.Module):
    def __init__(self) -> None:
        self.ask = dspex.Predict("question -> answer: int", temperature=0.5, n=2, seed=3)

    async def forward(self, question: str) -> object:
        return await self.ask(question=question)


PROGRAM = Program().with_demos([{"question": "one", "answer": 1}])
RESPONSE = LMResponse((Completion("text", "stop"),), Usage(1, 1), "m", None, {}, 0)


def make_state(path: Path) -> None:
    PROGRAM.save(path)


def use_state(path: Path) -> None:
    PROGRAM.load(path)


def make_cassette(path: Path) -> None:
    entry = {"request": "a", "number": 1, "url": "http://x/", "body": {}, "status": 200, "headers": {"a": "b"}}
    lines = [{"dspex_cassette": 1}, {**entry, "answer": ["text", {"base64": "AAAA"}]}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def use_cassette(path: Path) -> None:
    repr(cassette(path))


def make_index(path: Path) -> None:
    SqliteIndex.build(path, [Passage("a text of words", "title"), Passage("another text", "other")])


def use_index(path: Path) -> None:
    with closing(SqliteIndex(path)) as index:
        len(index)
        assert all(isinstance(each.text, str) for each in index.search("text", 5))
        index.add([Passage("new", id="new")])
        index.delete(["new"])


def make_vectors(path: Path) -> None:
    VectorIndex.build(path, [Passage("a text of words", "title"), Passage("another text")], HashingEmbedder(16))


def use_vectors(path: Path) -> None:
    with closing(VectorIndex(path, HashingEmbedder(16))) as index:
        len(index)
        assert all(isinstance(each.text, str) for each in index.search("text", 5, {"year": 1}))
        assert all(isinstance(each.text, str) for each in index.search("text", 5))
        index.add([Passage("new", id="new")])
        index.delete(["new"])


def make_cache(path: Path) -> None:
    with closing(SqliteCache(path).open()) as cache:
        cache.set("key", RESPONSE)


def use_cache(path: Path) -> None:
    with closing(SqliteCache(path).open()) as cache:
        assert cache.get("key") in (RESPONSE, None) or isinstance(cache.get("key"), LMResponse)
        cache.set("other", RESPONSE)


def make_journal(path: Path) -> None:
    with closing(
        Journal(path, "job", Identity({"lm": "1", "adapter": "2"}, {"lm": "openai/x", "adapter": "auto"}))
    ) as journal:
        journal.take()
        for number in range(20):
            journal.append("ok", {"typed": {"~": "date", "v": "2024-02-29"}, "text": "text " * 20}, f"{number}")


def use_journal(path: Path) -> None:
    with closing(
        Journal(path, "job", Identity({"lm": "1", "adapter": "2"}, {"lm": "openai/x", "adapter": "auto"}))
    ) as journal:
        journal.take()
        journal.find("ok", "3")
        journal.find_all("ok", ["1", "2"])
        journal.append("ok", {"typed": 1}, "new")
        journal.read()
    read_page(path, 0, 10)


def make_cells(path: Path) -> None:
    with closing(SqliteFile(path)) as cells:
        cells.change("name", lambda text, now: ("text", None), 1e9)


def use_cells(path: Path) -> None:
    with closing(SqliteFile(path)) as cells:
        cells.change("name", lambda text, now: ("new", None), 1e9)


def folder_at(path: Path) -> JobFolder:
    """Return a folder of jobs whose words are in the file; one job in it runs."""
    folder = JobFolder(path.parent)
    folder._control = path
    return folder


def make_words(path: Path) -> None:
    with closing(Journal(path.with_name("job.db"), "job", Identity({}, {}))) as journal:
        journal.take()
        folder_at(path).say("job", "pause")


def use_words(path: Path) -> None:
    make_words(path)
    folder_at(path).is_taken(1)
    folder_at(path).take("job", 1)


FILES = {
    "state": (make_state, use_state),
    "cassette": (make_cassette, use_cassette),
    "index": (make_index, use_index),
    "vectors": (make_vectors, use_vectors),
    "cache": (make_cache, use_cache),
    "journal": (make_journal, use_journal),
    "cells": (make_cells, use_cells),
    "words": (make_words, use_words),
}


@pytest.mark.parametrize("kind", FILES)
def test_only_errors_of_dspex_come_out_of_a_damaged_file(kind: str) -> None:
    """Cut off, overwritten, of another form: it is read as it is, or one error names the file."""
    make, use = FILES[kind]
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder, "good")
        make(good)
        use(good)
        make(good.with_name("fresh"))
        data = good.with_name("fresh").read_bytes()

        @QUICK
        @given(st.lists(DAMAGES, min_size=1, max_size=3))
        def check(damages: list[Damage]) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                path = Path(place, "a file")
                bad = data
                for damage in damages:
                    bad = damage(bad)
                path.write_bytes(bad)
                try:
                    use(path)
                except DspexError as error:
                    assert str(path) in str(error), error  # noqa: PT017 - an error may come, and then names it

        check()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}", b"[]", b"SQLite"]
)
def test_a_file_of_another_kind_is_one_error_and_stays_as_it_is(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes(content)

    with pytest.raises(DspexError, match="a file"):
        FILES[kind][1](path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["cache", "index", "vectors", "journal", "cells", "words"])
def test_a_table_of_contents_that_is_not_text_is_damage(kind: str, tmp_path: Path) -> None:
    """SQLite quotes it in its message, which Python then cannot decode."""
    make, use = FILES[kind]
    path = tmp_path / "a file"
    make(path)
    data = path.read_bytes()
    assert b"CREATE TABLE" in data
    path.write_bytes(data.replace(b"CREATE TABLE", b"CREATE \xff\xfe\xff\xfe\xff"))

    with pytest.raises(DspexError, match="a file"):
        use(path)


def test_a_cache_that_does_not_know_its_size_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    make_cache(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM totals")

    with closing(SqliteCache(path).open()) as cache:
        assert cache.get("key") == RESPONSE
        with pytest.raises(CacheError, match=r"a file.*its own size"):
            cache.set("other", RESPONSE)


@pytest.mark.parametrize("name", ["version", "mark", "stamp", "dimensions", "embedder"])
@pytest.mark.parametrize("damage", ["DELETE FROM state", "UPDATE state SET value = x'ff'"])
def test_an_index_that_does_not_say_what_it_is_is_damaged(name: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    make_vectors(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"{damage} WHERE name = ?", (name,))

    with closing(VectorIndex(path, HashingEmbedder(16))) as index:
        with pytest.raises(IndexDamaged, match="a file"):
            index.search("text", 1)
        if name != "mark":  # readers alone go by it
            with pytest.raises(IndexDamaged, match="a file"):
                index.add([Passage("new")])


@pytest.mark.parametrize("dimensions", ["", "-1", "1e9", "9" * 15, "9" * 5_000, "١٦"])
def test_a_length_of_vectors_that_no_vector_has_is_damage(dimensions: str, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    make_vectors(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE state SET value = ? WHERE name = 'dimensions'", (dimensions,))

    with closing(VectorIndex(path, HashingEmbedder(16))) as index:
        for use in (lambda: index.dimensions, lambda: index.vectors([]), lambda: index.delete([]), index.check):
            with pytest.raises(IndexDamaged, match="a file"):
                use()


@pytest.mark.parametrize("kind", ["cache", "index", "journal"])
def test_another_database_is_refused_and_unchanged(kind: str, tmp_path: Path) -> None:
    """Not even its journal mode is another one afterwards."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()

    with pytest.raises(DspexError, match=r"other\.db"):
        FILES[kind][1](path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 20_000), ("repair_turns", 10**9), ("temperature", 1e308), ("max_tokens", 10**12), ("seed", 2**70)],
)
def test_numbers_from_a_saved_program_are_bounded(name: str, value: float, tmp_path: Path) -> None:
    """Each of them is paid, or refused by every provider; the message says the bound and the file."""
    state = PROGRAM.dump_state()
    state["ask"]["dspex" if name == "repair_turns" else "config"] = {name: value}
    (tmp_path / "p.json").write_text(json.dumps(state))

    with pytest.raises(StateError, match=rf"p\.json: .*{name} cannot be .*a file may say up to"):
        PROGRAM.load(tmp_path / "p.json")


def test_saving_replaces_an_older_state_of_the_same_program_and_nothing_else(tmp_path: Path) -> None:
    """Another program's state and a file of another kind are left alone until somebody says so."""
    path = tmp_path / "new" / "p.json"
    PROGRAM.save(path)
    Program().save(path)
    assert PROGRAM.load(path).ask.demos == ()
    before = path.read_bytes()
    with pytest.raises(TargetExists, match="the state of another program"):
        dspex.Predict("a -> b").save(path)
    assert path.read_bytes() == before
    dspex.Predict("a -> b").save(path, overwrite=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TargetExists, match=r"notes\.txt: it is not a saved program"):
        PROGRAM.save(tmp_path / "notes.txt")
    with pytest.raises(FileError):
        PROGRAM.save(tmp_path)
    with pytest.raises(FileError):
        PROGRAM.load(tmp_path / "absent.json")


def test_an_index_replaces_an_index_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.db"
    make_index(path)
    make_index(path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TargetExists, match=r"notes\.txt: it is not an index"):
        make_index(tmp_path / "notes.txt")
    SqliteIndex.build(tmp_path / "notes.txt", [Passage("text", "t")], overwrite=True)
    assert {each.name for each in path.parent.iterdir()} == {"index.db"}


async def test_a_home_that_cannot_be_written_says_home_and_labels_need_none(tmp_path: Path) -> None:
    """Nothing was paid: no model is there at all."""
    (tmp_path / "file").write_text("")
    train = [{"question": f"q{number}", "answer": number} for number in range(4)]
    async with dspex.App(home=tmp_path / "file" / "home") as app:
        with pytest.raises(OptimizationError, match=r"App\(home=…\)"):
            await app.compile(Program(), dspex.BootstrapFewShot(lambda row, answer: 1), trainset=train)
        job = await app.compile(Program(), dspex.LabeledFewShot(k=2), trainset=train)
        found = await job.result()
    assert len(found.ask.demos) == 2


def test_two_recorders_keep_each_others_answers(tmp_path: Path) -> None:
    """The file is read again under its lock before it is written."""
    path = tmp_path / "tape.jsonl"
    entry = {"url": "http://x/", "body": {}, "status": 200, "headers": {}, "answer": ["text"]}
    first, second = cassette(path), cassette(path)
    for transport, request in ((first, "a"), (second, "b"), (first, "c"), (second, "c")):
        transport._keep({"request": request, "number": 1, **entry})
    shutil.copy(path, tmp_path / "copy.jsonl")
    assert "4 answers" in repr(cassette(tmp_path / "copy.jsonl"))
