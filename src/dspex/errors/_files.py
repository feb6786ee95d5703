"""Errors about files that dspex writes and reads."""

from __future__ import annotations

import os

from dspex.errors._base import DspexError

__all__ = ["DocumentError", "FileBusy", "FileError", "FileMissing", "TargetExists"]


class FileError(DspexError, OSError):
    """
    A file cannot be written or read: the disk is full, a right is missing, a folder is in its place.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike[str], problem: object) -> None:
        self.path = os.fspath(path)
        super().__init__(f"{self.path}: {problem}")


class FileBusy(FileError):
    """Another process is writing the file; ``pid`` is its operating-system id, or None where nobody can tell."""

    def __init__(self, path: str | os.PathLike[str], pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(path, f"{who} is writing it; wait for its end, or write to another file")


class DocumentError(FileError):
    """A file cannot be made into passages: it is damaged, too large, not of its kind, or a line of it is wrong."""


class FileMissing(FileError, FileNotFoundError):
    """There is no such file."""


class TargetExists(FileError):
    """A file stands where one is to be written, and what wrote it was something else; it is untouched."""

    def __init__(self, path: str | os.PathLike[str], problem: str, advice: str = "overwrite=True") -> None:
        super().__init__(path, f"{problem}; it is left as it is. Name another file, or say {advice}")
