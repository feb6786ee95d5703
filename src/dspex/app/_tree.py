"""Wiring: one run of an App as a runtime, its services and the supervision tree that holds them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dspex._random import fresh_token
from dspex.app.config import read_key
from dspex.app.dashboard.hub import Hub
from dspex.app.dashboard.local import watch_spec
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.server import Door, dashboard_spec
from dspex.errors import AppClosed, DspexError, LeakedTasks, StartFailed, WrongLoop, WrongProcess
from dspex.evaluation import OpenStream
from dspex.evaluation.rows_under_way import CountedStreams, RowsUnderWay
from dspex.indexing import INDEXINGS, IndexService
from dspex.optimizers import OPTIMIZERS, JobService
from dspex.protocols.cache import CacheStore
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Budget, Price
from dspex.protocols.training import TrainingRoom
from dspex.protocols.wire import Provider
from dspex.requests import RequestRunner, Services, StepPolicy, ToolThreads
from dspex.runtime import (
    KILL,
    ActorRef,
    Backoff,
    ChildSpec,
    Crashed,
    ExitReason,
    Other,
    Runtime,
    Shutdown,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
    TreeNode,
    tree,
)
from dspex.services.cache.gateway import CACHE, CacheGateway
from dspex.services.cache.memory import MemoryTier
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.lm.gateway import LMGateway
from dspex.services.lm.limits import LimitsBook
from dspex.services.lm.training import TrainingGateway
from dspex.services.lm.transport import MAX_IDLE, Network, open_transport
from dspex.services.money.gateway import MoneyGateway
from dspex.services.money.ledger import LedgerBook
from dspex.services.money.ledger_server import LedgerServer
from dspex.services.money.periods import Periods
from dspex.services.money.prices import PriceTable
from dspex.services.retrieval.client import OpenRetriever
from dspex.services.retrieval.composites import Composite
from dspex.services.retrieval.gateway import RetrieverGateway
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SHARED, SharedGateway
from dspex.services.shared.postgres_cells import CELLS
from dspex.services.shared.store_cells import cells_of
from dspex.telemetry import Telemetry

__all__ = ["EVALUATIONS", "AppTree", "root_cause"]

EVALUATIONS = "evaluations"
"""The name under which the supervisor of evaluations' rows is registered."""

CANCELLED = 2.0
"""Seconds that requests have, cancelled when the App closes, until they are left to the end of the runtime."""

WATCHDOG = 0.5
"""Seconds for which code may hold the loop before it is named, within half of that again."""


