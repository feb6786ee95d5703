"""The disk tier beside other processes: a hit needs nobody's lock; and answers nobody could read are not served."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import CacheError
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.cache.sqlite import SqliteCache
from dspex.testing import ScriptedLM

ASK = dspex.Predict("question -> answer", adapter="chat", repair_turns=0)
ASK_AGAIN = dspex.Predict("question -> answer", adapter="chat")


def response(text: str) -> LMResponse:
    return LMResponse((Completion(text),), Usage(1, 2), "rules-1")


@contextmanager
def locked_by_another(path: Path, begin: str) -> Iterator[None]:
    """Have a real second process hold SQLite's lock."""
    code = textwrap.dedent(f"""
        import sqlite3, sys
        db = sqlite3.connect({str(path)!r}, isolation_level=None)
        db.execute({begin!r})
        print("held", flush=True)
        sys.stdin.readline()
    """)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        try:
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.stdin.close()


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_every_hit_is_a_hit_while_another_process_holds_the_lock(tmp_path: Path, begin: str) -> None:
    """Opening, too, waits for nobody: the provider is not asked again for any of twelve answers."""
    path = tmp_path / "cache.db"
    lm = ScriptedLM(lambda request: {"answer": "a"}, model="scripted/m")
    questions = [str(number) for number in range(12)]
    async with dspex.App(lm, cache=path) as app:
        for each in questions:
            await app.run(ASK, question=each)
    assert len(lm.requests) == 12

    with locked_by_another(path, begin):
        async with dspex.App(lm, cache=path, deadline=30) as app:
            found = [dspex.details(await app.run(ASK, question=each)).cached for each in questions]
    assert found == ["disk"] * 12
    assert len(lm.requests) == 12


async def test_an_answer_that_cannot_be_stored_is_an_answer(tmp_path: Path) -> None:
    """And while its write waits for the lock, stored ones are read."""
    path = tmp_path / "cache.db"
    lm = ScriptedLM(lambda request: {"answer": "a"}, model="scripted/m")
    async with dspex.App(lm, cache=path) as app:
        await app.run(ASK, question="old")

    with locked_by_another(path, "BEGIN IMMEDIATE"):
        async with dspex.App(lm, cache=path, deadline=30) as app:
            assert dspex.details(await app.run(ASK, question="new")).cached is None
            assert dspex.details(await app.run(ASK, question="old")).cached == "disk"
            assert dspex.details(await app.run(ASK, question="new")).cached == "memory"


def test_the_time_of_a_hit_is_noted_with_the_next_answer(tmp_path: Path) -> None:
    """An entry that was read lately stays when others have to leave."""
    table = SqliteCache(tmp_path / "c.db", max_bytes=3_000).open()
    table.set("read", response("x" * 300))
    for number in range(3):
        table.set(f"k{number}", response("x" * 300))
        assert table.get("read") is not None
    table.close()

    table = SqliteCache(tmp_path / "c.db", max_bytes=3_000).open()
    for number in range(3, 6):
        table.set(f"k{number}", response("x" * 300))
    assert table.get("read") is not None
    assert table.get("k0") is None
    table.close()


def test_a_file_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """Writing it fails by name, and a hit is a hit."""
    table = SqliteCache(tmp_path / "c.db").open()
    table.set("k", response("a"))
    with locked_by_another(tmp_path / "c.db", "BEGIN IMMEDIATE"):
        table._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(CacheError, match="locked"):
            table.set("other", response("b"))
        assert table.get("k") == response("a")
    table.set("other", response("b"))
    assert table.get("other") == response("b")
    table.close()


def garbage(times: int, then: str = "Paris") -> Any:
    asked = []

    def answer(request: Any) -> Completion:
        asked.append(request)
        return Completion("garbage" if len(asked) <= times else f"[[ ## answer ## ]]\n{then}\n\n[[ ## completed ## ]]")

    return answer


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_unreadable_answer_is_asked_for_again(tmp_path: Path, restarted: bool) -> None:
    """By the same App, and by another one that has the same file."""
    lm = ScriptedLM(garbage(1), model="scripted/m")
    app = dspex.App(lm, cache=tmp_path / "cache.db")
    async with app:
        with pytest.raises(dspex.ResponseUnparsable):
            await app.run(ASK, question="q")
        if not restarted:
            assert (await app.run(ASK, question="q")).answer == "Paris"
    async with app:
        assert (await app.run(ASK, question="q")).answer == "Paris"
        assert dspex.details(await app.run(ASK, question="q")).cached is not None
    assert len(lm.requests) == 2


async def test_a_repaired_conversation_begins_afresh(tmp_path: Path) -> None:
    """The turn that could not be read is not an answer; the one that could be read is."""
    lm = ScriptedLM(garbage(1), model="scripted/m")
    async with dspex.App(lm, cache=tmp_path / "cache.db") as app:
        first = await app.run(ASK_AGAIN, question="q")
        assert len(dspex.details(first).results) == 2
        second = await app.run(ASK_AGAIN, question="q")
        assert len(dspex.details(second).results) == 1
        third = await app.run(ASK_AGAIN, question="q")
    assert (first.answer, second.answer, third.answer) == ("Paris",) * 3
    assert dspex.details(third).cached == "memory"
    assert len(lm.requests) == 3


