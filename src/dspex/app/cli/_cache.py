"""``dspex cache``: the answers that a file, a Redis or a Postgres holds: counted, written out, read in, cleared."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TextIO, TypeVar

import typer

from dspex._clock import day_text, wall_time
from dspex._files import make_private
from dspex.errors import ConfigError, FileMissing, TargetExists
from dspex.protocols.printable import printable
from dspex.services.cache.shared_stock import open_shared_stock
from dspex.services.cache.sqlite_stock import SqliteStock
from dspex.services.cache.stock import (
    HEADER,
    VERSION,
    Stock,
    StockChoice,
    StockItem,
    StockStats,
    header_of,
    item_of,
    line_of,
)
from dspex.services.shared.address import Shared, is_shared_url, shared_of

__all__ = ["clear", "export", "import_", "seconds_of", "stats"]

R = TypeVar("R")

_AT_ONCE: Final = 200
_PATIENCE: Final = 10.0
"""Seconds that one operation on a shared store may take: nobody waits for an answer here."""


class _Chosen(NamedTuple):
    """The flags by which entries are chosen; ``older_than`` in seconds."""

    namespace: str | None
    model: str | None
    older_than: float | None

    def choice(self) -> StockChoice:
        before = None if self.older_than is None else wall_time() - self.older_than
        return StockChoice(self.namespace, self.model, before)


def stats(target: str, *, as_json: bool) -> int:
    """Print the entries of a store by namespace and model; returns the exit code."""

    async def work(stock: Stock) -> list[StockStats]:
        return list(await stock.stats())

    found = _with(target, work)
    if as_json:
        rows = [
            {
                "namespace": each.namespace,
                "model": each.model,
                "entries": each.entries,
                "bytes": each.bytes,
                "oldest": each.oldest,
                "newest": each.newest,
            }
            for each in found
        ]
        sys.stdout.write("".join(json.dumps(row) + "\n" for row in rows))
        return 0
    for each in found:
        where = f"{each.namespace}  {printable(each.model) or '(no model)'}"
        age = f"{day_text(each.oldest)} to {day_text(each.newest)}"
        sys.stdout.write(f"{where}: {each.entries} entries, {_size(each.bytes)}, made {age}\n")
    entries, size = sum(each.entries for each in found), sum(each.bytes for each in found)
    sys.stdout.write(f"{_shown(target)}: {entries} entries, {_size(size)}\n")
    return 0


def export(target: str, path: Path, *, namespace: str | None, model: str | None, overwrite: bool) -> int:
    """Write entries to a file, one JSON object a line; returns the exit code: 1 when some could not be read."""
    if path.exists() and not overwrite:
        raise TargetExists(path, "it is there already", "--overwrite")
    choice = StockChoice(namespace, model)

    async def work(stock: Stock) -> Counter[str]:
        counts: Counter[str] = Counter()
        partial = path.with_name(f"{path.name}.partial")
        make_private(partial)  # answers are nobody else's business
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(HEADER) + "\n")
            async for each in stock.items(choice):
                if isinstance(each, StockItem):
                    file.write(line_of(each) + "\n")
                    counts["written"] += 1
                else:
                    counts[each] += 1
        partial.replace(path)
        return counts

    return _told(f"{_shown(target)} to {path}", _with(target, work), good=("written", "expired"))


def import_(target: str, path: Path, *, namespace: str | None) -> int:
    """Read entries from a file into a store; returns the exit code: 1 when some lines could not be read."""
    if not path.is_file():
        raise FileMissing(path, "there is no such file")

    async def work(stock: Stock) -> Counter[str]:
        counts: Counter[str] = Counter()
        with path.open(encoding="utf-8", errors="replace") as file:
            _check_header(file.readline(), path)
            for batch in _batches(_items(file, namespace, counts)):
                added = await stock.add(batch)
                counts["added"] += added
                counts["there already"] += len(batch) - added
        return counts

    found = _with(target, work, make=True)
    return _told(f"{path} to {_shown(target)}", found, good=("added", "there already", "expired"))


def clear(target: str, *, namespace: str | None, model: str | None, older_than: float | None, yes: bool) -> int:
    """Remove entries from a store, after asking; returns the exit code."""
    chosen = _Chosen(namespace, model, older_than)
    _check_there(target)
    if not yes:
        which = "ALL answers" if chosen == _Chosen(None, None, None) else "the answers that fit"
        if not typer.confirm(f"Remove {which} from {_shown(target)}? Asked again, they cost again"):
            sys.stdout.write("nothing is removed\n")
            return 1
    gone = _with(target, lambda stock: stock.clear(chosen.choice()))
    sys.stdout.write(f"{_shown(target)}: {gone} entries removed\n")
    return 0


def seconds_of(text: str) -> float:
    """Return the seconds of ``90s``, ``30m``, ``12h`` or ``7d``; ConfigError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", text)
    if found is None:
        raise ConfigError(f"--older-than {text:.40} is not an age such as 90s, 30m, 12h or 7d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]


def _with(target: str, work: Callable[[Stock], Awaitable[R]], *, make: bool = False) -> R:
    """Open the store, do the work, close it."""
    if not make:
        _check_there(target)

    async def run() -> R:
        stock = await _open(target)
        try:
            return await work(stock)
        finally:
            await stock.aclose()

    return asyncio.run(run())


def _check_there(target: str) -> None:
    shared = Shared(target) if is_shared_url(target) else None
    path = Path(target) if shared is None else shared.path if shared.kind == "sqlite" else None
    if path is not None and not path.is_file():  # else it would be made
        raise ConfigError(f"there is no cache {target}: give a file, redis://… or postgresql://…")


async def _open(target: str) -> Stock:
    if is_shared_url(target):
        shared = shared_of(Shared(target, timeout=_PATIENCE))
        assert shared is not None
        return await open_shared_stock(shared)
    return SqliteStock(Path(target))


def _shown(target: str) -> str:
    return Shared(target).address if is_shared_url(target) else target


def _check_header(line: str, path: Path) -> None:
    version = header_of(line)
    if version is None:
        raise ConfigError(f"{path} is not a file of `dspex cache export`: its first line says otherwise")
    if version > VERSION:
        raise ConfigError(f"{path} was written by a newer dspex (version {version}): bring this one up to date")


def _items(file: TextIO, namespace: str | None, counts: Counter[str]) -> Iterator[StockItem]:
    for line in file:
        found = item_of(line, wall_time())
        if isinstance(found, StockItem):
            yield found if namespace is None else found._replace(namespace=namespace)
        else:
            counts[found] += 1


def _batches(items: Iterable[StockItem]) -> Iterator[list[StockItem]]:
    batch: dict[tuple[str, str], StockItem] = {}  # a key that comes twice in one statement would be an error
    for each in items:
        batch[each.namespace, each.key] = each
        if len(batch) >= _AT_ONCE:
            yield list(batch.values())
            batch = {}
    if batch:
        yield list(batch.values())


def _told(what: str, counts: Counter[str], *, good: tuple[str, ...]) -> int:
    words = ", ".join(f"{counts[name]} {name}" for name in (good[0], *sorted(set(counts) - {good[0]})))
    sys.stdout.write(f"{what}: {words}\n")
    return 1 if set(counts) - set(good) else 0


def _size(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
