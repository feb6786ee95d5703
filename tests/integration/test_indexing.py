"""``app.index``: passages into an index, as a job of a running App."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

import dspex
from dspex import Passage, Retrieve
from dspex.errors import BudgetExceeded, ConfigError, DocumentError, FileBusy, JobCancelled, JobMismatch, RetrieverLacks
from dspex.optimizers.control import JobFolder
from dspex.retrieval import Documents, HashingEmbedder, VectorIndex
from dspex.simulator import Simulator
from dspex.testing import FixedRetriever
from tests.support.indexing import BATCH, content, index_of, passages, simulated


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[dspex.App]:
    async with dspex.App(home=tmp_path / "home") as running:
        yield running


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


async def indexed(app: dspex.App, given: object, into: object, **options: object) -> str:
    job = await app.index(given, into, **options)  # type: ignore[arg-type]  # handed on
    return str(await job.result())


def left_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


# --- what is written ------------------------------------------------------------------------------------------


async def test_a_build_holds_the_passages_and_no_others(app: dspex.App, tmp_path: Path) -> None:
    path = tmp_path / "birds.db"

    first = await indexed(app, passages(12), path, batch=BATCH)
    again = await indexed(app, passages(12), path)
    smaller = await indexed(app, passages(3, changed=1), path)

    assert first == "12 passages read: 12 added, 0 unchanged; the index holds 12 passages"
    assert again == "12 passages read: 12 added, 0 unchanged; the index holds 12 passages"
    assert smaller == "3 passages read: 3 added, 0 unchanged; the index holds 3 passages"
    index = dspex.SqliteIndex(path)
    assert sorted(index.ids()) == ["b0", "b1", "b2"]
    assert index.get(["b0", "none"])["b0"].text == "The heron number 0 waits and sings."
    index.close()
    assert left_in(tmp_path) == ["birds.db", "home"]


async def test_adding_writes_over_what_has_changed_and_leaves_the_rest(app: dspex.App, tmp_path: Path) -> None:
    path = tmp_path / "birds.db"
    await indexed(app, passages(4), path)

    told = await indexed(app, passages(6, changed=1), path, mode="add")

    assert told == "6 passages read: 3 added, 3 unchanged; the index holds 6 passages"


async def test_only_what_has_changed_is_embedded(sim: Simulator, tmp_path: Path) -> None:
    """By the simulator's own count, for a build and for an addition."""
    path, index = tmp_path / "v.db", index_of(tmp_path / "v.db")
    async with simulated(sim.url, tmp_path / "home") as app:
        assert await indexed(app, passages(12), index, batch=BATCH) == (
            "12 passages read: 12 added, 0 unchanged, 12 embedded; the index holds 12 passages"
        )
        before = content(path)
        assert sum(sim.stats().arrivals.values()) == 3
        assert "0 unchanged; the index" in await indexed(app, passages(12), index)
        assert "4 embedded" in await indexed(app, passages(14, changed=2), index, mode="add", job="more")
        assert "2 embedded" in await indexed(app, passages(14, changed=4), index)
    index.close()

    assert sum(sim.stats().arrivals.values()) == 5
    assert content(path)[4:12] != before[4:12]
    kept = {each[0]: each for each in content(path)}
    assert all(kept[each[0]] == each for each in before if each[0] not in ("b0", "b1", "b2", "b3"))


async def test_async_passages_and_a_function_as_the_embedder(app: dspex.App, tmp_path: Path) -> None:
    async def given() -> AsyncIterator[Passage]:
        for each in passages(7):
            yield each

    index = VectorIndex(tmp_path / "v.db", HashingEmbedder())

    assert "7 embedded" in await indexed(app, given(), index, batch=3)
    assert index.search("wren", 1)[0].id == "b2"
    index.close()


# --- while it is searched -------------------------------------------------------------------------------------


