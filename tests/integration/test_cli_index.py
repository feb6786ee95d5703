"""``dspex index``: files into an index, searched, changed and looked at from a shell."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex import Passage, SqliteIndex
from dspex.app.cli import main
from dspex.optimizers.control import JobFolder
from dspex.retrieval import HashingEmbedder, VectorIndex
from dspex.simulator import SimulatorThread

Run = tuple[int, str, str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few files, and the shell in it."""
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "docs"
    docs.mkdir()
    rows = [
        {"text": "The heron waits.", "id": "h", "year": 2020},
        {"text": "The swift sleeps.", "id": "s", "year": 2021},
    ]
    (docs / "birds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def dspex(capsys: pytest.CaptureFixture[str], *arguments: str) -> Run:
    code = main(["index", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_files_are_indexed_searched_changed_and_counted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    built = dspex(capsys, "build", "birds.db", "docs")
    assert built[:2] == (0, "2 passages read: 2 added, 0 unchanged; the index holds 2 passages\n")
    assert built[2] == "job index-birds: `dspex jobs show index-birds` tells how it stands\n"

    code, out, _ = dspex(capsys, "search", "birds.db", "who waits", "--json")
    assert (code, json.loads(out)["id"], json.loads(out)["metadata"]) == (
        0,
        "h",
        {"source": "docs/birds.jsonl", "year": 2020},
    )
    code, out, _ = dspex(capsys, "search", "birds.db", "the", "--where", "year=2021")
    assert (code, "swift" in out, "heron" in out, "docs/birds.jsonl" in out) == (0, True, False, True)
    assert dspex(capsys, "search", "birds.db", "nobody")[:2] == (1, "nothing found\n")

    (folder / "more.jsonl").write_text('{"text": "The wren sings.", "id": "w"}\n')
    assert "1 added" in dspex(capsys, "add", "birds.db", "more.jsonl")[1]
    assert dspex(capsys, "delete", "birds.db", "h", "none")[:2] == (1, "1 of 2 passages removed\n")
    code, out, _ = dspex(capsys, "stats", "birds.db", "--json")
    assert (code, json.loads(out)["passages"]) == (0, 2)
    assert dspex(capsys, "stats", "birds.db")[1].startswith("birds.db: 2 passages, ")
    code = main(["jobs", "list"])
    assert (code, capsys.readouterr().out) == (0, "index-birds  finished     1 passages, 0.000000 USD\n")
    assert main(["jobs", "show", "index-birds"]) == 0
    assert "  into birds.db, begun " in capsys.readouterr().out


def test_what_is_left_out_is_told_and_is_exit_code_one(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "docs" / "bad.jsonl").write_text("no json\n")
    (folder / "docs" / "x.bin").write_text("")

    code, out, err = dspex(capsys, "build", "birds.db", "docs")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("dspex: docs/bad.jsonl: line 1: ")
    assert not (folder / "birds.db").exists()

    code, out, err = dspex(capsys, "build", "birds.db", "docs", "--skip-bad")
    assert (code, out) == (1, "2 passages read: 2 added, 0 unchanged, 1 not read; the index holds 2 passages\n")
    assert "dspex: not read: docs/bad.jsonl: line 1" in err
    assert "dspex: left out, of no kind that is known: docs/x.bin\n" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "notes.txt", "docs"], "notes.txt: it is not an index; it is left as it is. Name another file"),
        (["build", "docs", "docs"], "docs is a folder"),
        (["build", "birds.db", "none"], "none: it cannot be read: No such file or directory"),
        (["build", "birds.db", "docs", "--most", "10"], "passages of 400 to 10 characters"),
        (["search", "none.db", "x"], "there is no index none.db: `dspex index build none.db FILES` makes one"),
        (["search", "notes.txt", "x"], "notes.txt cannot be read as an index"),
        (["search", "empty.db", "x"], "empty.db is not an index made by `dspex index build INDEX FILES`"),
        (["stats", "none.db"], "there is no index none.db"),
        (["search", "docs", "x"], "docs is a folder; name a file in it"),
        (["stats", "docs"], "docs is a folder; name a file in it"),
    ],
)
def test_what_is_wrong_is_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], told: str
) -> None:
    (folder / "notes.txt").write_text("my notes, and nothing else: " * 10)
    (folder / "empty.db").touch()

    code, out, err = dspex(capsys, *arguments)

    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
    assert (folder / "notes.txt").read_text().startswith("my notes")


def test_overwrite_replaces_another_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "notes.txt").write_text("my notes")
    (folder / "bad.jsonl").write_text("no json")

    assert dspex(capsys, "build", "notes.txt", "bad.jsonl", "--overwrite")[0] == 2
    assert (folder / "notes.txt").read_text() == "my notes"
    assert dspex(capsys, "build", "notes.txt", "docs", "--overwrite")[0] == 0
    assert dspex(capsys, "search", "notes.txt", "heron")[0] == 0


def test_condition_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    dspex(capsys, "build", "birds.db", "docs")

    assert (
        dspex(capsys, "search", "birds.db", "the", "--where", "year")[2] == "dspex: --where year: expected NAME=VALUE\n"
    )


