"""``dspex eval`` and ``dspex compile`` as a user runs them, on the simulator."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.app.cli import main
from dspex.simulator import SimulatorThread

PROGRAM = """
import asyncio

import dspex


class Echo(dspex.Module):
    def __init__(self) -> None:
        self.never = dspex.Predict("word -> answer")

    async def forward(self, word: str) -> dspex.Prediction:
        if word == "bad":
            raise ArithmeticError("bad is refused")
        if word == "waits":
            print("waiting", flush=True)
            await asyncio.get_running_loop().create_future()
        return dspex.Prediction(answer=word)


ask = dspex.Predict("question -> answer")
few = dspex.BootstrapFewShot(dspex.exact_match(), max_bootstrapped_demos=1)


def under_headers(example, prediction):
    return dspex.details(prediction).messages[-1].text.startswith("[[ ## question ## ]]")


def right(example, prediction):
    return dspex.Score(example.answer == prediction.answer, "seen")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tries.py").write_text(PROGRAM)
    write(tmp_path / "rows.jsonl", [{"word": "a", "answer": "a"}, {"word": "b", "answer": "a"}])
    yield tmp_path
    sys.modules.pop("tries", None)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_eval_prints_the_score_and_saves_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "tries:Echo", "rows.jsonl", "--metric", "tries:right", "--save", "out.csv"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("Echo: 0.500 (95 % ")
    assert err == ""
    with (folder / "out.csv").open(newline="") as file:
        assert [
            (json.loads(row["example"])["word"], row["score"], row["feedback"]) for row in csv.DictReader(file)
        ] == [
            ("a", "1.0", "seen"),
            ("b", "0.0", "seen"),
        ]


def test_the_form_of_prompts_is_a_flag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it the App's default holds."""
    write(folder / "rows.jsonl", [{"question": "Who?", "answer": ""}])
    with SimulatorThread() as simulator:
        asked = ["eval", "tries:ask", "rows.jsonl", "--lm", "openai/rules-1", "--api-base", simulator.url]
        for flags, score in (["--adapter", "chat"], "1.000"), ([], "0.000"):
            main([*asked, "--metric", "tries:under_headers", *flags])
            assert capsys.readouterr().out.startswith(f"Predict: {score}")