async def test_searches_see_the_old_index_whole_then_the_new_one(tmp_path: Path) -> None:
    """A search beside every batch: never a mixture, never an error."""
    path = tmp_path / "birds.db"
    dspex.SqliteIndex.build(path, passages(20))
    seen: list[frozenset[str]] = []

    async def given(app: dspex.App) -> AsyncIterator[Passage]:
        for each in passages(20, changed=20):
            found = await app.run(Retrieve(k=50), query="waits")
            seen.append(frozenset(passage.text for passage in found))
            yield each

    async with dspex.App(retriever=path, home=tmp_path / "home") as app:
        await indexed(app, given(app), path, batch=4)
        after = frozenset(passage.text for passage in await app.run(Retrieve(k=50), query="waits"))

    assert set(seen) == {frozenset(each.text for each in passages(20))}
    assert after == frozenset(each.text for each in passages(20, changed=20))


async def test_a_build_that_fails_leaves_the_old_index(app: dspex.App, tmp_path: Path) -> None:
    path = tmp_path / "birds.db"
    await indexed(app, passages(3), path)

    written = threading.Event()

    def hear(_: str, told: Mapping[str, float], __: object) -> None:
        if told["read"] == 8:
            written.set()

    app.telemetry.attach("dspex.index.progress", hear)

    def broken() -> Iterator[Passage]:
        yield from passages(8, changed=8)
        assert written.wait(30.0)  # in the thread that reads
        raise OSError("the disk is gone")

    job = await app.index(broken(), path, batch=2)
    with pytest.raises(OSError, match="the disk is gone"):
        await job.result()

    assert job.status == "failed"
    index = dspex.SqliteIndex(path)
    assert [each.text for each in index.get(["b0"]).values()] == ["The heron number 0 waits."]
    index.close()
    assert "8 unchanged; the index holds 8" in await indexed(app, passages(8, changed=8), path)


# --- how a job ends -------------------------------------------------------------------------------------------


async def test_a_paused_job_goes_on_and_a_cancelled_one_is_continued(app: dspex.App, tmp_path: Path) -> None:
    path, go = tmp_path / "birds.db", asyncio.Event()

    async def given() -> AsyncIterator[Passage]:
        for each in passages(6):
            yield each
        await go.wait()
        for each in list(passages(9))[6:]:
            yield each

    job = await app.index(given(), path, batch=2)
    while job.counts.added < 6:
        await job.changed()
    folder = JobFolder(tmp_path / "home" / "jobs")
    overview = folder.show("index-birds")
    assert (overview.status, overview.index, overview.held) == ("running", str(path), False)
    assert (await app.index(passages(1), path)).id == job.id  # the one that runs
    job.pause()
    job.resume()
    job.cancel()
    with pytest.raises(JobCancelled):
        await job.result()
    assert folder.show("index-birds").status == "cancelled"

    go.set()
    assert await indexed(app, given(), path, batch=2) == (
        "9 passages read: 3 added, 6 unchanged; the index holds 9 passages"
    )
    overview = folder.show("index-birds")
    assert (overview.status, overview.passages, overview.evaluations) == ("finished", 9, 0)


async def test_a_budget_covers_all_starts(sim: Simulator, tmp_path: Path) -> None:
    """Of calls, here: what the first start has paid is not there for the second."""
    index = index_of(tmp_path / "v.db")
    budget = dspex.Budget(calls=3)
    for _ in range(2):
        async with simulated(sim.url, tmp_path / "home") as app:
            job = await app.options(budget=budget).index(passages(30), index, batch=BATCH, max_concurrency=1)
            with pytest.raises(BudgetExceeded):
                await job.result()
    assert sum(sim.stats().arrivals.values()) == 3
    assert JobFolder(tmp_path / "home" / "jobs").show("index-v").spent.calls == 3

    async with simulated(sim.url, tmp_path / "home") as app:
        told = await indexed(app, passages(30), index, batch=BATCH)
    index.close()
    assert told == "30 passages read: 15 added, 15 unchanged, 15 embedded; the index holds 30 passages"
    assert sum(sim.stats().arrivals.values()) == 6


