"""An index that a command line names: its kind is seen in the file, and its embedder, too."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Literal

from dspex.app.cli._model import named_model
from dspex.errors import ConfigError
from dspex.protocols.retrieval import Embedder
from dspex.services.retrieval.hashing import HashingEmbedder
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.services.retrieval.vector_index import VectorIndex

__all__ = ["AnyIndex", "kind_of", "named_index", "open_index"]

AnyIndex = SqliteIndex | VectorIndex
Kind = Literal["words", "vectors", "none", "other"]

_KINDS: dict[bytes, Kind] = {b"DSPX": "words", b"DSPV": "vectors"}
_HASHING = re.compile(r"hashing(?::(\d{1,6}))?|HashingEmbedder\((\d{1,6})\)")


def kind_of(index: Path) -> Kind:
    """
    Return the kind of an index; ``none`` where there is no file, or an empty one, ``other`` for other files.

    Raises:
        ConfigError: It is a folder.
    """
    if not index.exists():
        return "none"
    if index.is_dir():
        raise ConfigError(f"{index} is a folder; name a file in it")
    with index.open("rb") as file:
        head = file.read(72)
    if not head:
        return "none"
    return _KINDS.get(head[68:72], "other") if head[:16] == b"SQLite format 3\0" else "other"


def named_index(index: Path, embedder: str | None, api_base: str | None) -> AnyIndex:
    """
    Return the index at a path, be it there or not.

    Args:
        index: The file.
        embedder: ``hashing``, ``hashing:DIMENSIONS`` or ``provider/model``; None for that of the file.
        api_base: The address of another server that speaks the model's protocol.

    Raises:
        ConfigError: The embedder cannot be named, there is an index of words, or it is a folder.
    """
    kind = kind_of(index)
    if embedder is None and kind != "vectors":
        if api_base is not None:
            raise ConfigError("--api-base needs --embedder to know which model to ask there")
        return SqliteIndex(index)
    name = embedder or _made_with(index)
    if not name:
        raise ConfigError(f"{index} was made with a function, and does not say which: --embedder names a model")
    return VectorIndex(index, _embedder(name, api_base))


def open_index(index: Path, embedder: str | None = None, api_base: str | None = None) -> AnyIndex:
    """Return an index that is there, as ``named_index``; ConfigError when there is none."""
    if not index.exists():
        raise ConfigError(f"there is no index {index}: `dspex index build {index} FILES` makes one")
    if embedder is not None and kind_of(index) == "words":
        raise ConfigError(f"{index} is an index of words: --embedder is for one of vectors")
    return named_index(index, embedder, api_base)


def _made_with(index: Path) -> str:
    with closing(VectorIndex(index, "")) as known:
        return known.made_with


def _embedder(name: str, api_base: str | None) -> Embedder:
    if hashing := _HASHING.fullmatch(name):
        if api_base is not None:
            raise ConfigError(f"--api-base is for a model, and {name} is not one")
        digits = hashing[1] or hashing[2]
        try:
            return HashingEmbedder(int(digits)) if digits else HashingEmbedder()
        except ValueError as error:
            raise ConfigError(f"--embedder {name}: {error}") from error
    return named_model(name, api_base=api_base)
