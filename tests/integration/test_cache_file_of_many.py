"""One cache file of several processes: its bound holds for all of them together, older files are taken over."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import dspex
from dspex import App
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.cache.codec import encode_response
from dspex.services.cache.envelope import CacheEntry
from dspex.services.cache.sqlite import SqliteCache
from dspex.testing import ScriptedLM
from tests.support.programs import collect

ASK = dspex.Predict("question -> answer", repair_turns=0)
BOUND = 40_000

WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from dspex.protocols.lm import Completion, LMResponse, Usage
    from dspex.services.cache.sqlite import SqliteCache

    table = SqliteCache(Path(sys.argv[1]), max_bytes=int(sys.argv[2])).open()
    for number in range(60):
        table.set(f"{sys.argv[3]}-{number}", LMResponse((Completion("x" * 1_000),), Usage(), "m"))
    table.close()
""")


def response(text: str) -> LMResponse:
    return LMResponse((Completion(text),), Usage(1, 2), "rules-1")


def held(path: Path) -> tuple[int, int]:
    """Return the bytes and the entries that are there, counted one by one."""
    with closing(sqlite3.connect(path)) as db:
        counted: tuple[int, int] = db.execute("SELECT coalesce(sum(bytes), 0), count(*) FROM entries").fetchone()
        assert db.execute("SELECT bytes, entries FROM totals").fetchall() == [counted]
    return counted


def test_the_bound_holds_over_processes(tmp_path: Path) -> None:
    """Three write at once, each enough to fill the file: together they keep to the one bound."""
    path = tmp_path / "cache.db"
    SqliteCache(path).open().close()
    command = [sys.executable, "-c", WRITER, str(path), str(BOUND)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [each.wait() for each in writers] == [0, 0, 0]

    size, entries = held(path)
    assert BOUND * 0.5 < size <= BOUND
    assert entries > 10


def test_values_of_all_sizes_keep_to_the_bound(tmp_path: Path) -> None:
    """A large one pushes out many small ones; one that is larger than the bound is not kept, nor what it replaces."""
    with closing(SqliteCache(tmp_path / "c.db", max_bytes=BOUND).open()) as table:
        for number in range(200):
            table.set(f"k{number}", response("x"))
            assert held(tmp_path / "c.db")[0] <= BOUND
        assert table.set("large", response("x" * 30_000)) > 10
        assert held(tmp_path / "c.db")[0] <= BOUND
        assert table.get("large") is not None
        table.set("large", response("x" * 50_000))
        assert table.get("large") is None


def test_what_has_expired_leaves_first(tmp_path: Path) -> None:
    with closing(SqliteCache(tmp_path / "c.db", max_bytes=3_000).open()) as table:
        table.set("first", response("x" * 600))
        table.keep("short", CacheEntry(response("x" * 600), 1.0, 2.0))
        assert table.find("short") == "expired"
        table.set("second", response("x" * 600))
        table.set("third", response("x" * 600))
        assert table.get("first") is not None


def test_namespaces_share_the_file_and_not_the_answers(tmp_path: Path) -> None:
    with (
        closing(SqliteCache(tmp_path / "c.db", namespace="a").open()) as one,
        closing(SqliteCache(tmp_path / "c.db", namespace="b").open()) as two,
    ):
        one.set("k", response("one"))
        assert two.get("k") is None
        two.set("k", response("two"))
        assert one.get("k") == response("one")
        two.remove("k", response("one"))
        assert two.get("k") == response("two")


def test_a_file_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    """Its answers are served, and count for the bound."""
    path = tmp_path / "c.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "CREATE TABLE responses (key TEXT PRIMARY KEY, value TEXT NOT NULL, bytes INTEGER NOT NULL, "
            "used REAL NOT NULL) WITHOUT ROWID"
        )
        rows = [("k", encode_response(response("kept")), 300, 5.0), ("broken", "{", 1, 6.0)]
        db.executemany("INSERT INTO responses VALUES (?, ?, ?, ?)", rows)

    with closing(SqliteCache(path).open()) as table:
        assert table.get("k") == response("kept")
        assert table.get("broken") is None
    assert held(path) == (301, 2)
    SqliteCache(path).open().close()


async def test_a_damaged_row_is_told_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    lm = ScriptedLM(lambda _: {"answer": "a"}, model="scripted/m")
    async with App(lm, cache=path) as app:
        await app.run(ASK, question="q")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE entries SET value = '{'")
    async with App(lm, cache=path) as app:
        with collect(app, "dspex.cache.unreadable") as events:
            assert dspex.details(await app.run(ASK, question="q")).cached is None
        assert [facts["reason"] for _, facts in events] == ["damaged"]
    async with App(lm, cache=path) as app:
        assert dspex.details(await app.run(ASK, question="q")).cached == "disk"


async def test_an_answer_on_disk_grows_old(tmp_path: Path) -> None:
    lm = ScriptedLM(lambda _: {"answer": "a"}, model="scripted/m")
    async with App(lm, cache=tmp_path / "c.db", cache_ttl=0.001) as app:
        await app.run(ASK, question="q")
    async with App(lm, cache=tmp_path / "c.db") as app:
        assert dspex.details(await app.run(ASK, question="q")).cached is None
