"""Passages, and what a step needs of an index."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from dspex.errors import PassageInvalid
from dspex.protocols.filters import Filter
from dspex.protocols.metadata import Metadata, checked_metadata
from dspex.protocols.model import LM, LMPool

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

    from dspex.protocols.cache import CacheMode

R = TypeVar("R")

__all__ = [
    "Abilities",
    "Embedder",
    "Index",
    "Passage",
    "RetrievalService",
    "Retriever",
    "RunStep",
    "Vector",
    "abilities_of",
    "checked_passages",
    "embedded_text",
]

Vector: TypeAlias = Sequence[float]
"""One text as numbers; all vectors of an index have the same length."""

Embedder: TypeAlias = str | LM | LMPool | Callable[[Sequence[str]], Sequence[Vector] | Awaitable[Sequence[Vector]]]
"""
Turns texts into vectors of one length, in their order: a model's name or ``LM``, which is asked through the App's LM
client (with its cache, limits and budgets), or any function, async or blocking.
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """
    A piece of text found by a retriever; a model is shown ``title | text``.

    Attributes:
        text: The text itself.
        title: The document it is from.
        score: The score by which it fits the query; higher is better, comparable within one search only.
        id: Its key in its index. A passage that is added without one gets a digest of its content.
        metadata: Names and values by which it can be filtered: texts, numbers, true, false, null, and lists of these.

    Raises:
        PassageInvalid: The metadata is of another form, has more than 64 names or takes more than 16 KiB as JSON.
    """

    text: str
    title: str = ""
    score: float = 0.0
    id: str = ""
    metadata: Metadata = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.metadata or not isinstance(self.metadata, dict):
            object.__setattr__(self, "metadata", checked_metadata(self.metadata))

    def __str__(self) -> str:
        return f"{self.title} | {self.text}" if self.title else self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Leave empty metadata out of what models and files are told."""
        schema: Any = handler(source)

        def without_nothing(passage: Passage, write: Callable[[Passage], dict[str, object]]) -> dict[str, object]:
            fields = write(passage)
            if not fields.get("metadata"):
                fields.pop("metadata", None)
            return fields

        schema["serialization"] = {"type": "function-wrap", "function": without_nothing}
        made: CoreSchema = schema
        return made


def checked_passages(passages: Sequence[Passage], first: int = 1) -> list[Passage]:
    """
    Return passages as an index keeps them: with ids, without scores, all texts with a UTF-8 form, each id once.

    Of several with the same id the last one stays, at the place of the first: adding is writing over.

    Args:
        passages: The passages to add.
        first: The number of the first one, for the message of an error.

    Raises:
        PassageInvalid: One is not a passage, or holds text that has no UTF-8 form; the message says which.
    """
    kept: dict[str, Passage] = {}
    for number, passage in enumerate(passages, first):
        if not isinstance(passage, Passage):
            raise PassageInvalid(f"passage {number} is of type {type(passage).__name__}: expected Passage")
        texts = (passage.title, passage.text, passage.id)
        if not all(isinstance(each, str) for each in texts):
            raise PassageInvalid(f"passage {number} has a title, text or id that is not a str")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as error:
            raise PassageInvalid(f"passage {number} ({passage.title!r:.60}) holds text without a UTF-8 form") from error
        identity = passage.id or _digest(passage)
        is_kept = identity is passage.id and not passage.score
        kept[identity] = passage if is_kept else replace(passage, id=identity, score=0.0)
    return list(kept.values())


def embedded_text(passage: Passage) -> str:
    """Return the text of which a passage's vector is made: the title stands on a line of its own above the text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _digest(passage: Passage) -> str:
    content = [passage.title, passage.text, dict(passage.metadata)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@runtime_checkable
class Retriever(Protocol):
    """
    The least that an index has, as a user brings it: ``search`` and ``close``, each of them async or blocking.

    Blocking methods are called in a worker thread, one call at a time; async ones on the App's loop, in a task of the
    index's actor, several at a time. ``Index`` says what else an index may have.
    """

    def search(self, query: str, k: int, /) -> Sequence[Passage] | Awaitable[Sequence[Passage]]:
        """Return the ``k`` best passages, best first; raise RetrievalError when the index cannot be searched."""
        ...

    def close(self) -> object:
        """Give back files and memory; called once, from any thread."""
        ...


@runtime_checkable
class Index(Protocol):
    """
    A retriever that is changed in place, and searched with filters; each method is async or blocking.

    Any of these may be missing in a retriever of a user's: ``abilities_of`` finds out, and asking for it is
    RetrieverLacks. An attribute ``version`` (a text, or a method that returns one) that is another one after every
    change of what a search finds lets results be cached.
    """

    def search(
        self, query: str, k: int, filter: Filter | None = None
    ) -> Sequence[Passage] | Awaitable[Sequence[Passage]]:
        """
        Return the ``k`` best of the passages that the filter fits, best first; fewer only when fewer fit the query.

        Raises:
            RetrievalError: The index cannot be searched.
        """
        ...

    def add(self, passages: Sequence[Passage]) -> object:
        """
        Add passages; one whose id is there already takes its place. All of them are added, or none.

        Raises:
            PassageInvalid: One of them cannot be kept; nothing was changed.
            RetrievalError: The index cannot be written; nothing was changed.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int | Awaitable[int]:
        """Remove passages by id and return how many there were; an unknown id is none. Raises as ``add``."""
        ...

    def close(self) -> object:
        """Give back files and memory; called once, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Abilities:
    """
    The operations of a retriever.

    Attributes:
        filters: ``search`` takes ``filter``.
        adds: It has ``add``.
        deletes: It has ``delete``.
        embeds: It has an ``embedder``, and ``search`` takes ``vector``, ``add`` takes ``vectors``: the vectors are
            made outside, within the request that asks, so that they are counted there.
        writes_apart: Its attribute ``writes_apart`` is true: ``add`` and ``delete`` may be called in one thread while
            another one searches.
        awaits: The names of its methods that are async.
    """

    filters: bool
    adds: bool
    deletes: bool
    embeds: bool
    writes_apart: bool
    awaits: frozenset[str]


def abilities_of(retriever: object) -> Abilities:
    """Find out what a retriever can do, by its methods and their parameters; nothing of it is called."""
    search = getattr(retriever, "search", None)
    return Abilities(
        filters=_takes(search, "filter"),
        adds=callable(getattr(retriever, "add", None)),
        deletes=callable(getattr(retriever, "delete", None)),
        embeds=getattr(retriever, "embedder", None) is not None and _takes(search, "vector"),
        writes_apart=getattr(retriever, "writes_apart", False) is True,
        awaits=frozenset(
            name
            for name in ("search", "add", "delete", "close")
            if inspect.iscoroutinefunction(getattr(retriever, name, None))
        ),
    )


def _takes(function: object, parameter: str) -> bool:
    if not callable(function):
        return False
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function of an extension that does not tell
        return False
    return parameter in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


class RunStep(Protocol):
    """Runs one call to the world as a step of a request: a step that dies under it is repeated."""

    async def __call__(self, name: str, work: Callable[[], Awaitable[R]], /) -> R:
        """Return what ``work`` returns; ``name`` is that of the index."""
        ...


@runtime_checkable
class RetrievalService(Protocol):
    """The retrieval room's interface for a step; ``retriever`` is a name in the App, None its default one."""

    async def search(
        self,
        retriever: str | None,
        query: str,
        k: int,
        deadline: float,
        filter: Filter | None = None,
        *,
        step: RunStep = ...,
        cache: CacheMode = ...,
    ) -> tuple[Passage, ...]:
        """
        Search until ``deadline`` (runtime clock seconds), each index in a step of its own.

        Raises:
            ConfigError: The App has no such retriever.
            RetrieverLacks: It cannot filter, and a filter was given.
            RetrievalError: It failed.
        """
        ...

    async def add(
        self,
        retriever: str | None,
        passages: Sequence[Passage],
        deadline: float,
        *,
        vectors: Sequence[Vector] | None = None,
    ) -> None:
        """
        Add passages, or write over those with the same ids; raises as ``search``, and PassageInvalid.

        ``vectors`` are those of the passages, for an index that takes them; a model's are asked in the running request
        where they are not given, which raises what the model raises.
        """
        ...

    async def delete(self, retriever: str | None, ids: Sequence[str], deadline: float) -> int:
        """Remove passages by id and return how many there were; raises as ``search``."""
        ...
