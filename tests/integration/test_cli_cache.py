"""``dspex cache`` on a file and on real servers: what is counted, written out, read in elsewhere, and cleared."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import secrets
from pathlib import Path

import pytest

import dspex
from dspex import App
from dspex._clock import wall_time
from dspex.app.cli import main
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.cache.envelope import CacheEntry
from dspex.services.cache.shared_stock import open_shared_stock
from dspex.services.cache.sqlite import SqliteCache
from dspex.services.cache.sqlite_stock import SqliteStock
from dspex.services.cache.stock import Stock, StockChoice, StockItem
from dspex.services.shared.address import Shared
from dspex.testing import ScriptedLM
from tests.support.stores import Store

ASK = dspex.Predict("question -> answer", repair_turns=0)


def item(number: int, namespace: str, model: str = "m", created: float | None = None) -> StockItem:
    answer = LMResponse((Completion(f"Grüße {number}"),), Usage(1, 2), model)
    key = hashlib.sha256(f"{number}".encode()).hexdigest()
    return StockItem(namespace, key, CacheEntry(answer, wall_time() if created is None else created))


async def with_stock(target: str, *items: StockItem) -> list[StockItem]:
    """Add items, and return all that are there."""
    stock: Stock
    if "://" in target:
        stock = await open_shared_stock(Shared(target, timeout=10.0))
    else:
        stock = SqliteStock(Path(target))
    try:
        await stock.add(items)
        return [each async for each in stock.items(StockChoice()) if isinstance(each, StockItem)]
    finally:
        await stock.aclose()


def held(target: str, namespace: str) -> set[str]:
    """Return the keys of a namespace."""
    return {each.key for each in asyncio.run(with_stock(target)) if each.namespace == namespace}


@pytest.fixture(params=["file", "shared file", "redis_server", "postgres_server"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "answers.db")
    if request.param == "shared file":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    store: Store = request.getfixturevalue(request.param)
    return store.url


@pytest.fixture
def namespace() -> str:
    return secrets.token_hex(4)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# --- a file -------------------------------------------------------------------------------------------------


def test_a_run_is_replayed_elsewhere_without_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run, export, import into another file, run again with ``cache="only"``: the same answers, nobody is asked."""
    questions = [f"q{number}" for number in range(5)]

    async def run(path: Path, script: object) -> list[str]:
        lm = ScriptedLM(script, model="scripted/m")  # type: ignore[arg-type]  # of either kind
        async with App(lm, cache=path) as app:
            view = app.options(cache="use" if callable(script) else "only")
            return [str((await view.run(ASK, question=each)).answer) for each in questions]

    first = asyncio.run(run(tmp_path / "here.db", lambda _: {"answer": secrets.token_hex(4)}))
    assert main(["cache", "export", str(tmp_path / "here.db"), str(tmp_path / "run.jsonl")]) == 0
    assert "5 written" in said(capsys)
    assert main(["cache", "import", str(tmp_path / "there.db"), str(tmp_path / "run.jsonl")]) == 0
    assert "5 added" in said(capsys)

    assert asyncio.run(run(tmp_path / "there.db", [])) == first
    assert len(set(first)) == 5