@pytest.mark.slow
def test_ctrl_c_leaves_what_the_next_start_goes_on_with(folder: Path) -> None:
    """A real process, stopped when its first passages are written; the index comes whole or not at all."""
    count = 20_000
    rows = (json.dumps({"text": f"Bird {number} of many.", "id": str(number)}) + "\n" for number in range(count))
    (folder / "docs" / "birds.jsonl").write_text("".join(rows))
    command = [sys.executable, "-m", "dspex", "index", "build", "birds.db", "docs"]
    jobs = JobFolder(folder / ".dspex" / "jobs")
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("job index-birds: ")
        while not jobs.show("index-birds").passages:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert not (folder / "birds.db").exists()
    assert jobs.show("index-birds").status == "interrupted"

    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)

    added, unchanged = map(int, re.findall(r"(\d+) (?:added|unchanged)", done.stdout))
    assert unchanged >= 64
    assert (
        done.stdout
        == f"{count} passages read: {added} added, {unchanged} unchanged; the index holds {count} passages\n"
    )
    assert added + unchanged == count


# --- vectors --------------------------------------------------------------------------------------------------


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorThread]:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with SimulatorThread() as running:
        yield running


def test_an_index_of_vectors_knows_its_embedder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    built = dspex(capsys, "build", "birds.db", "docs", "--embedder", "hashing:64")
    assert built[:2] == (0, "2 passages read: 2 added, 0 unchanged, 2 embedded; the index holds 2 passages\n")

    assert json.loads(dspex(capsys, "search", "birds.db", "the swift sleeps", "-k", "1", "--json")[1])["id"] == "s"
    (folder / "more.jsonl").write_text('{"text": "The wren sings.", "id": "w"}\n')
    assert "1 added" in dspex(capsys, "add", "birds.db", "more.jsonl")[1]
    assert dspex(capsys, "delete", "birds.db", "h")[:2] == (0, "1 of 1 passages removed\n")
    told = json.loads(dspex(capsys, "stats", "birds.db", "--json")[1])
    assert (told["passages"], told["embedder"], told["dimensions"]) == (2, "HashingEmbedder(64)", 64)
    assert ": 2 passages, 64 numbers each by HashingEmbedder(64), " in dspex(capsys, "stats", "birds.db")[1]
    assert "3 passages" not in dspex(capsys, "build", "birds.db", "docs")[1]  # by its own embedder again
    assert json.loads(dspex(capsys, "stats", "birds.db", "--json")[1])["embedder"] == "HashingEmbedder(64)"


def test_a_model_embeds_within_a_budget(capsys: pytest.CaptureFixture[str], folder: Path, sim: SimulatorThread) -> None:
    """Nobody is asked for more than may be spent."""
    known = ("--embedder", "openai/text-embedding-3-small")
    code, out, err = dspex(capsys, "build", "birds.db", "docs", *known, "--usd", "0.00000001")
    assert (code, out) == (2, "")
    assert "may spend 1E-8 USD" in err.splitlines()[-1]
    assert not (folder / "birds.db").exists()
    model = (*known, "--api-base", sim.url)
    assert (
        "the price of openai/text-embedding-3-small is unknown"
        in dspex(capsys, "build", "birds.db", "docs", *model, "--usd", "1")[2]
    )

    assert "2 embedded" in dspex(capsys, "build", "birds.db", "docs", *model)[1]
    asked = sum(sim.stats().arrivals.values())
    assert dspex(capsys, "build", "birds.db", "docs", *model)[0] == 0  # nothing has changed
    assert sum(sim.stats().arrivals.values()) == asked

    code, out, _ = dspex(capsys, "search", "birds.db", "a swift", "-k", "1", "--api-base", sim.url, "--json")
    assert (code, json.loads(out)["id"]) == (0, "s")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["build", "words.db", "docs", "--embedder", "hashing"], "words.db: it is an index of words"),
        (["add", "words.db", "docs", "--embedder", "hashing"], "words.db: it is an index of words"),
        (["build", "new.db", "docs", "--embedder", "small"], "'small'"),
        (["build", "new.db", "docs", "--embedder", "hashing:3"], "dimensions=3: expected 16 or more"),
        (["build", "new.db", "docs", "--api-base", "http://x"], "--api-base needs --embedder"),
        (["add", "vectors.db", "docs", "--embedder", "hashing:32"], "made with the embedder HashingEmbedder(64)"),
        (["search", "function.db", "x"], "function.db was made with a function, and does not say which"),
    ],
)
def test_an_embedder_that_does_not_fit_is_told(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], told: str
) -> None:
    passages = [Passage("one", id="1")]
    SqliteIndex.build(folder / "words.db", passages).close()
    VectorIndex.build(folder / "vectors.db", passages, HashingEmbedder(64)).close()
    VectorIndex.build(folder / "function.db", passages, HashingEmbedder(64).__call__).close()

    code, out, err = dspex(capsys, *arguments)

    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]


def test_overwrite_makes_vectors_of_words(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    SqliteIndex.build(folder / "birds.db", [Passage("one", id="1")]).close()

    assert dspex(capsys, "build", "birds.db", "docs", "--embedder", "hashing", "--overwrite")[0] == 0
    assert json.loads(dspex(capsys, "stats", "birds.db", "--json")[1])["embedder"] == "HashingEmbedder(512)"
