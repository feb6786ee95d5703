"""The actor over one index: its calls run in threads or tasks of its own, and it never waits for them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

from dspex.errors import ActorExited, ConfigError, NoSuchActor, RetrievalError, RetrieverLacks
from dspex.protocols.filters import Filter
from dspex.protocols.retrieval import Abilities, Passage, Retriever, Vector, abilities_of
from dspex.runtime import From, LibraryActor, Next, NoReply, WorkerThread

__all__ = ["Add", "Delete", "OpenRetriever", "RetrieverClient", "Search", "Version"]

OpenRetriever = Callable[[], Retriever]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Search:
    """Ask for the ``k`` best passages that fit; answered by a tuple of them."""

    query: str
    k: int
    filter: Filter | None = None
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """Add passages; answered by None when they can be found."""

    passages: Sequence[Passage]
    vectors: Sequence[Vector] | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove passages by id; answered by the number that there was."""

    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Version:
    """Ask for the version of the content; answered by a text, empty where the retriever has none."""


class RetrieverClient(LibraryActor):
    """
    Opens the index in a thread of its own and answers each call from there, as a deferred reply.

    An index that may be written while it is searched (``writes_apart``) gets a second thread when it is first written.
    Async methods run on the loop, each call in a task of this actor.
    """

    def __init__(self, name: str, open_retriever: OpenRetriever) -> None:
        self._name = name
        self._open = open_retriever
        self._reading: WorkerThread
        self._writing: WorkerThread | None = None
        self._retriever: Retriever | None = None
        self._abilities: Abilities
        self._searches = 0
        self._writes = 0

    async def init(self) -> None:
        """Open the index; RetrievalError when it cannot be."""
        self._reading = self.own(WorkerThread(f"dspex-retriever-{self._name}"), self._close)
        self._retriever = await self._reading.run(self._open)
        self._abilities = abilities_of(self._retriever)

    async def handle_call(self, message: object, sender: From) -> Next:
        """Start what is asked for and answer when it is done."""
        if issubclass(type(message), Search):
            work: Callable[[], Awaitable[object]] = partial(self._search, cast("Search", message))
        elif issubclass(type(message), (Add, Delete)):
            work = partial(self._write, cast("Add | Delete", message))
        elif issubclass(type(message), Version):
            work = self._version
        else:
            return self.refuse(message, sender)
        self.spawn_task(self._answer, work, sender, label=type(message).__name__.lower())
        return NoReply()

    def describe(self) -> str:
        """Tell how many searches were answered, and how many changes made."""
        return f"{self._searches} searches" + (f", {self._writes} changes" if self._writes else "")

    async def _answer(self, work: Callable[[], Awaitable[object]], sender: From) -> None:
        try:
            sender.reply(await work())
        except Exception as error:  # noqa: BLE001 - whatever a user's retriever raises is the caller's answer
            sender.fail(_as_retrieval_error(self._name, error))

    async def _search(self, asked: Search) -> tuple[Passage, ...]:
        started = self.runtime.clock.now()
        more: dict[str, object] = {}
        if asked.filter is not None:
            if not self._abilities.filters:
                raise self._lacks("filter", "search() has no parameter filter")
            more["filter"] = asked.filter
        if asked.vector is not None:
            more["vector"] = asked.vector
        search = partial(self._opened().search, asked.query, asked.k, **more)
        found = tuple(cast("Sequence[Passage]", await self._run("search", search, self._reading)))
        for each in found:
            if not isinstance(each, Passage):
                raise RetrievalError(f"retriever {self._name!r} found a {type(each).__name__}, expected Passages")
        self._searches += 1
        if self.runtime.telemetry.active:
            measurements = {"duration": self.runtime.clock.now() - started, "passages": float(len(found))}
            self.runtime.telemetry.emit("dspex.retriever.search.stop", measurements, {"retriever": self._name})
        return found

    async def _version(self) -> str:
        def read() -> object:
            found = getattr(self._retriever, "version", None)
            return found() if callable(found) else found

        version = await self._run("version", read, self._reading)
        return version if isinstance(version, str) else ""

    async def _write(self, asked: Add | Delete) -> int | None:
        started = self.runtime.clock.now()
        retriever = self._opened()
        if isinstance(asked, Add):
            operation, size = "add", len(asked.passages)
            if not self._abilities.adds:
                raise self._lacks(operation, "it has no method add()")
            more = {} if asked.vectors is None else {"vectors": asked.vectors}
            work = partial(retriever.add, asked.passages, **more)  # type: ignore[attr-defined]  # its abilities say so
        else:
            operation, size = "delete", len(asked.ids)
            if not self._abilities.deletes:
                raise self._lacks(operation, "it has no method delete()")
            work = partial(retriever.delete, asked.ids)  # type: ignore[attr-defined]  # its abilities say so
        done = await self._run(operation, work, self._thread_of_writes())
        self._writes += 1
        if self.runtime.telemetry.active:
            measurements = {"duration": self.runtime.clock.now() - started, "passages": float(size)}
            metadata = {"retriever": self._name, "operation": operation}
            self.runtime.telemetry.emit("dspex.retriever.write.stop", measurements, metadata)
        return done if operation == "delete" and isinstance(done, int) else None

    async def _run(self, method: str, work: Callable[[], object], thread: WorkerThread) -> object:
        """Await an async method here, a blocking one in its thread."""
        result = work() if method in self._abilities.awaits else await thread.run(work)
        return await result if inspect.isawaitable(result) else result

    def _thread_of_writes(self) -> WorkerThread:
        if not self._abilities.writes_apart:
            return self._reading
        if self._writing is None:  # owned last, so closed first: no write is under way when the index is closed
            self._writing = self.own(WorkerThread(f"dspex-retriever-{self._name}-write"), WorkerThread.aclose)
        return self._writing

    def _opened(self) -> Retriever:
        assert self._retriever is not None
        return self._retriever

    def _lacks(self, operation: str, why: str) -> RetrieverLacks:
        kind = type(self._retriever).__name__
        return RetrieverLacks(self._name, operation, f"{kind} does not know how, {why}")

    async def _close(self, worker: WorkerThread) -> None:
        retriever = self._retriever
        if retriever is None or "close" not in self._abilities.awaits:
            await worker.aclose(retriever.close if retriever is not None else None)
            return
        try:
            await cast("Awaitable[object]", retriever.close())
        finally:
            await worker.aclose()


def _as_retrieval_error(name: str, error: Exception) -> Exception:
    if isinstance(error, (RetrievalError, ConfigError, ActorExited, NoSuchActor)):
        return error
    wrapped = RetrievalError(f"retriever {name!r} failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
