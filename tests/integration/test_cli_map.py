"""``dspex map`` as a user runs it: files in, files out, errors on one line, Ctrl-C and on again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import asyncio

import dspex


class Double(dspex.Module):
    def __init__(self) -> None:
        pass

    async def forward(self, value: int) -> int:
        if value == 13:
            raise ArithmeticError("13 is refused")
        if value == 99:
            print("waiting", flush=True)
            await asyncio.get_running_loop().create_future()
        return value * 2


class Needs(dspex.Module):
    def __init__(self, what: str) -> None:
        self.what = what

    async def forward(self) -> None: ...


needs = Needs("this")
no_program = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "programs.py").write_text(PROGRAM)
    write(tmp_path / "in.jsonl", [{"value": number} for number in range(5)])
    return tmp_path


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dspex", "map", *arguments]


def dspex_map(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_each_line_comes_out_with_its_value(folder: Path) -> None:
    """In the order of the input, the row's own fields kept."""
    done = dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl")

    assert (done.returncode, done.stderr) == (0, "5 rows, 0 failed, 0 from the journal\n")
    assert read(folder / "out.jsonl") == [{"value": 2 * number} for number in range(5)]


def test_failed_rows_say_why_and_the_exit_code_tells(folder: Path) -> None:
    """A second start takes the rest from the journal."""
    write(folder / "in.jsonl", [{"n": "a", "value": 13}, {"n": "b", "value": 1}])
    for recorded in (0, 2):
        done = dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl", "--key", "n")
        first, second = read(folder / "out.jsonl")
        counts, reason = f"2 rows, 1 failed, {recorded} from the journal", f"{first['error']}: {first['message']}"
        assert (done.returncode, done.stderr) == (1, f"{counts}; the first: {reason}\n")
        assert second == {"n": "b", "value": 2}
        assert "13 is refused" in first["message"]


