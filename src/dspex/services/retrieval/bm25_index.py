"""BM25 with all scores worked out beforehand: a folder of arrays that are mapped into memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dspex._files import FileLock, parse_json, write_private
from dspex._random import fresh_id
from dspex.errors import FileBusy, FileError, IndexDamaged, MissingExtra, RetrievalError, TargetExists
from dspex.protocols.filters import Filter, FilterLike, as_filter
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval import _passage_file as files
from dspex.services.retrieval._matrix import library
from dspex.services.retrieval._pairs import searchable
from dspex.services.retrieval._sql_filter import sql_of
from dspex.services.retrieval._stored import StoredPassages, batches_of, checked_k

__all__ = ["Bm25Index"]

_KIND: Final = files.FileKind(
    application_id=0x44535042,  # "DSPB"
    version=1,
    tables=("CREATE INDEX facts_by_value ON facts(name, kind, value, passage)",),
    maker="Bm25Index.build(path, passages)",
)
_VERSION: Final = 1
_MANIFEST: Final = "manifest.json"
_WORD: Final = re.compile(r"[^\W_]+")


class _Passages(StoredPassages[files.Writer]):
    """The passages of one generation; they never change."""

    kind = _KIND

    def fitting(self, filter: Filter) -> list[int]:
        """Return the numbers of the passages that a filter fits, in their order."""
        condition, arguments = sql_of(filter, "number", each=False)
        statement = f"SELECT number FROM passages WHERE {condition} ORDER BY number"  # noqa: S608 - values are arguments
        return [number for (number,) in self._rows(statement, arguments)]

    def of(self, best: Sequence[tuple[int, float]]) -> list[Passage]:
        """Return passages by their numbers, with scores."""
        return self._passages([number for number, _ in best], [score for _, score in best])


class Bm25Index:
    """
    A retriever over a folder made by ``Bm25Index.build``: BM25 as Lucene has it, by the library bm25s.

    All scores are worked out when the index is built, and read from files that are mapped into memory: the fastest
    search by words here, over an index that is built anew when it changes. Words are not stemmed, and a title counts as
    text. Scripts without spaces between words are searched by pairs of characters. It needs the extra ``bm25``.

    Args:
        path: The folder.

    Raises:
        MissingExtra: The extra ``bm25`` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        _library()
        self._path = Path(path)
        self._lock = threading.Lock()
        self._open: tuple[str, _Passages, Any] | None = None  # the generation, its passages, the library's index
        self._seen: tuple[int, int, int] | None = None  # the manifest that it was opened by

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        passages: Iterable[Passage],
        progress: Callable[[int], object] | None = None,
    ) -> Bm25Index:
        """
        Write an index and return it; an older one serves until the new one is whole.

        Args:
            path: The folder; it is made.
            passages: The passages to index, with ``SqliteIndex.build``'s rules for ids.
            progress: Called with the number of passages taken so far, now and then.

        Raises:
            MissingExtra: The extra ``bm25`` is not installed.
            PassageInvalid: A passage cannot be kept.
            RetrievalError: The files cannot be written.
            TargetExists: Something else than an index stands there; it is untouched.
            FileBusy: Another process is building it.
        """
        target = Path(path)
        if target.exists() and not (target.is_dir() and ((target / _MANIFEST).exists() or not any(target.iterdir()))):
            raise TargetExists(target, "it is not an index")
        generation = fresh_id("bm25")
        folder = target / generation
        try:
            with FileLock(target):
                folder.mkdir(parents=True)
                try:
                    sizes = _write(folder, passages, progress)
                    manifest = {"dspex_bm25": _VERSION, "generation": generation, "files": sizes}
                    write_private(target / _MANIFEST, json.dumps(manifest))
                except BaseException:  # whatever it is: nothing of it stays
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                for other in target.glob("bm25-*"):
                    if other.name != generation:  # whoever has it open keeps its files
                        shutil.rmtree(other, ignore_errors=True)
        except FileBusy:
            raise
        except (OSError, FileError) as error:
            raise RetrievalError(f"no index can be written to {target}: {error}") from error
        return cls(target)

    @property
    def version(self) -> str:
        """A digest of the content; raises what ``search`` raises."""
        with self._lock:
            return self._opened()[1].version

    def check(self) -> None:
        """Open the files, or raise what ``search`` would raise, early."""
        with self._lock:
            self._opened()

    def search(self, query: str, k: int, filter: FilterLike | None = None) -> Sequence[Passage]:
        """
        Return the ``k`` passages with the highest scores of those the filter fits; ties in the order of building.

        Any text is a query; a passage without any of its words is not found.

        Raises:
            RetrievalError: There is no index at the path, it cannot be read, or ``k`` is below 1.
            IndexDamaged: A file is missing, cut off, or of another format.
            FilterInvalid: The filter cannot be asked.
        """
        checked_k(k)
        asked = as_filter(filter)
        with self._lock:
            _, passages, index = self._opened()
            if index is None:
                return []
            numbers = None if asked is None else passages.fitting(asked)
            try:
                best = _best(index, _words(query), k, numbers)
            except (ValueError, IndexError, TypeError, KeyError) as error:  # arrays that do not belong together
                raise IndexDamaged(f"the index {self._path} is damaged: {error}; build it again") from error
            return passages.of(best)

    def __len__(self) -> int:
        """Return the number of passages; raises what ``search`` raises."""
        with self._lock:
            return len(self._opened()[1])

    def close(self) -> None:
        """Give back the files."""
        with self._lock:
            self._forget()

    def __repr__(self) -> str:
        return f"Bm25Index({str(self._path)!r})"

    def _opened(self) -> tuple[str, _Passages, Any]:  # of a library without types
        """Return what is open, after opening the newest generation."""
        seen = self._stamp()
        if self._open is not None and seen is not None and seen == self._seen:
            return self._open
        manifest = self._manifest()
        generation = str(manifest["generation"])
        if self._open is None or self._open[0] != generation:
            self._forget()
            folder = self._path / generation
            for name, size in manifest["files"].items():
                if not (folder / name).is_file() or (folder / name).stat().st_size != size:
                    raise IndexDamaged(f"{folder / name} is missing or cut off: build the index again")
            passages = _Passages(folder / "passages.db")
            try:
                index = None
                if len(passages):
                    index = _library().BM25.load(folder / "words", mmap=True, show_progress=False)
            except RetrievalError:
                passages.close()
                raise
            except Exception as error:  # whatever bm25s and numpy raise on a file that is not theirs
                passages.close()
                raise IndexDamaged(f"the index {self._path} is damaged: {error}; build it again") from error
            self._open = (generation, passages, index)
        self._seen = seen
        return self._open

    def _stamp(self) -> tuple[int, int, int] | None:
        """Return what tells one manifest from another; each is a new file."""
        try:
            found = (self._path / _MANIFEST).stat()
        except OSError:
            return None  # reading it says why
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _manifest(self) -> Any:  # JSON, checked here
        path = self._path / _MANIFEST
        try:
            manifest = parse_json(path.read_bytes())
        except FileNotFoundError:
            raise RetrievalError(f"there is no index at {self._path}: make one with {_KIND.maker}") from None
        except (OSError, ValueError) as error:
            raise IndexDamaged(f"{path} cannot be read: {error}; build the index again") from error
        version = manifest.get("dspex_bm25") if isinstance(manifest, dict) else None
        if version != _VERSION:
            raise IndexDamaged(
                f"{self._path} is an index of format {version}, this dspex reads {_VERSION}: build it again"
            )
        generation, sizes = manifest.get("generation"), manifest.get("files")
        if not (
            isinstance(generation, str) and re.fullmatch(r"bm25-[0-9a-f]+", generation) and isinstance(sizes, dict)
        ):
            raise IndexDamaged(f"{path} is damaged: build the index again")
        return manifest

    def _forget(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened[1].close()


def _write(folder: Path, passages: Iterable[Passage], progress: Callable[[int], object] | None) -> dict[str, int]:
    """Write the files of a generation and return their sizes by name."""
    words: list[list[str]] = []

    def write(connection: Any) -> None:  # a connection of sqlite3
        writer = files.Writer(connection)
        for batch in batches_of(passages, progress):
            for passage in batch:
                number, found = writer.put(passage), _words(f"{passage.title}\n{passage.text}")
                if number > len(words):
                    words.append(found)
                else:
                    words[number - 1] = found
        writer.finish()

    files.new_file(folder / "passages.db", _KIND, write)
    if words:
        if not any(words):
            words[0] = [""]  # the library needs one word
        with _no_thread_left():
            index = _library().BM25(method="lucene")
            index.index(words, show_progress=False)
            index.save(folder / "words", show_progress=False)
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _best(index: Any, words: list[str], k: int, numbers: list[int] | None) -> list[tuple[int, float]]:
    np = library()  # ours needs it, too
    known = index.get_tokens_ids(words)
    if not known:
        return []
    scores = index.get_scores_from_ids(known)
    places = np.flatnonzero(scores > 0.0) if numbers is None else np.asarray(numbers, np.int64) - 1
    found = scores[places]
    places, found = places[found > 0.0], found[found > 0.0]
    if k < len(found):
        worst = np.partition(found, len(found) - k)[len(found) - k]
        places, found = places[found >= worst], found[found >= worst]
    order = np.lexsort((places, -found))[:k]
    return [(int(place) + 1, float(score)) for place, score in zip(places[order], found[order], strict=True)]


def _words(text: str) -> list[str]:
    """Return the terms of a text, as ``SqliteIndex`` has them before stemming."""
    return _WORD.findall(searchable(unicodedata.normalize("NFKC", text)).lower())


@contextmanager
def _no_thread_left() -> Iterator[None]:
    """End the thread with which the library's progress bar, where there is one, watches bars that are not shown."""
    bar = getattr(_library(), "tqdm", None)
    before = getattr(bar, "monitor", None)
    try:
        yield
    finally:
        monitor = getattr(bar, "monitor", None)
        if bar is not None and monitor is not None and before is None:
            monitor.exit()
            bar.monitor = None


def _library() -> Any:  # a library without types
    try:
        import bm25s  # an extra, and 0.2 s to import
    except ImportError as error:
        raise MissingExtra("bm25", "searching with bm25s") from error
    return bm25s