def test_failed_rows_are_exit_code_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a score where few enough failed, without one elsewhere; the rows are saved in both cases."""
    write(folder / "rows.jsonl", [{"word": "a", "answer": "a"}, {"word": "bad", "answer": "a"}])

    assert main(["eval", "tries:Echo", "rows.jsonl", "--max-failed", "0.5", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["score"], found["rows"], found["failed"], found["usd"]) == (1.0, 2, 1, "0")

    assert main(["eval", "tries:Echo", "rows.jsonl", "--save", "out.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Echo: no score on 1 of 2 rows")
    assert "bad is refused" in err
    assert err.count("\n") == 1
    assert [json.loads(line)["error"] for line in (folder / "out.jsonl").read_text().splitlines()] == [
        "",
        "ArithmeticError: bad is refused",
    ]


def test_a_mark_of_the_encoding_is_not_a_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some editors begin a file with one."""
    (folder / "marked.jsonl").write_bytes(b"\xef\xbb\xbf" + (folder / "rows.jsonl").read_bytes())
    assert main(["eval", "tries:Echo", "marked.jsonl"]) == 0
    assert "on 2 of 2 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval", "tries:Echo", "absent.jsonl"], "there is no file absent.jsonl"),
        (["eval", "tries:Echo", "."], ". is a folder; name a file in it"),
        (["eval", "tries:Echo", "/dev/null"], "/dev/null is not a file"),
        (
            ["eval", "tries:Echo", "rows.jsonl", "--field", "anser"],
            "the field 'anser' to compare; they have word, answer",
        ),
        (["eval", "tries:Echo", "rows.jsonl", "--load", "."], ". is a folder; name a file in it"),
        (
            ["compile", "tries:ask", "rows.jsonl", "out.json", "--field", "x"],
            "they have word, answer: name it with --field",
        ),
        (["eval", "tries:Echo", "empty.jsonl"], "empty.jsonl has no rows"),
        (["eval", "tries:Echo", "bad.jsonl"], "bad.jsonl, line 2 is not JSON"),
        (["eval", "tries:Echo", "list.jsonl"], "list.jsonl, line 1 is not a JSON object"),
        (["eval", "tries:Echo", "bytes.jsonl"], "bytes.jsonl is not UTF-8"),
        (["eval", "tries:Echo", "rows.jsonl", "--metric", "good"], "exact_match or f1"),
        (["eval", "tries:Echo", "rows.jsonl", "--metric", "tries:few"], "metric"),
        (["eval", "tries:Echo", "rows.jsonl", "--save", "rows.txt"], "must end in .csv or .jsonl"),
        (["eval", "tries:Echo", "rows.jsonl", "--save", "rows.jsonl"], "is there already"),
        (["eval", "tries:Echo", "rows.jsonl", "--save", "rows.jsonl/rows.jsonl"], "it cannot be written"),
        (["eval", "tries:Echo", "rows.jsonl", "--usd", "much"], "--usd much is not an amount"),
        (["eval", "tries:Echo", "rows.jsonl", "--api-base", "http://x"], "--api-base needs --lm"),
        (["eval", "tries:Echo", "rows.jsonl", "--adapter", "yaml"], "--adapter yaml: expected one of auto, chat, json"),
        (["compile", "tries:Echo", "rows.jsonl", "rows.jsonl"], "is there already"),
        (["compile", "tries:Echo", "rows.jsonl", "out.json", "--optimizer", "Best"], "not one of BetterTogether"),
        (["compile", "tries:Echo", "rows.jsonl", "out.json", "--optimizer", "tries:right"], "is not an optimizer"),
        (["compile", "tries:Echo", "rows.jsonl", "out.json", "--optimizer", "BetterTogether"], "name an instance"),
    ],
)
def test_a_wrong_command_is_one_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.jsonl").write_text("\n")
    (folder / "bad.jsonl").write_text('{"word": "a", "answer": "a"}\n{"word": \n')
    (folder / "list.jsonl").write_text("[1]\n")
    (folder / "bytes.jsonl").write_bytes(b'{"word": "\xff"}\n')
    before = (folder / "rows.jsonl").read_text()

    code = main(arguments)

    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said in err
    assert (folder / "rows.jsonl").read_text() == before


def test_compile_writes_a_program_that_eval_loads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again asks nothing twice; the job is there to look at."""
    write(folder / "rows.jsonl", [{"question": f"What is {n}?", "answer": f"What is {n}?"} for n in range(4)])
    with SimulatorThread() as simulator:
        asked = ["--lm", "openai/rules-1", "--api-base", simulator.url]
        command = ["compile", "tries:ask", "rows.jsonl", "best.json", "--optimizer", "tries:few", *asked]
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert out.endswith("best.json holds the program\n")
        assert err == (
            "job Predict-BootstrapFewShot-best: `dspex jobs show Predict-BootstrapFewShot-best` tells how it stands\n"
        )
        asked_before = len(simulator.arrivals())
        assert main(command) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert main([*command, "--overwrite"]) == 0
        assert len(simulator.arrivals()) == asked_before
        assert main(["jobs", "list"]) == 0
        assert "Predict-BootstrapFewShot-best  finished" in capsys.readouterr().out
        assert main(["eval", "tries:ask", "rows.jsonl", "--load", "best.json", *asked]) in (0, 1)
        assert capsys.readouterr().out.startswith("Predict: ")


def test_ctrl_c_in_the_middle_is_exit_code_130(folder: Path) -> None:
    """Without a traceback, and nothing half-written."""
    write(folder / "rows.jsonl", [{"word": "waits", "answer": "a"}])
    command = [sys.executable, "-m", "dspex", "eval", "tries:Echo", "rows.jsonl", "--save", "out.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)

    assert (running.returncode, said) == (130, "")
    assert not (folder / "out.csv").exists()