async def test_a_good_answer_of_the_same_question_stays() -> None:
    """Whoever finds an answer unreadable takes out that one only."""
    removed: list[str] = []
    app = dspex.App(ScriptedLM(garbage(0)))
    app.telemetry.attach("dspex.cache.remove", lambda name, *_: removed.append(name))
    async with app:
        good = await app.run(ASK, question="q")
        (result,) = dspex.details(good).results
        cache = app.running_tree().cache
        assert cache is not None
        cache.remove(result.key, response("another"))
        assert dspex.details(await app.run(ASK, question="q")).cached == "memory"
        cache.remove(result.key, result.response)
        assert dspex.details(await app.run(ASK, question="q")).cached is None
    assert removed == ["dspex.cache.remove"] * 2


async def test_a_killed_cache_forgets_unreadable_answers_all_the_same(tmp_path: Path) -> None:
    """The successor of the actor that was to remove one from the disk does it."""
    lm = ScriptedLM(garbage(1), model="scripted/m")
    app = dspex.App(lm, cache=tmp_path / "cache.db")

    def kill(*_: object) -> None:
        found = app.running_tree().runtime.whereis("cache")
        assert found is not None
        found.kill()

    detach = app.telemetry.attach("dspex.cache.remove", kill)
    async with app:
        with pytest.raises(dspex.ResponseUnparsable):
            await app.run(ASK, question="q")
        detach()
        await app.running_tree().runtime.wait_name("cache", 10.0)
    async with app:
        assert (await app.run(ASK, question="q")).answer == "Paris"


async def test_files_of_ours_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask: the cache with its WAL and shared memory, journals of jobs and of maps, saved programs."""
    before = os.umask(0)
    try:
        app = dspex.App(ScriptedLM(garbage(0)), cache=tmp_path / "cache.db", home=tmp_path / "home")
        async with app:
            ask = dspex.Predict("question -> answer", adapter="chat")
            async with app.map(ask, [{"id": 1, "question": "q"}], journal=tmp_path / "rows.db") as rows:
                assert [type(each) async for each in rows] == [dspex.Ok]
                modes = rights(tmp_path)
            job = await app.compile(ask, dspex.LabeledFewShot(1), trainset=[{"question": "q", "answer": "a"}], job="j")
            best = await job.result()
            best.save(tmp_path / "best.json")
            dspex.SqliteIndex.build(tmp_path / "index.db", [dspex.Passage("text")])
            modes |= rights(tmp_path)
    finally:
        os.umask(before)
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o600} == {}
    assert {"cache.db", "cache.db-wal", "cache.db-shm", "rows.db", "rows.db-wal", "j.db"} < modes.keys()
    assert {"best.json", "index.db"} < modes.keys()


def rights(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.rglob("*") if each.is_file()}


def test_a_saved_program_keeps_the_rights_and_links_it_had(tmp_path: Path) -> None:
    """Whoever opened a file to others meant it."""
    path, link = tmp_path / "p.json", tmp_path / "link.json"
    ASK.save(path)
    path.chmod(0o644)
    link.symlink_to(path)
    ASK.with_instructions("Other.").save(link)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert link.is_symlink()
    assert "Other." in path.read_text()


class SlowLook:
    """A disk tier that is asked for an answer just before it takes the answer out, and says so just after."""

    def __init__(self) -> None:
        self.kept: dict[str, LMResponse] = {}
        self.looks = 0
        self.stored = threading.Event()
        self.found = threading.Event()
        self.removed = threading.Event()

    def open(self) -> SlowLook:
        return self

    def get(self, key: str) -> LMResponse | None:
        self.looks += 1
        if self.looks == 1:
            return None  # nobody has answered yet
        assert self.stored.wait(10)
        value = self.kept.get(key)
        self.found.set()
        assert self.removed.wait(10)
        return value

    def set(self, key: str, response: LMResponse) -> int:
        self.kept[key] = response
        self.stored.set()
        return 0

    def remove(self, key: str, response: LMResponse) -> None:
        assert self.found.wait(10)
        self.kept.pop(key, None)
        self.removed.set()

    def close(self) -> None:
        pass


async def test_an_answer_found_before_it_was_removed_is_not_served_after() -> None:
    """The thread that reads and the thread that removes do not wait for each other."""
    lm = ScriptedLM(garbage(1), model="scripted/m")
    async with dspex.App(lm, cache=SlowLook()) as app:
        with pytest.raises(dspex.ResponseUnparsable):
            await app.run(ASK, question="q")
        second = await app.run(ASK, question="q")
    assert second.answer == "Paris"
    assert len(lm.requests) == 2
