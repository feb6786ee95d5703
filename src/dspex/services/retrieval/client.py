"""The actor over one index: searches run in its own thread, one after the other, and it never waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dspex.errors import ActorExited, CallTimeout, ConfigError, DeadlineExceeded, NoSuchActor, RetrievalError
from dspex.protocols.retrieval import Passage, Retriever
from dspex.runtime import Backoff, ChildSpec, From, LibraryActor, Next, NoReply, Runtime, Supervisor, WorkerThread

__all__ = ["RETRIEVERS", "RetrieverClient", "RetrieverGateway", "Search"]

RETRIEVERS = "retrievers"
"""The name under which the room's supervisor is registered."""

OpenRetriever = Callable[[], Retriever]


@dataclass(frozen=True, slots=True)
class Search:
    """Ask for the ``k`` best passages; answered by a tuple of them."""

    query: str
    k: int


class RetrieverClient(LibraryActor):
    """Opens the index in a thread of its own and answers each search from there, as a deferred reply."""

    def __init__(self, name: str, open_retriever: OpenRetriever) -> None:
        self._name = name
        self._open = open_retriever
        self._worker: WorkerThread
        self._retriever: Retriever | None = None
        self._searches = 0

    async def init(self) -> None:
        """Open the index; RetrievalError when it cannot be."""
        self._worker = self.own(WorkerThread(f"dspex-retriever-{self._name}"), self._close)
        self._retriever = await self._worker.run(self._open)

    async def handle_call(self, message: object, sender: From) -> Next:
        """Start a search and answer when it is done."""
        if not issubclass(type(message), Search):
            return self.refuse(message, sender)
        self.spawn_task(self._search, message, sender, label="search")
        return NoReply()

    def describe(self) -> str:
        """Tell how many searches were answered."""
        return f"{self._searches} searches"

    async def _search(self, message: Search, sender: From) -> None:
        assert self._retriever is not None
        started = self.runtime.clock.now()
        try:
            found: Sequence[Passage] = await self._worker.run(self._retriever.search, message.query, message.k)
        except Exception as error:  # noqa: BLE001 - whatever a user's retriever raises is the caller's answer
            sender.fail(_as_retrieval_error(self._name, error))
            return
        self._searches += 1
        sender.reply(tuple(found))
        if self.runtime.telemetry.active:
            measurements = {"duration": self.runtime.clock.now() - started, "passages": float(len(found))}
            self.runtime.telemetry.emit("dspex.retriever.search.stop", measurements, {"retriever": self._name})

    async def _close(self, worker: WorkerThread) -> None:
        await worker.aclose(self._retriever.close if self._retriever is not None else None)


class RetrieverGateway:
    """
    Implements ``protocols.RetrievalService`` over the supervised clients.

    Args:
        runtime: Where the clients live.
        retrievers: The function that opens each index, by name; ``"default"`` answers for ``None``.
    """

    def __init__(self, runtime: Runtime, retrievers: dict[str, OpenRetriever]) -> None:
        self._runtime = runtime
        self._retrievers = retrievers

    def spec(self) -> ChildSpec:
        """Return the child spec of the room's supervisor."""
        return ChildSpec(RETRIEVERS, self._supervisor, kind="supervisor", name=RETRIEVERS)

    def _supervisor(self) -> Supervisor:
        children = [
            ChildSpec(name, RetrieverClient, (name, opener), name=f"{RETRIEVERS}/{name}")
            for name, opener in self._retrievers.items()
        ]
        return Supervisor(children, backoff=Backoff())

    async def search(self, retriever: str | None, query: str, k: int, deadline: float) -> tuple[Passage, ...]:
        """Search by name; a client that dies under the search ends it with ActorExited, for the step to repeat."""
        name = retriever if retriever is not None else "default"
        if name not in self._retrievers:
            known = ", ".join(sorted(self._retrievers)) or "none"
            raise ConfigError(
                f"the App has no retriever named {name!r} (configured: {known}); "
                f"give App(retriever=…) or App(retrievers={{…}})"
            )
        left = max(0.0, deadline - self._runtime.clock.now())
        try:
            found: tuple[Passage, ...] = await self._runtime.named(f"{RETRIEVERS}/{name}").call(
                Search(query, k), timeout=left
            )
        except CallTimeout as error:
            raise DeadlineExceeded(left) from error
        return found


def _as_retrieval_error(name: str, error: Exception) -> Exception:
    if isinstance(error, (RetrievalError, ActorExited, NoSuchActor)):
        return error
    wrapped = RetrievalError(f"retriever {name!r} failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
