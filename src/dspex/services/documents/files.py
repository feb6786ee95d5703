"""The files below the paths that a user names; nothing is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dspex.errors import DocumentError
from dspex.services.documents.limits import kind_of

__all__ = ["FoundFile", "find_files"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """
    A file, or the reason why there is none to read.

    Attributes:
        path: The file.
        kind: Its kind; empty for one in a folder whose name tells none.
        bad: The reason; None for a file that can be read as far as anybody can tell without opening it.
    """

    path: Path
    kind: str = ""
    bad: DocumentError | None = None


def find_files(paths: Sequence[Path], kind: str = "") -> Iterator[FoundFile]:
    """
    Yield the files in the order of the paths, those of a folder by name, folders within it included.

    Names that begin with a dot are left out of folders. A link in a folder is followed where it stays inside the
    folder, and is bad where it leads out of it, to a folder above itself, or nowhere.

    Args:
        paths: Files and folders.
        kind: The kind of files that are named themselves, where their names do not tell it.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield _bad(path, _told(error))
            continue
        if stat.S_ISDIR(mode):
            yield from _below(path)
        elif not stat.S_ISREG(mode):
            yield _bad(path, "it is neither a file nor a folder")
        elif kind or kind_of(path.suffix):
            yield FoundFile(path, kind or kind_of(path.suffix))
        else:
            yield _bad(path, f"nobody knows how to read files that end in {path.suffix!r}: kind= says how")


def _below(root: Path) -> Iterator[FoundFile]:
    top = os.path.realpath(root)
    left: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(root, (_identity(root),))]
    while left:
        folder, above = left.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield _bad(folder, _told(error))
            continue
        folders: list[tuple[Path, tuple[tuple[int, int], ...]]] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            try:
                if entry.is_symlink() and not _is_inside(os.path.realpath(path, strict=True), top):
                    yield _bad(path, "it is a link that leads out of the folder: name its target itself")
                elif entry.is_dir():
                    identity = _identity(path)
                    if identity in above:
                        yield _bad(path, "it is a link to a folder that it is in")
                    else:
                        folders.append((path, (*above, identity)))
                elif entry.is_file():
                    yield FoundFile(path, kind_of(path.suffix))
                else:
                    yield _bad(path, "it is neither a file nor a folder")
            except OSError as error:
                yield _bad(path, _told(error))
        left.extend(reversed(folders))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _is_inside(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)


def _bad(path: Path, problem: str) -> FoundFile:
    return FoundFile(path, bad=DocumentError(path, problem))


def _told(error: OSError) -> str:
    return f"it cannot be read: {error.strerror or error}"