class AppTree:
    """The part of an App that exists between ``start`` and ``aclose``: everything here is made afresh each time."""

    def __init__(
        self,
        *,
        lms: Mapping[str, LM | LMPool],
        providers: Mapping[str, Provider],
        retrievers: tuple[Mapping[str, OpenRetriever], Mapping[str, Composite]],
        cache: CacheStore | Shared | bool,
        limits: LimitsBook,
        network: Network,
        max_running: int,
        max_waiting: int,
        max_tool_threads: int,
        telemetry: Telemetry,
        seed: int | None,
        home: Path,
        prices: Mapping[str, Price],
        budget: Budget | None,
        periods: tuple[Budget, ...] = (),
        door: Door | None = None,
        shared: Shared | None = None,
        cache_ttl: float | None = None,
        watched_as: str | None = None,
    ) -> None:
        self.runtime = Runtime(telemetry=telemetry, seed=seed, watchdog=WATCHDOG)
        parts = (*PostgresTier.parts, CELLS)
        self.shared = SharedGateway(self.runtime, shared, parts) if shared is not None else None
        self.cache_store = self.shared
        """The store in which the cache has a tier."""
        if isinstance(cache, Shared) and cache != shared:
            self.cache_store = SharedGateway(self.runtime, cache, PostgresTier.parts, name=f"{SHARED}/{CACHE}")
        self.book = LedgerBook(PriceTable(prices), budget, Periods(periods))
        cells, holder = cells_of(self.shared) if self.shared is not None else None, fresh_token()
        if periods or cells is not None:
            self.book.share(holder, root=cells is not None)
        self._ledger = LedgerServer.spec(self.book, home / "ledger.db", cells)
        self.lm = LMGateway(
            lms,
            keys=read_key,
            limits=limits,
            providers=providers,
            cells=cells,
            holder=holder,
            open_transport=lambda clock: open_transport(
                clock=clock,
                timeouts=network.timeouts,
                proxy=network.proxy,
                verify=network.verify,
                transport=network.transport,
                max_idle=max(MAX_IDLE, limits.max_in_flight),
            ),
        )
        money = MoneyGateway(self.runtime, self.book, self.lm.members)
        self.cache = None
        if cache is not False:
            disk = None if isinstance(cache, (bool, Shared)) else cache
            self.cache = CacheGateway(
                self.runtime, memory=MemoryTier(), disk=disk, shared=self.cache_store, ttl=cache_ttl
            )
        self.retrieval = RetrieverGateway(self.runtime, *retrievers, self.cache)
        self.threads = ToolThreads(self.runtime, limit=max_tool_threads)
        services = Services(self.lm, self.retrieval, self.cache, money, self.book.root, self.threads)
        self.runner = RequestRunner(
            self.runtime, services, policy=StepPolicy(), max_running=max_running, max_waiting=max_waiting
        )
        self.door = door
        self._watched_as = watched_as
        self.notes: Notes | None = None
        self._hub: Hub | None = None
        """The memory for viewers; None where nobody has asked for one."""
        self.rows = RowsUnderWay()
        self.job_service = JobService(
            self.runtime,
            self.runner,
            home,
            lms,
            lambda: {name: str(each) for given in retrievers for name, each in given.items()},
            self.rows,
            TrainingRoom(TrainingGateway(self.lm, providers, network), money, self.book.root),
        )
        self.index_service = IndexService(self.runtime, self.runner, self._open_whole_stream, home)
        self.open_for_use = False
        self._pid = os.getpid()
        self._root: SupervisorRef | None = None
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Start the tree in order; what a service says of its failure to start is raised as it is."""
        self.runtime.open()
        try:
            root = await self.runtime.start(Supervisor(self._specs(), backoff=Backoff()), label="App")
        except StartFailed as error:
            await self.runtime.close()
            raise root_cause(error) from error
        except BaseException:  # whatever it is: undone here, then raised on
            await self._kill_all()
            raise
        assert isinstance(root, SupervisorRef)
        self._root = root
        self.open_for_use = True
        self.runner.closed_by = self._closed_by_death
        # The last of all: whoever is told that the root has died finds the tree as it is used.
        self.runtime.processes[root.pid].on_dead(self._root_died)

    def _root_died(self) -> None:
        """End every request with AppClosed when the root was killed: nothing below it will come back."""
        if self.closing:
            return
        self.runner.close_intake()
        self.runner.stop_all(Other(self._closed_error()))

    def _specs(self) -> list[ChildSpec]:
        """Return the children in start order; they stop in reverse."""
        return [
            *(each.spec() for each in self._stores()),
            *([self.cache.spec()] if self.cache is not None else []),
            self._ledger,
            self.lm.spec(self.runtime),
            self.retrieval.spec(),
            self.threads.spec(),
            self.runner.spec(),
            ChildSpec(EVALUATIONS, TaskSupervisor, name=EVALUATIONS),
            self.job_service.spec(),
            self.index_service.spec(),
            *([dashboard_spec(self, self.door)] if self.door is not None else []),
            *([watch_spec(self, self._watched_as)] if self._watched_as is not None else []),
        ]

    def _stores(self) -> list[SharedGateway]:
        """Return the shared stores: of the App, and another one of its cache."""
        stores = [self.shared] if self.shared is not None else []
        return [*stores, *([self.cache_store] if self.cache_store not in (None, self.shared) else [])]

    @property
    def closing(self) -> bool:
        """True when ``close`` has been called."""
        return self._closing is not None

    async def open_stream(self) -> OpenStream:
        """Return what opens streams of rows below the supervisor of evaluations; a closing App ends their source."""
        return CountedStreams(await self._open_whole_stream(), self.rows)

    async def _open_whole_stream(self) -> OpenStream:
        """Return what opens streams of tasks there, waiting for its name; an index whose source ends is a whole one."""
        supervisor = await self.runtime.wait_name(EVALUATIONS, 5.0)
        assert isinstance(supervisor, TaskSupervisorRef)
        return supervisor.stream

    # --- closing --------------------------------------------------------------------------------------------

    async def close(self, drain: float) -> None:
        """
        Let requests, rows and evaluations of jobs finish for ``drain`` seconds, then end all there is.

        Maps and evaluations take no more rows, and jobs begin nothing more; what is left of them after that time is
        cancelled, then killed.
        """
        if self._closing is not None:
            await asyncio.shield(self._closing)  # a second closer that is cancelled must not cancel the first one
            return
        # In this tick, before anything is awaited: the second closer waits for the first, and nothing is taken in.
        self._closing = self.runtime.loop.create_future()
        self.runner.close_intake()
        self.job_service.close()
        self.index_service.close()
        self.rows.close()  # in the tick that closes the intake: a row that is taken later would only be refused
        until = self.runtime.clock.now() + drain
        try:
            await self._end_child(INDEXINGS)
            if not await self.runner.drained(drain):
                self.runner.stop_all(Other(AppClosed()))
                await self.runner.drained(CANCELLED)
            # The requests of rows have ended: what is left to do for them is to score them, and to write them down.
            await self.rows.drained(self.runtime, max(CANCELLED, until - self.runtime.clock.now()))
            await self._end_child(OPTIMIZERS)
            await self._end_child(EVALUATIONS)
            self.open_for_use = False
            await self.runtime.close()
        except asyncio.CancelledError:
            await self._kill_all()
            raise
        finally:
            self.open_for_use = False
            self.job_service.closed()
            self.index_service.closed()
            if self.notes is not None:
                self.notes.close()
            self._closing.set_result(None)

    async def _end_child(self, name: str) -> None:
        ref: ActorRef | None = self.runtime.whereis(name)
        if ref is not None and self._root is not None and self._root.alive:
            await self._root.terminate_child(name)

    async def _kill_all(self) -> None:
        """Leave nothing running; what ignores even that is not reported, for another error is on its way."""
        self.runner.close_intake()
        self.runner.stop_all(Other(AppClosed()))
        for process in self.runtime.roots():
            process.receive_exit(KILL, None)
        with suppress(LeakedTasks):
            await self.runtime.close()

    def watch(self, *, capture: bool = False, note: str = "") -> Notes:
        """Remember from now on what whoever looks will ask for; a second time, what is remembered already."""
        if self.notes is None:
            self.notes = Notes(self.runner, self.runtime.telemetry, capture=capture)
        self.notes.note = note or self.notes.note
        return self.notes

    @property
    def hub(self) -> Hub:
        """The snapshots of this tree, for all who look at it; only after ``watch``."""
        if self._hub is None:
            self._hub = Hub(self, self.watch())
        return self._hub

    # --- looking --------------------------------------------------------------------------------------------

    @property
    def is_of_this_process(self) -> bool:
        """False in a process that was forked from the one that started the App."""
        return self._pid == os.getpid()

    @property
    def wrong_process(self) -> WrongProcess:
        """The error of a use in another process than the App's."""
        return WrongProcess(self._pid)

    def check_process(self) -> None:
        """Raise WrongProcess in a process that was forked from the one that started the App."""
        if not self.is_of_this_process:
            raise WrongProcess(self._pid)

    def check_loop(self) -> None:
        """Raise WrongLoop outside the loop that the App was started on, and WrongProcess in a fork of its process."""
        if self._pid != os.getpid():
            raise WrongProcess(self._pid)
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongLoop from None
        if running is not self.runtime.loop:
            raise WrongLoop

    def check_use(self) -> None:
        """Raise as ``check_loop``, and AppClosed when the process at the root has been killed."""
        self.check_loop()
        if self._root is not None and self._root.exit_reason is not None:
            raise self._closed_error()

    def _closed_by_death(self) -> AppClosed | None:
        return self._closed_error() if self._root is not None and not self._root.alive else None

    def _closed_error(self) -> AppClosed:
        return AppClosed("the process at the root of its tree was killed; close the App and start it again")

    @property
    def state(self) -> str:
        """The state in words, in any process."""
        if not self.is_of_this_process:
            return "running in another process"
        if self._root is not None and not self._root.alive and not self.closing:
            return "killed"
        return "closing" if self.closing else "running"

    def snapshot(self) -> TreeNode:
        """Return the tree as it is now; what was started beside it, such as servers of tools, stands last."""
        services = self._services()
        beside = [tree(each) for each in self.runtime.roots() if each.pid != services.pid]
        return replace(services, children=(*services.children, *beside)) if beside else services

    def _services(self) -> TreeNode:
        assert self._root is not None
        return tree(self.runtime.processes[self._root.pid])

    def messages_waiting(self) -> int:
        """Return how many messages wait in the mailboxes of all processes."""
        root = self._root
        return sum(node.mailbox for node in self.snapshot().walk()) if root is not None and root.alive else 0

    def health(self) -> Mapping[str, object]:
        """Return a few numbers for a health endpoint."""
        root, down = self._root, []
        if root is not None and root.alive:
            down = [node.label for node in self._services().walk() if node.status != "running"]
        elif root is not None:
            down = [f"App ({self._closed_error()})"] if not self.closing else ["App"]
        admission = self.runner.admission
        return {
            "ready": self.open_for_use and not self.closing and not down,
            "running": admission.running,
            "waiting": admission.waiting,
            "completed": self.runner.completed,
            "failed": self.runner.failed,
            "cancelled": self.runner.cancelled,
            "down": down,
            **({"budgets": self.book.plain()} if self.book.shares is not None and self.book.shares.by_account else {}),
            **({"shared": [each.health() for each in stores]} if (stores := self._stores()) else {}),
        }


def root_cause(error: StartFailed) -> Exception:
    """Return the service's own error from under the supervisors that reported it."""
    each: Exception = error
    while True:
        reason = each.reason if isinstance(each, StartFailed) else None
        inner: object = None
        if isinstance(reason, Shutdown):
            inner = reason.detail
        elif isinstance(reason, Crashed):
            inner = reason.error
        elif isinstance(reason, (Exception, ExitReason)):
            inner = reason
        if not isinstance(inner, Exception):
            return each
        if not isinstance(inner, StartFailed):
            return inner if isinstance(inner, DspexError) else each
        each = inner