async def test_a_closed_app_leaves_the_job_to_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "birds.db"

    async def endless() -> AsyncIterator[Passage]:
        for each in passages(4):
            yield each
        await asyncio.get_running_loop().create_future()

    async with dspex.App(home=tmp_path / "home") as app:
        job = await app.index(endless(), path, batch=2)
        while job.counts.added < 4:
            await job.changed()
    with pytest.raises(dspex.AppClosed):
        await job.result()

    async with dspex.App(home=tmp_path / "home") as app:
        assert "1 added, 4 unchanged" in await indexed(app, passages(5), path)


# --- what is refused ------------------------------------------------------------------------------------------


async def test_what_makes_no_job_is_refused_before_anything_is_read(app: dspex.App, tmp_path: Path) -> None:
    path = tmp_path / "birds.db"
    for given, into, options in (
        ("text", path, {}),
        (5, path, {}),
        ([], tmp_path, {}),
        ([], object(), {}),
        ([], path, {"mode": "replace"}),
        ([], path, {"batch": 0}),
        ([], path, {"job": "../x"}),
    ):
        with pytest.raises(ConfigError):
            await app.index(given, into, **options)  # type: ignore[arg-type]  # that is the point
    assert not path.exists()


class Writable(FixedRetriever):
    """Takes passages, and tells nothing of what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, Passage] = {}

    def add(self, given: list[Passage]) -> None:
        self.held |= {each.id: each for each in given}

    def delete(self, ids: list[str]) -> int:
        return len([self.held.pop(each) for each in ids if each in self.held])


async def test_an_index_of_ones_own_is_added_to_and_not_built(app: dspex.App) -> None:
    own = Writable()

    assert await indexed(app, passages(5), own, mode="add") == "5 passages read: 5 added, 0 unchanged"
    assert list(own.held) == [f"b{number}" for number in range(5)]
    with pytest.raises(ConfigError, match="mode='add' changes it"):
        await indexed(app, passages(5), own, job="other")


async def test_two_jobs_do_not_write_one_index_at_once(app: dspex.App, tmp_path: Path) -> None:
    path = tmp_path / "birds.db"

    async def endless() -> AsyncIterator[Passage]:
        yield next(passages(1))
        await asyncio.get_running_loop().create_future()

    job = await app.index(endless(), path, batch=1)
    while not job.counts.added:
        await job.changed()
    with pytest.raises(FileBusy):
        await indexed(app, passages(1), path, job="other")
    with pytest.raises(ConfigError, match="is running, and indexes"):
        await app.index(passages(1), tmp_path / "another.db", job=job.id)
    job.cancel()
    with pytest.raises(JobCancelled):
        await job.result()
    with pytest.raises(JobMismatch):
        await app.index(passages(1), tmp_path / "another.db", job=job.id)


async def test_bad_files_end_the_job_or_are_counted(app: dspex.App, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "One."}\nno json\n')

    with pytest.raises(DocumentError, match=r"a.jsonl: line 2"):
        await indexed(app, Documents(folder), tmp_path / "docs.db")
    told = await indexed(app, Documents(folder, skip_bad=True), tmp_path / "docs.db")
    assert told == "1 passages read: 1 added, 0 unchanged, 1 not read; the index holds 1 passages"


def test_plain_code_indexes_too(tmp_path: Path) -> None:
    with dspex.App(home=tmp_path / "home").sync() as app:
        job = app.index(passages(3), tmp_path / "birds.db")
        assert job.result().size == 3
        assert job.counts.read == 3
    with sqlite3.connect(tmp_path / "birds.db") as db:
        assert db.execute("SELECT count(*) FROM passages").fetchone() == (3,)
    db.close()


def test_the_retriever_that_lacks_add_is_named() -> None:
    assert issubclass(RetrieverLacks, dspex.RetrievalError)
