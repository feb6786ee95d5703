"""`make` and the environment: real pip and a made-up project, without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each makes a virtual environment or two

ROOT = Path(__file__).parents[2]
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "made-up"
version = "1.0"

[tool.dspex.locks]
small = { for = "the small things", extras = [], groups = [] }
large = { for = "the large things", extras = [], groups = [] }
"""
BACKEND = """
import pathlib, shutil, signal

def build_editable(folder, settings=None, metadata=None):
    if pathlib.Path("hold").exists():
        pathlib.Path("hold").write_text("here")  # a pipe: somebody has to read
        signal.pause()
    shutil.copy("made_up-1.0-py3-none-any.whl", folder)
    return "made_up-1.0-py3-none-any.whl"
"""


def make_wheel(folder: Path, name: str, *requires: str) -> str:
    """Write a distribution with one module, and return its line of a lock."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        f"{name}.py": "",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{about}",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "".join(f"{file},,\n" for file in files))
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Checkout:
    """A project that is installed as ours is."""

    def __init__(self, folder: Path) -> None:
        self.root, self.wheels = folder / "checkout", folder / "wheels"
        self.locks = self.root / "requirements"
        for each in (self.root, self.wheels, self.locks):
            each.mkdir()
        for name in ("find-python", "make-env", "make_env.py"):
            shutil.copy(ROOT / "requirements" / name, self.locks)
        (self.root / "pyproject.toml").write_text(PROJECT)
        (self.root / "backend.py").write_text(BACKEND)
        make_wheel(self.root, "made_up")
        # what it requires is nowhere: to install a lock is to install what stands there
        small = make_wheel(self.wheels, "first", "nowhere", "second[extra]; extra == 'more'")
        (self.locks / "small.lock").write_text(small)
        (self.locks / "large.lock").write_text(
            small + make_wheel(self.wheels, "second") + "gone==1.0 ; sys_platform == 'win32' --hash=sha256:00\n"
        )

    def command(self, lock: str) -> list[str]:
        return ["sh", str(self.locks / "make-env"), ".venv", lock]

    def environment(self, **others: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        ours = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
        return kept | ours | {"PIP_FIND_LINKS": str(self.wheels)} | others

    def install(self, lock: str, **others: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(lock),
            cwd=self.root,
            env=self.environment(**others),
            capture_output=True,
            text=True,
            check=False,
        )

    def modules(self) -> set[str]:
        """The modules that can be imported of the installed project."""
        found = (self.root / ".venv").glob("lib/python3*/site-packages/*.py")
        return {path.stem for path in found} & {"first", "second", "made_up"}

    def stamps(self) -> set[str]:
        return {path.name for path in (self.root / ".venv").glob(".[sw]*")}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.timeout(180)
def test_an_environment_grows_and_what_could_not_be_had_leaves_it_whole(checkout: Checkout) -> None:
    done = checkout.install("small")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Installing 1 packages into .venv, for the small things" in done.stdout
    assert (checkout.modules(), checkout.stamps()) == ({"first", "made_up"}, {".whole", ".stamp-small"})

    done = checkout.install("large", PIP_FIND_LINKS=os.devnull)
    assert done.returncode == 1
    assert "make: the packages of requirements/large.lock could not be installed" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert (checkout.modules(), checkout.stamps()) == ({"first", "made_up"}, {".whole", ".stamp-small"})

    done = checkout.install("large")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Making" not in done.stdout
    assert checkout.modules() == {"first", "second", "made_up"}
    assert checkout.stamps() == {".whole", ".stamp-large"}


@pytest.mark.timeout(180)
def test_a_file_that_is_not_the_locked_one_is_refused(checkout: Checkout) -> None:
    make_wheel(checkout.wheels, "first", "changed")

    done = checkout.install("small")

    assert done.returncode == 1
    assert "the index gave a file that is not the locked one" in done.stderr
    assert checkout.modules() == set()


@pytest.mark.timeout(180)
def test_an_interrupted_environment_is_made_anew(checkout: Checkout) -> None:
    """The packages are in it and the project is not."""
    os.mkfifo(checkout.root / "hold")
    with subprocess.Popen(
        checkout.command("small"),
        cwd=checkout.root,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert (checkout.root / "hold").read_text() == "here"
        os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate()
    assert (child.returncode, err) == (130, "make: interrupted; .venv is not whole and will be made anew\n")
    assert (checkout.modules(), checkout.stamps()) == ({"first"}, set())

    (checkout.root / "hold").unlink()
    done = checkout.install("small")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Making ")
    assert checkout.modules() == {"first", "made_up"}


def test_a_python_that_was_named_is_not_replaced_by_another(checkout: Checkout) -> None:
    done = checkout.install("small", PYTHON="/nowhere/python3")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "make: PYTHON=/nowhere/python3 is not a Python 3.11 or newer that runs\n"