def test_stats_tell_models_sizes_and_ages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "answers.db")
    asyncio.run(with_stock(path, item(1, "dspex", "a", 0.0), item(2, "dspex", "a", 60.0), item(3, "other", "b", 0.0)))

    assert main(["cache", "stats", path]) == 0
    lines = said(capsys).splitlines()
    assert lines[0].startswith("dspex  a: 2 entries, ")
    assert lines[0].endswith("made 1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC")
    assert lines[1].startswith("other  b: 1 entries")
    assert lines[2].startswith(f"{path}: 3 entries")
    assert main(["cache", "stats", path, "--json"]) == 0
    rows = [json.loads(line) for line in said(capsys).splitlines()]
    assert [(row["namespace"], row["model"], row["entries"], row["newest"]) for row in rows] == [
        ("dspex", "a", 2, 60.0),
        ("other", "b", 1, 0.0),
    ]


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
@pytest.mark.parametrize("command", ["stats", "clear"])
def test_a_file_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, form: str
) -> None:
    assert main(["cache", command, form.format(tmp_path / "no.db")]) == 2
    assert "there is no cache" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_nothing_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(tmp_path / "answers.db"), tmp_path / "out.jsonl"
    asyncio.run(with_stock(path, item(1, "dspex")))
    out.write_text("mine")

    assert main(["cache", "export", path, str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["cache", "export", path, str(out), "--overwrite"]) == 0
    assert out.stat().st_mode & 0o077 == 0
    assert len(out.read_text().splitlines()) == 2


def test_every_line_is_checked_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(tmp_path / "answers.db"), tmp_path / "out.jsonl"
    asyncio.run(with_stock(path, *(item(number, "dspex") for number in range(3))))
    assert main(["cache", "export", path, str(out)]) == 0
    header, *lines = out.read_text().splitlines()
    wrong = ["", "{", "[]", '{"v":1}', lines[0].replace('"v":1', '"v":9'), lines[1].replace('"key":"', '"key":"../')]
    out.write_text("\n".join([header, *lines, *wrong, lines[0].replace('"until":null', '"until":1.0')]) + "\n")
    said(capsys)

    assert main(["cache", "import", str(tmp_path / "other.db"), str(out)]) == 1
    assert said(capsys).rstrip().endswith("3 added, 4 damaged, 1 expired, 1 foreign, 1 newer, 0 there already")


@pytest.mark.parametrize(
    ("first", "words"), [("", "not a file of"), ("{}", "not a file of"), ('{"dspex":"cache","v":2}', "newer dspex")]
)
def test_a_file_of_something_else_is_refused_before_anything_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str, words: str
) -> None:
    (tmp_path / "in.jsonl").write_text(first + "\n")
    assert main(["cache", "import", str(tmp_path / "answers.db"), str(tmp_path / "in.jsonl")]) == 2
    assert words in capsys.readouterr().err


# --- a file or a server -------------------------------------------------------------------------------------


def test_entries_go_out_and_in_as_they_were(target: str, namespace: str, tmp_path: Path) -> None:
    """Into an empty namespace of the same store, and only newer ones replace what is there."""
    items = [item(number, namespace, "model") for number in range(7)]
    asyncio.run(with_stock(target, *items))
    out = str(tmp_path / "out.jsonl")
    assert main(["cache", "export", target, out, "--namespace", namespace]) == 0
    assert main(["cache", "import", target, out, "--namespace", f"{namespace}-2"]) == 0

    found = [each for each in asyncio.run(with_stock(target)) if each.namespace.startswith(namespace)]
    assert sorted(each._replace(namespace=namespace) for each in found)[::2] == sorted(items)
    assert len(found) == 14
    older = items[0].entry
    stale = items[0]._replace(entry=CacheEntry(LMResponse((Completion("old"),), Usage(), "m"), older.created - 9))
    again = [each for each in asyncio.run(with_stock(target, stale)) if each[:2] == stale[:2]]
    assert [each.entry for each in again] == [older]


def test_clear_takes_what_fits_and_asks_first(
    target: str, namespace: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = wall_time()
    kept, old, other = item(1, namespace, "gpt"), item(2, namespace, "gpt", now - 7200), item(3, namespace, "claude")
    asyncio.run(with_stock(target, kept, old, other))

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["cache", "clear", target, "--namespace", namespace]) == 1
    assert said(capsys).endswith("nothing is removed\n")
    assert held(target, namespace) == {kept.key, old.key, other.key}
    assert main(["cache", "clear", target, "--namespace", namespace, "--older-than", "1h", "--yes"]) == 0
    assert held(target, namespace) == {kept.key, other.key}
    assert main(["cache", "clear", target, "--namespace", namespace, "--model", "claude", "--yes"]) == 0
    assert held(target, namespace) == {kept.key}
    assert main(["cache", "clear", target, "--namespace", namespace, "--yes"]) == 0
    assert "1 entries removed" in said(capsys)
    assert held(target, namespace) == set()
    assert main(["cache", "clear", target, "--older-than", "soon"]) == 2


def test_a_server_that_is_not_there_is_one_line_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("redis://:s3cret-word@127.0.0.1:1", "postgresql://me:s3cret-word@127.0.0.1:1/db"):
        assert main(["cache", "stats", url]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "127.0.0.1:1" in error
        assert "s3cret" not in error


def test_what_an_app_has_stored_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        lm = ScriptedLM(lambda _: {"answer": "a"}, model="scripted/m")
        async with App(lm, cache=SqliteCache(tmp_path / "a.db", namespace="team")) as app:
            await app.run(ASK, question="q")

    asyncio.run(run())
    assert main(["cache", "stats", str(tmp_path / "a.db")]) == 0
    assert said(capsys).startswith("team  ")
