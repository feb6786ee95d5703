"""The index that a job writes: a file, or an object of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dspex.errors import ConfigError
from dspex.protocols.retrieval import Index
from dspex.services.retrieval.sqlite_index import SqliteIndex

__all__ = ["IndexTarget", "target_of"]


@dataclass(frozen=True, slots=True)
class IndexTarget:
    """
    An index to be written.

    Attributes:
        open: Returns it, in the thread that writes it.
        name: Its path, or its class.
        file: The file it is in; None where it is in none, or does not tell.
        is_ours: True where whoever opens it closes it; an object of the user's stays open.
    """

    open: Callable[[], Index]
    name: str
    file: Path | None
    is_ours: bool


def target_of(into: str | os.PathLike[str] | Index) -> IndexTarget:
    """
    Return what the user means: a path is that of a SqliteIndex.

    Raises:
        ConfigError: It is neither a path nor an index.
    """
    if isinstance(into, (str, os.PathLike)):
        path = Path(into)
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file in it")
        return IndexTarget(lambda: SqliteIndex(path), str(path), path, is_ours=True)
    if isinstance(into, type) or not isinstance(into, Index):
        raise ConfigError(f"{into!r:.60} is neither a path nor has search(), add(), delete() and close()")
    index = into
    file = getattr(index, "path", None)
    own = Path(file) if isinstance(file, (str, os.PathLike)) else None
    return IndexTarget(lambda: index, str(own) if own is not None else type(index).__name__, own, is_ours=False)
