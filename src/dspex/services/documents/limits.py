"""The bounds of reading files that somebody else has written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dspex.errors import ConfigError

__all__ = ["KINDS", "PassageSizes", "ReadLimits", "kind_of"]

KINDS: Final = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".log": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
}
"""Kinds of files by the ends of their names."""


def kind_of(suffix: str) -> str:
    """Return the kind of a file by the end of its name; empty where nobody knows it."""
    return KINDS.get(suffix.lower(), "")


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """
    The bounds of one file; beyond them it is a bad file.

    Attributes:
        bytes: Of a whole file, and of all text that comes out of one; JSON Lines may be longer.
        line: Bytes of one line of JSON Lines.
        seconds: Seconds in which a file is read and split.
        memory: Bytes of address space of the process that reads files, where the system can hold it to them.
    """

    bytes: int = 50_000_000
    line: int = 5_000_000
    seconds: float = 60.0
    memory: int = 2_000_000_000

    def __post_init__(self) -> None:
        for name in ("bytes", "line", "seconds", "memory"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f"{name}={value!r} must be a positive number")


@dataclass(frozen=True, slots=True)
class PassageSizes:
    """
    The length of passages, in characters.

    Attributes:
        least: Text is gathered until a passage has so many.
        most: No passage has more.
        overlap: So many, at most, are repeated at the beginning of the next passage of the same section.
    """

    least: int = 400
    most: int = 1_200
    overlap: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.most and 0 <= self.overlap < self.least):
            raise ConfigError(
                f"passages of {self.least} to {self.most} characters, {self.overlap} of them repeated: expected "
                f"1 <= least <= most and 0 <= overlap < least"
            )
