"""Types reach the editor: what is right passes both checkers, what is wrong is an error on its line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED = (HERE / "accepted.py").read_text()
REFUSED = (HERE / "refused.txt").read_text()
EXPECTED = [number for number, line in enumerate(REFUSED.splitlines(), 1) if line.endswith("# error")]

basedpyright = shutil.which("basedpyright", path=str(Path(sys.executable).parent)) or shutil.which("basedpyright")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "accepted.py").write_text(ACCEPTED)
    (tmp_path / "refused.py").write_text(REFUSED)
    settings = {
        "typeCheckingMode": "standard",
        "include": ["."],
        "extraPaths": [str(ROOT / "src")],
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    return tmp_path


def test_mypy_accepts_and_refuses_what_it_should(project: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    command += [
        "--config-file",
        str(ROOT / "pyproject.toml"),
        str(project / "accepted.py"),
        str(project / "refused.py"),
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    found = re.findall(r"^\S*?(\w+)\.py:(\d+): error: ", done.stdout, re.MULTILINE)
    assert [("refused", number) for number in EXPECTED] == [(name, int(number)) for name, number in found], done.stdout


@pytest.mark.skipif(basedpyright is None, reason="basedpyright is not installed")
def test_basedpyright_accepts_and_refuses_what_it_should(project: Path) -> None:
    assert basedpyright is not None

    done = subprocess.run(
        [basedpyright, "--outputjson", "--pythonpath", sys.executable, "-p", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )

    problems = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    found = sorted({(Path(each["file"]).stem, each["range"]["start"]["line"] + 1) for each in problems})
    assert [("refused", number) for number in EXPECTED] == found, json.dumps(problems, indent=1)
