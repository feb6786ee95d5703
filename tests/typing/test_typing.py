"""Types reach the editor: what is right passes both checkers, what is wrong is an error on its line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ACCEPTED = (HERE / "accepted.py").read_text()
REFUSED = (HERE / "refused.txt").read_text()
EXPECTED = [number for number, line in enumerate(REFUSED.splitlines(), 1) if line.endswith("# error")]

basedpyright = shutil.which("basedpyright", path=str(Path(sys.executable).parent)) or shutil.which("basedpyright")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a user gets from ``pip install``: the wheel, unpacked where nothing else is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    assert (folder / "site" / "dspex" / "py.typed").is_file()
    return folder / "site"


@pytest.fixture(params=["source", pytest.param("wheel", marks=pytest.mark.slow)])
def installed(request: pytest.FixtureRequest) -> Path:
    """Where the checkers find dspex."""
    found: Path = request.getfixturevalue("wheel") if request.param == "wheel" else ROOT / "src"
    return found


@pytest.fixture
def project(tmp_path: Path, installed: Path) -> Path:
    (tmp_path / "accepted.py").write_text(ACCEPTED)
    (tmp_path / "refused.py").write_text(REFUSED)
    settings = {
        "typeCheckingMode": "standard",
        "include": ["."],
        "extraPaths": [str(installed)],
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    return tmp_path


def test_mypy_accepts_and_refuses_what_it_should(project: Path, installed: Path) -> None:
    settings = tmp_settings(project)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    command += ["--config-file", str(settings), str(project / "accepted.py"), str(project / "refused.py")]
    where = {**os.environ, "MYPYPATH": str(installed)}

    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=where)

    told = re.findall(r"^\S*?(\w+)\.py:(\d+): error: ", done.stdout, re.MULTILINE)
    found = list(dict.fromkeys(told))  # of a call with overloads, mypy may say two things
    assert [("refused", number) for number in EXPECTED] == [(name, int(number)) for name, number in found], done.stdout


def tmp_settings(project: Path) -> Path:
    """Return a user's configuration: as for anything installed, errors inside the package are not theirs."""
    path = project / "mypy.ini"
    cache = ROOT / ".mypy_cache" / "typing"
    path.write_text(f"[mypy]\npython_version = 3.11\ncache_dir = {cache}\n[mypy-dspex.*]\nfollow_imports = silent\n")
    return path


@pytest.mark.slow
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
