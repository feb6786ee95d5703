"""``dspex map`` and the files it writes: nothing is lost to a refusal, a second process, a kill or a slip."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex._files import FileLock
from dspex.app.cli import main
from dspex.app.cli._pauses import tell_pauses
from dspex.errors import FileBusy
from dspex.simulator import Simulator

PROGRAM = """
import sys

import dspex


class Double(dspex.Module):
    def __init__(self) -> None:
        pass

    async def forward(self, value: int) -> int:
        return value * 2


class Waits(Double):
    async def forward(self, value: int) -> int:
        if value == 2:
            print("waiting", flush=True)
            sys.stdin.readline()
        return value * 2


class Asks(dspex.Module):
    def __init__(self) -> None:
        self.answer = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> object:
        return await self.answer(question=question)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "map_files.py").write_text(PROGRAM)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"value": n, "question": f"q{n}"}) + "\n" for n in range(4)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("map_files", None)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["map", *arguments])
    return code, capsys.readouterr().err


def values(path: Path) -> list[Any]:
    return [json.loads(line)["value"] for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()} - {"__pycache__", "map_files.py", "in.jsonl"}


def test_a_file_of_somebody_else_is_left_alone_until_told_to_overwrite(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was run for it either; what this run has written itself is replaced without a word."""
    out = folder / "out.jsonl"
    out.write_text("a year's work\n")

    code, said = run(capsys, "map_files:Double", "in.jsonl", "out.jsonl")

    assert (code, out.read_text()) == (2, "a year's work\n")
    assert said == (
        "dspex: out.jsonl: it exists, and was not written by this run; it is left as it is. "
        "Name another file, or say --overwrite\n"
    )
    assert run(capsys, "map_files:Double", "in.jsonl", "out.jsonl", "--overwrite") == (
        0,
        "4 rows, 0 failed, 0 from the journal\n",
    )
    assert values(out) == [0, 2, 4, 6]
    assert run(capsys, "map_files:Double", "in.jsonl", "out.jsonl")[0] == 0
    out.write_text(out.read_text() + "edited by hand\n")
    assert run(capsys, "map_files:Double", "in.jsonl", "out.jsonl")[0] == 2
    assert names(folder) == {"out.jsonl", "out.jsonl.journal"}


@pytest.mark.parametrize("wrong", ["lm", "key", "provider"])
async def test_a_slip_in_the_setup_stops_at_once_and_the_right_command_then_works(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    """No row is recorded as failed, and the journal belongs to the command that works."""
    flags = {
        "lm": ((), "map_files:Asks asks the default model: name one with --lm"),
        "key": (("--lm", "openai/gpt-5-mini"), "OPENAI_API_KEY"),
        "provider": (("--lm", "nobody/gpt"), "nobody"),
    }[wrong]
    async with Simulator() as simulator:
        code, said = await asyncio.to_thread(run, capsys, "map_files:Asks", "in.jsonl", "out.jsonl", *flags[0])

        assert code == 2
        assert flags[1] in said
        assert not (folder / "out.jsonl").exists()
        lm = ("--lm", "vllm/m", "--api-base", simulator.url)
        assert await asyncio.to_thread(run, capsys, "map_files:Asks", "in.jsonl", "out.jsonl", *lm) == (
            0,
            "4 rows, 0 failed, 0 from the journal\n",
        )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"value": "\xff"}', "line 5 is not JSON: it is not UTF-8"),
        (b"[" * 100_000, "line 5 is not JSON: it is nested too deep"),
        (b"1" * 5_000, "line 5 is not JSON"),
    ],
)
def test_a_damaged_line_is_found_before_anything_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str], line: bytes, said: str
) -> None:
    with (folder / "in.jsonl").open("ab") as file:
        file.write(line + b"\n")

    code, text = run(capsys, "map_files:Double", "in.jsonl", "out.jsonl")

    assert code == 2
    assert said in text
    assert names(folder) == set()


def test_a_second_process_is_refused_and_a_kill_leaves_the_old_file_whole(folder: Path) -> None:
    """The first is killed in the middle: what stood there stands there, and a third run goes on."""
    out = folder / "out.jsonl"
    out.write_text("old\n")
    command = [sys.executable, "-m", "dspex", "map", "map_files:Waits", "in.jsonl", "out.jsonl"]
    command += ["--overwrite", "--max-concurrency", "1"]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "waiting\n"
        second = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2
        assert f"out.jsonl: process {first.pid} is writing it" in second.stderr
        assert values(folder / "out.jsonl.part")[0] == 0
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=20)
    assert out.read_text() == "old\n"

    third = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, input="\n")

    assert third.stderr == "4 rows, 0 failed, 2 from the journal\n"
    assert values(out) == [0, 2, 4, 6]
    assert names(folder) == {"out.jsonl", "out.jsonl.journal"}


def test_a_full_disk_is_one_line_and_leaves_the_old_file_whole(folder: Path) -> None:
    """A limit of the file size stands for the disk: the journal, or the output, can be written no further."""
    (folder / "out.jsonl").write_text("old\n")
    long = {"value": 1, "text": "x" * 3_000_000}
    (folder / "in.jsonl").write_text(json.dumps(long) + "\n")
    command = [sys.executable, "-m", "dspex", "map", "map_files:Double", "in.jsonl", "out.jsonl", "--overwrite"]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limited,
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "dspex: out.jsonl: it cannot be written: File too large"
    assert (folder / "out.jsonl").read_text() == "old\n"
    assert names(folder) == {"out.jsonl", "out.jsonl.journal"}


def test_missing_folders_are_made_and_other_flags_are_never_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "map_files:Double", "in.jsonl", "new/er/out.jsonl")[0] == 0
    assert values(folder / "new/er/out.jsonl") == [0, 2, 4, 6]
    code, said = run(capsys, "map_files:Double", "in.jsonl", "out.jsonl", "--cache", "out.jsonl")
    assert (code, "would overwrite out.jsonl, which another flag names" in said) == (2, True)
    assert run(capsys, "map_files:Double", "in.jsonl", "new")[0] == 2


def test_output_has_the_rights_of_the_users_own_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal is its owner's alone; the output is a file like others that the user makes."""
    before = os.umask(0o022)
    try:
        assert run(capsys, "map_files:Double", "in.jsonl", "out.jsonl")[0] == 0
    finally:
        os.umask(before)
    assert (folder / "out.jsonl").stat().st_mode & 0o777 == 0o644
    assert (folder / "out.jsonl.journal").stat().st_mode & 0o777 == 0o600


def test_streams_are_written_line_by_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe cannot be replaced; where ended rows go has to be said."""
    os.mkfifo(folder / "pipe")
    code, said = run(capsys, "map_files:Double", "in.jsonl", "pipe")
    assert (code, "--journal" in said) == (2, True)
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(capsys, "map_files:Double", "in.jsonl", "pipe", "--journal", "j.db")[0] == 0
        assert [json.loads(line)["value"] for line in os.read(reader, 10_000).splitlines()] == [0, 2, 4, 6]
    finally:
        os.close(reader)


def test_a_lock_is_let_go_of_and_another_part_of_the_process_is_refused(folder: Path) -> None:
    with FileLock(folder / "file"), pytest.raises(FileBusy) as refused, FileLock(folder / "file"):
        pass
    assert refused.value.pid == os.getpid()
    with FileLock(folder / "file"):
        pass
    assert names(folder) == set()


def test_a_search_does_not_begin_while_another_writes_the_same_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two would each pay for a search, and one of the programs would be lost."""
    target = folder / "best.json"
    with FileLock(target):
        code = main(["compile", "map_files:Asks", "in.jsonl", str(target), "--field", "question"])
    assert code == 2
    assert "best.json" in capsys.readouterr().err
    assert not target.exists()


def test_a_wait_for_a_provider_that_is_down_is_the_user_s(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing to wait for, rows fail at once, and are run again the next time."""
    down = ("--lm", "openai/m", "--api-base", "http://127.0.0.1:9/v1", "--deadline", "5")
    code, said = run(capsys, "map_files:Asks", "in.jsonl", "out.jsonl", *down, "--wait-out", "0")
    assert code == 1
    assert "4 rows, 4 failed, 0 from the journal; the first: " in said
    assert said.endswith("http://127.0.0.1:9 refused the connection: is the server running, and is api_base right?\n")
    code, said = run(capsys, "map_files:Asks", "in.jsonl", "out.jsonl", *down, "--wait-out", "-1")
    assert (code, said.count("\n")) == (2, 1)


def test_a_pause_is_told_once_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is silent for minutes looks as if it hung."""
    app = dspex.App()
    tell_pauses(app)
    for delay in (0.5, 1.0):
        error = dspex.LMError("http://h refused\nthe connection")
        app.telemetry.emit("dspex.rows.pause", {"delay": delay}, {"rows": "map", "error": error})
    app.telemetry.emit("dspex.rows.go", {}, {"rows": "map"})
    assert capsys.readouterr().err == (
        "dspex: waiting for the provider (Ctrl-C ends it, nothing is lost): http://h refused the connection\n"
        "dspex: the provider answers again\n"
    )


@pytest.mark.parametrize("answered", [False, True])
async def test_a_server_that_says_nothing_is_named(capsys: pytest.CaptureFixture[str], answered: bool) -> None:
    """Once, and not where something has come of a question."""
    app = dspex.App()
    tell_pauses(app, silent_for=0.01)
    facts = {"server": "h:80"}
    for _ in range(2):
        app.telemetry.emit("dspex.lm.attempt.start", {}, facts)
    if answered:
        app.telemetry.emit("dspex.lm.first_token", {}, facts)
    fired = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, fired.set_result, None)  # behind the other timer
    await fired
    assert capsys.readouterr().err == ("" if answered else "dspex: h:80 has not answered a question for 0.01 s\n")
