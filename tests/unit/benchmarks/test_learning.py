"""The benchmark of optimizers on a real model: rows, meter, a sitting of ours, and the report; a simulator answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.learning.__main__ import CELLS, main
from benchmarks.learning.estimate import at_most, estimate
from benchmarks.learning.meter import Meter
from benchmarks.learning.report import markdown
from benchmarks.learning.rows import Sizes, read_lesson
from benchmarks.real.relay import Exchange
from benchmarks.real.signatures import INTENTS
from dspex.simulator import SimulatorThread

SIZES = Sizes(learn=12, choose=10, hold=10)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few rows of the form that the real data have."""
    folder = tmp_path / "data"
    folder.mkdir()
    for part in ("train", "test"):
        lines = [{"text": f"{part} {intent} {at}", "intent": intent} for at in range(4) for intent in INTENTS]
        (folder / f"banking77_{part}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    sums = [{"question": f"1 + {at}?", "gold_reasoning": "add", "answer": str(1 + at)} for at in range(40)]
    (folder / "gsm8k.jsonl").write_text("".join(json.dumps(each) + "\n" for each in sums))
    return folder


@pytest.mark.parametrize("name", ["banking", "gsm8k"])
def test_no_row_is_in_two_parts(data: Path, name: str) -> None:
    """Who is judged on rows that were learnt from is judged well."""
    lesson = read_lesson(data, name, SIZES)
    parts = [[json.dumps(dict(row.inputs)) for row in part] for part in (lesson.learn, lesson.choose, lesson.hold)]

    assert [len(part) for part in parts] == [12, 10, 10]
    assert len({row for part in parts for row in part}) == 32


def test_all_sittings_are_counted(tmp_path: Path) -> None:
    """Calls and tokens of a sitting that was stopped were paid as well."""
    answer = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    for _ in range(2):
        Meter(tmp_path / "asked.jsonl").note(Exchange({}, 200, answer))

    assert Meter(tmp_path / "asked.jsonl").totals() == {"calls": 2, "tokens_in": 14, "tokens_out": 6}


def test_a_cell_is_measured_once(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second sitting asks nobody for a cell that is done."""
    words = ["--data", str(data), "--home", str(tmp_path / "home"), "--task", "banking"]
    words += ["--cell", "dspex/student", "--cell", "dspex/BootstrapFewShot", "--learn", "12", "--choose", "10"]
    with SimulatorThread() as simulator:
        words += ["--hold", "10", "--api-base", simulator.url]
        assert main(words) == 0
        asked = simulator.stats().requests["ok"]
        assert main(words) == 0
        assert simulator.stats().requests["ok"] == asked > 0
    found = json.loads((tmp_path / "home/banking/dspex-BootstrapFewShot/result.json").read_text())

    assert len(found["right"]) == 10
    assert found["calls"] > 10
    assert found["verdict"]
    assert "banking dspex/BootstrapFewShot ..." in capsys.readouterr().out


def test_what_is_left_is_told_before_it_is_paid(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(data), "--home", str(tmp_path), "--task", "banking", "--estimate", "--cell", "dspex/student"]

    assert main([*words, "--learn", "12", "--choose", "10", "--hold", "10", "--api-base", "http://127.0.0.1:9/v1"]) == 0
    assert capsys.readouterr().out.startswith("1 cells left, at most 10 calls; ")
    student = {"task": "banking", "cell": "dspex/student", "calls": 20, "sitting_calls": 10, "seconds": 36.0}
    known = [student | {"tokens_in": 190, "tokens_out": 10}]
    left = [("banking", "dspex/BootstrapFewShot")]
    assert at_most("dspex/BootstrapFewShot", SIZES) == 12 + 60 + 20
    assert (
        estimate(left, known, SIZES) == "1 cells left, at most 92 calls, some 920 tokens, 0.1 hours at the speed so far"
    )


def test_a_later_sitting_has_the_address_of_the_first(tmp_path: Path, data: Path) -> None:
    """A job is refused when its model is at another address, and a cache does not know its answers."""
    words = ["--data", str(data), "--home", str(tmp_path / "home"), "--task", "banking", "--learn", "12"]
    words += ["--choose", "10", "--hold", "10", "--cell", "dspex/BootstrapFewShot"]
    with SimulatorThread() as simulator:
        assert main([*words, "--api-base", simulator.url]) == 0
        asked = simulator.stats().requests["ok"]
        (tmp_path / "home/banking/dspex-BootstrapFewShot/result.json").unlink()  # as if it had been killed before
        assert main([*words, "--api-base", simulator.url]) == 0
        assert simulator.stats().requests["ok"] <= asked + 10  # answers that were no good are not in a cache


def test_a_cell_that_cannot_be_measured_leaves_the_others(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "banking" / "dspex-student").mkdir(parents=True)
    (home / "banking" / "dspex-student" / "cache.db").mkdir()  # not a file
    words = ["--data", str(data), "--home", str(home), "--task", "banking", "--learn", "12", "--choose", "10"]
    words += ["--cell", "dspex/student", "--cell", "dspex/BootstrapFewShot", "--hold", "10"]
    with SimulatorThread() as simulator:
        assert main([*words, "--api-base", simulator.url]) == 3
    assert (home / "banking/dspex-BootstrapFewShot/result.json").exists()
    assert "failed:" in capsys.readouterr().err


def test_missing_data_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before a model is asked."""
    assert main(["--data", str(tmp_path)]) == 2
    assert "there is no banking77_train.jsonl" in capsys.readouterr().err


def test_the_report_compares_with_the_own_student() -> None:
    """On the same rows; a cell without its student stands alone."""
    common = {"task": "gsm8k", "calls": 1200, "tokens_in": 5, "tokens_out": 6, "seconds": 120.0, "verdict": None}
    cells = [
        {**common, "cell": "dspex/student", "right": "0011"},
        {**common, "cell": "dspex/GEPA", "right": "1111", "verdict": "better by 0.5"},
        {**common, "cell": "dspy/MIPROv2", "right": "0001"},
    ]
    lines = markdown({"cells": cells}).splitlines()

    assert lines[0] == "### GSM8K, word problems"
    assert "| `dspex/GEPA` | 100 % of 4 | 51-100 | +2 -0 (p 0.5) | 1,200 | 11 | 2 | better by 0.5 |" in lines
    assert any(line.startswith("| `dspy/MIPROv2` | 25 % of 4 |") and "| - | 1,200 |" in line for line in lines)
    assert set(CELLS) >= {each["cell"] for each in cells}
