"""The model as one GGUF file in the user's cache folder, put together from packages that each hold a part."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dspex.app.demo.local.wheels import Pin, digest_of, download, install, read_lock
from dspex.app.demo.show import Show
from dspex.errors import ConfigError

__all__ = ["MODEL", "SERVER", "ModelFile", "assemble", "check_gguf", "fetch_model", "fetch_server", "missing"]

_HERE: Final = Path(__file__).parent
_CHUNK: Final = 1 << 20
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelFile:
    """
    A model that the package index has in parts.

    Attributes:
        title: Its usual name.
        name: The file's name.
        digest: Its SHA-256.
        size: Its bytes.
        parts: The packages, each with one part ``data/partNN.bin``, in order.
    """

    title: str
    name: str
    digest: str
    size: int
    parts: tuple[Pin, ...]


MODEL: Final = ModelFile(
    title="Qwen2.5-Coder-0.5B-Instruct, 4 bit",
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    digest="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size=491_400_064,
    parts=read_lock(_HERE / "model.lock"),
)
"""A small chat model (Apache-2.0)."""

SERVER: Final = read_lock(_HERE / "server.lock")
"""llama.cpp's server as a Python package."""

_SERVER_SIZE: Final = 127 * _MB


def missing(model: ModelFile, cache: Path, *, with_model: bool) -> str:
    """
    Say what would have to be fetched, and how much that is; nothing where all is there.

    Raises:
        ConfigError: There is no room for it.
    """
    wanted, needed = [], 0
    if not _server_folder(cache).is_dir():
        wanted.append("a llama.cpp server (34 MB)")
        needed += 2 * _SERVER_SIZE
    if with_model and not (cache / model.name).is_file():
        wanted.append(f"{model.title} ({model.size // _MB} MB)")
        there = sum(wheel.stat().st_size for wheel in (cache / "parts").glob("*.whl"))
        needed += 2 * model.size - there  # the parts and the whole
    if not wanted:
        return ""
    folder = next(each for each in (cache, *cache.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"{cache}: what is fetched needs {needed // _MB:,} MB for a while, and {free // _MB:,} MB are free; "
            "XDG_CACHE_HOME names another folder"
        )
    return f"This fetches {' and '.join(wanted)} from the package index, once, and keeps it in {cache}."


def fetch_server(cache: Path, show: Show) -> Path:
    """
    Return the folder with the server's package; fetched at the first call.

    Raises:
        ConfigError: It cannot be had, or cannot be kept.
    """
    try:
        with show.progress("installing the server", None):
            return install(SERVER, _server_folder(cache))
    except OSError as error:
        raise _cannot_keep(cache, error) from error


def fetch_model(model: ModelFile, cache: Path, show: Show) -> Path:
    """
    Return the model's file; what is there and has the right digest is not fetched again, neither are its parts.

    Raises:
        ConfigError: It cannot be had or kept, or is not what it should be.
    """
    target = cache / model.name
    try:
        if target.is_file():
            with show.progress("checking the model", None):
                if digest_of(target) == model.digest:
                    return target
            show.say(f"{target} has not the digest that it should have: it is fetched again")
            target.unlink()
        cache.mkdir(parents=True, exist_ok=True)
        parts = cache / "parts"
        with show.progress("fetching the model", len(model.parts)) as tell:
            wheels = []
            for pin in model.parts:
                wheels.append(download(pin, parts))
                tell(len(wheels))
        with show.progress("putting it together", model.size // _MB) as tell:
            assemble(model, wheels, target, lambda done: tell(done // _MB))
        shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise _cannot_keep(cache, error) from error
    return target


def assemble(model: ModelFile, wheels: Sequence[Path], target: Path, tell: Callable[[int], object]) -> None:
    """
    Write the parts one behind the other, and put the file in its place when its digest is right.

    Raises:
        ConfigError: A wheel has no part, or the whole has another digest; nothing is kept.
        OSError: The file cannot be written.
    """
    digest, done = hashlib.sha256(), 0
    handle, fresh = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}-")
    try:
        with os.fdopen(handle, "wb") as out:
            for wheel in wheels:
                for data in _part(wheel):
                    out.write(data)
                    digest.update(data)
                    done += len(data)
                    tell(done)
        if digest.hexdigest() != model.digest:
            raise ConfigError(
                f"the model has the digest {digest.hexdigest()}, not {model.digest}: nothing of it is kept"
            )
        os.replace(fresh, target)  # noqa: PTH105 - the pair of mkstemp
    finally:
        Path(fresh).unlink(missing_ok=True)


def _part(wheel: Path) -> Iterator[bytes]:
    """Give the bytes of the one data file in a wheel, which is read as the zip archive that it is."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".bin") and "/data/" in name]
            if len(names) != 1:
                raise ConfigError(f"{wheel.name} holds {len(names)} parts of a model, not one")
            with archive.open(names[0]) as part:
                while data := part.read(_CHUNK):
                    yield data
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{wheel.name}: {error}") from error


def check_gguf(path: Path) -> Path:
    """
    Return the file that the user has named, as a whole path.

    Raises:
        ConfigError: It is not there, cannot be read, or is not a GGUF file.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigError(f"--gguf {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise ConfigError(f"--gguf {path}: this is not a GGUF file")
    return path.resolve()


def _server_folder(cache: Path) -> Path:
    return cache / f"server-{SERVER[0].version}"


def _cannot_keep(cache: Path, error: OSError) -> ConfigError:
    return ConfigError(f"the model cannot be kept in {cache}: {error.strerror}; XDG_CACHE_HOME names another folder")
