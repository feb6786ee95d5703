"""Small files of the user's account: read within bounds, and AWS's kind of them taken apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from dspex.errors import ConfigError
from dspex.protocols.wire import ReadVariable

__all__ = ["Hidden", "home_of", "ini_sections", "read_small"]

_LONGEST: Final = 2**20


class Hidden(dict[str, Any]):
    """Fields that show their names alone: who reports crashes often writes down local variables too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<fields {', '.join(self)}>"


def home_of(read: ReadVariable) -> Path | None:
    """Return the user's folder; None for a user without one."""
    found = read("HOME") or read("USERPROFILE")
    return Path(found.reveal()) if found is not None else None


def read_small(path: Path, *, missing: str | None = None) -> str:
    """
    Return the text of a small file; ``missing``, if given, for one that is not there.

    Raises:
        ConfigError: It cannot be read, is longer than 1 MiB or is not text.
    """
    problem = ""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _LONGEST:
                return file.read(_LONGEST).decode()
            problem = f"is longer than {_LONGEST} bytes"
    except FileNotFoundError:
        if missing is not None:
            return missing
        problem = "is not there"
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {type(error).__name__}"
    raise ConfigError(f"{path} {problem}")  # here, so that an error that holds the text is not its context


def ini_sections(text: str) -> dict[str, Hidden]:
    """Return the sections of a shared file of AWS: names in small letters to values; nested settings are left out."""
    sections: dict[str, Hidden] = {}
    current = Hidden()
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[" and "]" in stripped:
            name = " ".join(stripped[1 : stripped.index("]")].split())
            current = sections.setdefault(name, Hidden())
        elif line[0] not in " \t" and "=" in stripped:
            name, _, value = stripped.partition("=")
            value = value.strip()
            for mark in (" #", " ;"):
                value = value.partition(mark)[0].rstrip()
            current[name.strip().lower()] = value
    return sections
