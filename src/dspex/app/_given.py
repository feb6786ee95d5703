"""Check the arguments of an App's constructor and bring them into one form."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dspex.app.config import read_key
from dspex.errors import ConfigError
from dspex.protocols.cache import CacheStore
from dspex.protocols.local import LocalLM
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.money import Budget, Price
from dspex.protocols.retrieval import Retriever
from dspex.protocols.wire import Provider
from dspex.services.cache.sqlite import SqliteCache
from dspex.services.lm.gateway import refuse_local
from dspex.services.lm.providers import resolve_endpoint
from dspex.services.money.prices import PriceTable
from dspex.services.retrieval.composites import Composite, RetrieverLike
from dspex.services.retrieval.sqlite_index import SqliteIndex
from dspex.services.retrieval.vector_index import VectorIndex
from dspex.services.shared.address import Shared, is_shared_url, shared_of

__all__ = ["cache_of", "checked_drain", "checked_ttl", "money_of", "records_of", "retrievers_of"]


def records_of(
    default: LMChoice, named: Mapping[str, str | LM | LMPool], providers: Mapping[str, Provider]
) -> dict[str, LM | LMPool]:
    """
    Return the records of models by name, the default one as ``default``.

    Raises:
        ConfigError: One is not a model, or its provider is unknown.
    """
    given = {**({"default": default} if default is not None else {}), **named}
    records: dict[str, LM | LMPool] = {}
    for name, lm in given.items():
        try:
            record = LM(lm) if isinstance(lm, str) else lm
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if not isinstance(record, (LM, LMPool)):
            raise ConfigError(f"{lm!r:.60} is not a model: give 'provider/model', an LM or an LMPool")
        for each in record.members if isinstance(record, LMPool) else [record]:
            if isinstance(record, LMPool):
                refuse_local(each)
            if isinstance(each, LM) and not isinstance(each, LocalLM):
                resolve_endpoint(each, providers, read_key)
        records[name] = record
    return records


class Money(NamedTuple):
    """Prices, the budget of one tree, and those by day and month."""

    prices: Mapping[str, Price]
    budget: Budget | None
    periods: tuple[Budget, ...]


def money_of(prices: Mapping[str, Price] | None, budget: Budget | Sequence[Budget] | None) -> Money:
    """Return prices and budgets; ConfigError when one makes no sense."""
    given = () if budget is None else tuple(budget) if isinstance(budget, (list, tuple)) else (budget,)
    for each in given:
        if not isinstance(each, Budget):
            raise ConfigError(f"budget={each!r:.60} must be a Budget, such as Budget(usd=0.50)")
    kinds = [each.per for each in given]
    if len(kinds) != len(set(kinds)):
        raise ConfigError("an App has one budget for each: itself, per='day' and per='month'")
    PriceTable(prices)
    whole = next((each for each in given if each.per is None), None)
    return Money(prices or {}, whole, tuple(each for each in given if each.per is not None))


def retrievers_of(
    default: RetrieverLike | None, named: Mapping[str, RetrieverLike]
) -> tuple[dict[str, RetrieverOpener], dict[str, Composite]]:
    """
    Return what opens each index, and the retrievers that are made of others, by name; the default one is ``default``.

    A part of a composite is an index under the name ``composite/part``.
    """
    openers: dict[str, RetrieverOpener] = {}
    composites: dict[str, Composite] = {}
    left = list(({"default": default} if default is not None else {}).items()) + list(named.items())
    for name, given in left:  # which grows
        if name in openers or name in composites:
            raise ConfigError(f"there are two retrievers of the name {name!r}")
        if isinstance(given, Composite):
            composites[name] = given
            left += [(f"{name}/{part}", each) for part, each in given.parts.items()]
        else:
            openers[name] = RetrieverOpener(given)
    return openers, composites


class RetrieverOpener:
    """Opens one retriever, and says which it is."""

    __slots__ = ("_given",)

    def __init__(self, given: str | os.PathLike[str] | Retriever) -> None:
        self._given = given

    @property
    def embedder(self) -> object:
        """The maker of the retriever's vectors, where it has them."""
        return getattr(self._given, "embedder", None)

    def __call__(self) -> Retriever:
        return _open_retriever(self._given)

    def __str__(self) -> str:
        """Return the index file and its size: an index that was built again has another one."""
        if not isinstance(self._given, (str, os.PathLike)):
            kind = type(self._given)
            return f"{kind.__module__}:{kind.__qualname__}"
        path = Path(self._given)
        size = f"{path.stat().st_size} bytes" if path.is_file() else "no file"
        return f"{path.name}, {size}"


def _open_retriever(given: str | os.PathLike[str] | Retriever) -> Retriever:
    """Open an index, in the thread that will search it; a path that holds none is an error now."""
    if not isinstance(given, (str, os.PathLike)):
        if not isinstance(given, Retriever):
            raise ConfigError(f"retriever={given!r:.60} is neither a path nor has search() and close()")
        retriever = given
    else:
        retriever = SqliteIndex(given)
    if isinstance(retriever, (SqliteIndex, VectorIndex)):
        retriever.check()
    return retriever


def cache_of(cache: str | Path | CacheStore | Shared | None) -> CacheStore | Shared | bool:
    """Return where answers are kept: False nowhere, True in memory, a record on disk or in a shared store too."""
    if cache is None:
        return False
    if isinstance(cache, Shared) or is_shared_url(cache):
        found = shared_of(cache)  # type: ignore[arg-type]  # no path is such an address
        assert found is not None
        return found
    if isinstance(cache, (str, os.PathLike)):  # a Path has an ``open``, too
        if isinstance(cache, str) and "://" in cache:
            raise ConfigError(
                "cache= is at an address of another kind than redis://…, unix://…, postgresql://… or sqlite:///…"
            )
        return True if cache == "memory" else SqliteCache(cache)
    if isinstance(cache, type) or not isinstance(cache, CacheStore):
        raise ConfigError(
            f"cache={cache!r:.60} is none of: None, 'memory', a path, the address of a store, a store with open()"
        )
    return cache


def checked_ttl(ttl: float | None) -> float | None:
    """Return the seconds for which an answer is served; None where it does not grow old."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl < math.inf:
        raise ConfigError(f"cache_ttl={ttl!r:.60} must be a positive number of seconds, or None")
    return float(ttl)


def checked_drain(drain: float) -> float:
    """Return the seconds that running requests have when the App closes."""
    if isinstance(drain, bool) or not isinstance(drain, (int, float)) or not 0 <= drain < math.inf:
        raise ConfigError(f"drain={drain!r:.60} must be a number of seconds from 0 on")
    return float(drain)
