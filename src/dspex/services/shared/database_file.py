"""A file that is to be a SQLite database: looked at before anything in it is changed."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from dspex.errors import ConfigError

__all__ = ["check_database"]

_OURS: Final = {"cells", "entries", "responses"}
"""Tables by which a file of ours is known, of caches and of shared stores."""


def check_database(path: Path) -> None:
    """
    Read what is there; one that does not exist yet, and one that others have locked just now, are fine. Blocks.

    Raises:
        ConfigError: It is a folder, cannot be read, is not a SQLite database, or one of somebody else.
    """
    try:
        if not path.exists() or not path.stat().st_size:
            return
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: a file that processes share has a name in one")
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise ConfigError(f"{path} is not a database of dspex: name another file, or delete it")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=1.0)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.OperationalError:
        return  # locked, or of a folder that cannot be written: the store tells why it is down
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): name another file, or delete it") from error
    if names and not names & _OURS:
        told = ", ".join(sorted(map(str, names))[:3])
        raise ConfigError(f"{path} is another database, with {told}: name another file")