def test_interrupted_run_goes_on_where_it_was(folder: Path) -> None:
    """Ctrl-C is exit code 130, and no finished row is run again."""
    write(folder / "in.jsonl", [{"value": 1}, {"value": 2}, {"value": 99}])
    arguments = ("programs:Double", "in.jsonl", "out.jsonl", "--max-concurrency", "1")
    with subprocess.Popen(
        command(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Traceback" not in said

    (folder / "programs.py").write_text(PROGRAM.replace("value == 99", "value == 0"))
    done = dspex_map(folder, *arguments, "--accept-changed", "source")

    assert done.stderr == "3 rows, 0 failed, 2 from the journal\n"
    assert [row["value"] for row in read(folder / "out.jsonl")] == [2, 4, 198]


@pytest.mark.parametrize("target", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_goes_on_where_the_shell_has_pointed_it(folder: Path, target: str) -> None:
    """Behind what a file holds already, in UTF-8 whatever the terminal's encoding is."""
    write(folder / "in.jsonl", [{"value": 1, "word": "naïve"}])
    kept = folder / "kept.jsonl"
    kept.write_text("before\n")
    with kept.open("a") as output:
        done = subprocess.run(
            command("programs:Double", "in.jsonl", target, "--journal", "rows.journal"),
            cwd=folder,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
    assert (done.returncode, done.stderr) == (0, "1 rows, 0 failed, 0 from the journal\n")
    before, row = kept.read_text().splitlines()
    assert before == "before"
    assert json.loads(row) == {"value": 2, "word": "naïve"}
    assert not (folder / "-").exists()


def test_program_may_be_an_instance(folder: Path) -> None:
    """A class that needs arguments is named as an instance of it."""
    write(folder / "in.jsonl", [{}])
    assert dspex_map(folder, "programs:needs", "in.jsonl", "out.jsonl").returncode == 0


REFUSED: dict[tuple[str, ...], str] = {
    ("programs", "in.jsonl", "out.jsonl"): "is not module:Program",
    ("absent:Double", "in.jsonl", "out.jsonl"): "there is no module 'absent'",
    ("programs:Absent", "in.jsonl", "out.jsonl"): "programs has no 'Absent'",
    ("programs:no_program", "in.jsonl", "out.jsonl"): "is not a program",
    ("programs:Needs", "in.jsonl", "out.jsonl"): "name an instance",
    ("programs:Double", "absent.jsonl", "out.jsonl"): "there is no file absent.jsonl",
    ("programs:Double", "-", "out.jsonl"): "- is not a file: write what it gives into one",
    ("programs:Double", "in.jsonl", "-"): "say with --journal where rows that have ended are recorded",
    ("programs:Double", "in.jsonl", "in.jsonl"): "overwrite the input",
    ("programs:Double", "bad.jsonl", "out.jsonl"): "bad.jsonl, line 2 is not JSON",
    ("programs:Double", "list.jsonl", "out.jsonl"): "line 1 is not a JSON object",
    ("programs:Double", "in.jsonl", "out.jsonl", "--lm", "nobody/model"): "'nobody'",
    ("programs:Double", "in.jsonl", "out.jsonl", "--lm", "nothing"): "is not 'provider/model'",
    ("programs:Double", "in.jsonl", "out.jsonl", "--load", "absent.json"): "absent.json",
}
EACH = """
import contextlib, io, json, sys
from dspex.app.cli import main

told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(["map", *arguments])
    told.append([code, said.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[int, str]]:
    """Exit code and words of each refused command: all of them in one process, which takes a second to start."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "programs.py").write_text(PROGRAM)
    write(folder / "in.jsonl", [{"value": number} for number in range(5)])
    (folder / "bad.jsonl").write_text('{"value": 1}\n{"value": \n')
    (folder / "list.jsonl").write_text("[1]\n")
    run = [sys.executable, "-c", EACH, json.dumps(list(REFUSED))]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return {arguments: (code, said) for arguments, (code, said) in zip(REFUSED, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_the_user_has_to_put_right_is_one_line(
    arguments: tuple[str, ...], refused: dict[tuple[str, ...], tuple[int, str]]
) -> None:
    """Exit code 2, and no traceback."""
    code, said = refused[arguments]

    assert code == 2
    assert REFUSED[arguments] in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_refused_run_leaves_no_journal(folder: Path) -> None:
    """The journal of a run that went on before is its record, and stays."""
    (folder / "programs.py").write_text(PROGRAM + '\nask = dspex.Predict("value -> answer")\n')
    (folder / "theirs.jsonl").write_text("{}\n")

    for arguments in (["programs:ask", "in.jsonl", "out.jsonl"], ["programs:Double", "in.jsonl", "theirs.jsonl"]):
        assert dspex_map(folder, *arguments).returncode == 2
        assert [each.name for each in folder.iterdir() if "journal" in each.name] == []

    assert dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl").returncode == 0
    assert dspex_map(folder, "programs:ask", "in.jsonl", "out.jsonl", "--lm", "openai/m").returncode == 2
    assert (folder / "out.jsonl.journal").exists()


def test_a_changed_program_is_told_with_the_option_that_accepts_it(folder: Path) -> None:
    assert dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl").returncode == 0
    (folder / "programs.py").write_text(PROGRAM.replace("value * 2", "value * 3"))

    refused = dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl")
    option = "--accept-changed 'source programs:Double'"
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.endswith(f"where the recorded answers hold all the same: {option}\n")

    accepted = dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl", *shlex.split(option))
    assert (accepted.returncode, accepted.stderr) == (0, "5 rows, 0 failed, 5 from the journal\n")


def test_an_index_that_is_not_there_names_the_command_that_makes_it(folder: Path) -> None:
    done = dspex_map(folder, "programs:Double", "in.jsonl", "out.jsonl", "--retriever", "none.db")

    told = "dspex: there is no index at none.db: make one with `dspex index build INDEX FILES`\n"
    assert (done.returncode, done.stderr) == (2, told)
    assert not (folder / "out.jsonl").exists()
