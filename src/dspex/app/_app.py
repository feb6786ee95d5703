"""The App: configuration in, a supervised tree while it runs, and the calls users make."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from dspex._guard import shown
from dspex.app._given import cache_of, checked_drain, checked_ttl, money_of, records_of, retrievers_of
from dspex.app._options import changed
from dspex.app._sync import SyncApp
from dspex.app._tree import AppTree
from dspex.app._view import AppView, RunnableProgram
from dspex.app.config import read_proxies
from dspex.app.dashboard.local import watch_name
from dspex.app.dashboard.options import Dashboard, dashboard_of
from dspex.app.dashboard.server import Door, check_extra
from dspex.app.otel.options import OpenTelemetry, otel_of
from dspex.app.otel.sink import attach
from dspex.errors import AppAlreadyRunning, AppNotRunning, ConfigError
from dspex.programs import AdapterChoice
from dspex.protocols.cache import CacheStore
from dspex.protocols.executor import RunOptions
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.money import Budget, Price
from dspex.protocols.wire import Provider
from dspex.requests import Request
from dspex.services.lm.limits import ClientLimits, LimitsBook
from dspex.services.lm.own_providers import with_own
from dspex.services.lm.transport import Network, Timeouts, check_proxy
from dspex.services.retrieval.composites import RetrieverLike
from dspex.services.shared.address import Shared, shared_of
from dspex.telemetry import Telemetry

if TYPE_CHECKING:
    import ssl

    import httpx

    from dspex.runtime import Runtime, TreeNode

__all__ = ["App"]

HURRY = 1.0
"""Seconds that running requests have when an error leaves the App's block."""

P = ParamSpec("P")
R = TypeVar("R")


class App(AppView):
    """
    Language models, retrievers, a cache and a supervision tree around them.

    Building one does no I/O and needs no loop. ``async with app`` starts a fresh tree and closes it; ``start`` and
    ``aclose`` do the same from any two tasks of one loop. Two Apps in one process never see each other.

    Args:
        lm: The default model: ``"provider/model"``, an ``LM`` record, or an ``LMPool``.
        lms: More models, by the names that ``with_lm`` and ``options(lm=…)`` use.
        providers: Providers of your own by name, ``{"acme": dspex.lm.Provider(address, wire)}``: models of theirs are
            ``"acme/model"``. One of dspex's own names replaces that provider.
        adapter: The adapter of predictors that have none of their own: ``auto`` (the default), ``chat``, ``json``,
            ``xml``, ``tool``, or an Adapter.
        learn_forms: False keeps ``adapter="auto"`` in its own forms, whatever the model showed that it cannot write.
        retriever: The default retriever: a path of a ``SqliteIndex``, any ``Retriever``, or one that is made of others,
            such as ``Hybrid``.
        retrievers: More of them, by the names that ``Retrieve('name')`` uses.
        cache: ``None`` caches nothing, ``"memory"`` in this process, a path or any ``CacheStore`` on disk as well, the
            address of a shared store (or a ``Shared``) there as well, for answers only.
        cache_ttl: Seconds for which an answer is served from the cache; None where it does not grow old.
        shared: A store that several processes share: ``"redis://…"`` or ``"postgresql://…"`` (extras ``redis`` and
            ``postgres``), on one machine a file, ``"sqlite:///runs/shared.db"``, or a ``Shared``. The cache has a tier
            there, unless it is None. While the store is down, this App goes on without it.
        home: The folder for journals and jobs; made when first needed.
        deadline: Default seconds for a request.
        drain: Seconds that running requests may take to finish when the App closes; then they are cancelled.
        max_running: Requests at once; more wait.
        max_waiting: Requests waiting; one more is Overloaded.
        max_tool_threads: Blocking tools that are called at once, each in a thread; more wait, within their own time.
        limits: Attempts at once, requests and tokens a minute, and the retry policy: for every model, or by
            ``"provider/model"``, ``"provider/*"`` and ``"*"``.
        timeouts: The seconds for connecting, for the first token and for a silence, after which one attempt has failed.
        proxy: The http(s) address of a proxy for every provider; ``"environment"`` goes by ``HTTPS_PROXY``,
            ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, which are not looked at otherwise.
        verify: The check of certificates: a context with your own authority, or False for no check.
        transport: The user's own httpx transport, used for every provider instead of ours; it has its own proxy and
            certificates.
        prices: The prices of models, by name (``*`` fits anything); they come before those of the extra ``prices``.
        budget: The most that all requests of one tree may spend; with ``Budget(…, per="day")`` or ``"month"`` the most
            that all Apps with this home may spend in it, restarts included. A list has several of them.
        dashboard: Where a browser sees it run, ``"127.0.0.1:8765"`` or a ``Dashboard``; needs the extra ``dashboard``.
        watch: True lets ``dspex top`` show it in a terminal of the same user; a text does so under that name. None goes
            by the environment's ``DSPEX_WATCH``, which is either of the two; False does neither.
        otel: True, or an ``OpenTelemetry``, makes spans and metrics of what happens; needs the extra ``otel``.
        telemetry: Where events go; ``app.telemetry.attach`` listens.
        seed: Seeds the jitter of retries and restarts.

    Raises:
        ConfigError: An argument makes no sense, or a provider is unknown.
        MissingExtra: An option needs a package that is not installed.
    """

    __slots__ = (
        "__weakref__",
        "_cache",
        "_cache_ttl",
        "_door",
        "_drain",
        "_limits",
        "_lms",
        "_max_running",
        "_max_tool_threads",
        "_max_waiting",
        "_money",
        "_network",
        "_providers",
        "_retrievers",
        "_seed",
        "_shared",
        "_tree",
        "_watched_as",
        "home",
        "is_traced",
        "telemetry",
    )

    def __init__(
        self,
        lm: LMChoice = None,
        *,
        lms: Mapping[str, str | LM | LMPool] | None = None,
        providers: Mapping[str, Provider] | None = None,
        adapter: AdapterChoice = None,
        learn_forms: bool = True,
        retriever: RetrieverLike | None = None,
        retrievers: Mapping[str, RetrieverLike] | None = None,
        cache: str | Path | CacheStore | Shared | None = "memory",
        cache_ttl: float | None = None,
        shared: str | Shared | None = None,
        home: str | Path = ".dspex",
        deadline: float = 120.0,
        drain: float = 10.0,
        max_running: int = 1_000,
        max_waiting: int = 10_000,
        max_tool_threads: int = 32,
        limits: ClientLimits | Mapping[str, ClientLimits] | None = None,
        timeouts: Timeouts | None = None,
        proxy: str | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        dashboard: str | Dashboard | None = None,
        watch: bool | str | None = None,
        otel: bool | OpenTelemetry = False,
        telemetry: Telemetry | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            self, changed(RunOptions(), {"deadline": deadline, "adapter": adapter, "learn_forms": learn_forms})
        )
        self._providers = with_own(providers or {})
        self._lms = records_of(lm, lms or {}, self._providers)
        self._retrievers = retrievers_of(retriever, retrievers or {})
        self._cache = cache_of(cache)
        self._cache_ttl = checked_ttl(cache_ttl)
        self._shared = shared_of(shared)
        proxies = read_proxies() if proxy == "environment" else proxy
        check_proxy(proxies, transport)
        self._limits = LimitsBook(limits, self._providers)
        self._network = Network(timeouts, proxies, verify, transport)
        for given, kind in ((timeouts, Timeouts), (telemetry, Telemetry)):
            if given is not None and not isinstance(given, kind):
                raise ConfigError(f"{given!r:.60} is not a {kind.__name__}")
        if max_running < 1 or max_waiting < 0:
            raise ConfigError("max_running must be at least 1 and max_waiting at least 0")
        if isinstance(max_tool_threads, bool) or not isinstance(max_tool_threads, int) or max_tool_threads < 1:
            raise ConfigError(f"max_tool_threads={max_tool_threads!r} must be a whole number from 1 on")
        self._drain = checked_drain(drain)
        self._money = money_of(prices, budget)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_tool_threads = max_tool_threads
        page = dashboard_of(dashboard)
        if page is not None:
            check_extra()
        self._door = Door(page) if page is not None else None
        self._watched_as = watch_name(watch)
        self._seed = seed
        self._tree: AppTree | None = None
        self.home = Path(home)
        self.telemetry = telemetry if telemetry is not None else Telemetry()
        tracing = otel_of(otel)
        self.is_traced = tracing is not None
        """True when spans are made of what it does."""
        if tracing is not None:
            attach(self, tracing)

    # --- life cycle -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An error on its way out, Ctrl-C above all, is not to wait for requests whose answers nobody will read.
        await self.aclose(drain=None if kind is None else min(HURRY, self._drain))

    @overload
    def start(self) -> Coroutine[object, None, App]: ...
    @overload
    def start(self, program: RunnableProgram[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Request[R]: ...
    def start(self, *args: Any, **kwargs: object) -> object:  # type: ignore[misc]  # mypy and ParamSpec in overloads
        """
        Without a program: start the App (``await app.start()``). With one: start a request and return its handle.

        ``await request`` is the result; ``request.details`` what it took; ``request.cancel()`` stops it.

        Raises:
            AppAlreadyRunning: The App runs already.
            MissingInput, AppNotRunning, AppClosed, Overloaded: No request was started.
            CacheError, RetrievalError, ConfigError: A service cannot start; nothing is left running.
        """
        return self.begin(args[0], args[1:], kwargs) if args else self._open()

    async def _open(self) -> App:
        if self._tree is not None:
            self._tree.check_process()
            raise AppAlreadyRunning
        tree = AppTree(
            lms=self._lms,
            providers=self._providers,
            retrievers=self._retrievers,
            cache=self._cache,
            cache_ttl=self._cache_ttl,
            shared=self._shared,
            limits=self._limits,
            network=self._network,
            max_running=self._max_running,
            max_waiting=self._max_waiting,
            max_tool_threads=self._max_tool_threads,
            telemetry=self.telemetry,
            seed=self._seed,
            home=self.home,
            prices=self._money.prices,
            budget=self._money.budget,
            periods=self._money.periods,
            door=self._door,
            watched_as=self._watched_as,
        )
        self._tree = tree
        try:
            await tree.open()
        except BaseException:  # whatever it is: undone here, then raised on
            self._tree = None
            raise
        return self

    async def aclose(self, *, drain: float | None = None) -> None:
        """
        Refuse new requests, let running ones finish, cancel the rest, and end the tree.

        Jobs, maps and evaluations are stopped at once. A block that an error leaves waits for one second at most.

        Args:
            drain: Seconds that running requests may take; None for the App's own.

        Raises:
            ConfigError: ``drain`` makes no sense.
            LeakedTasks: Code swallowed its cancellation and still runs.
        Cancellation: what is left is killed at once.
        """
        seconds = self._drain if drain is None else checked_drain(drain)
        tree = self._tree
        if tree is None:
            return
        if not tree.is_of_this_process:  # its owner will close it
            self._tree = None
            return
        tree.check_loop()
        try:
            await tree.close(seconds)
        finally:
            if self._tree is tree:
                self._tree = None

    def sync(self) -> SyncApp:
        """
        Return this App for code that is not asynchronous: ``with App(…).sync() as app: app.run(program, …)``.

        Its tree will live on an event loop in a thread of its own; nothing is started before ``open`` or ``with``.
        """
        return SyncApp(self)

    def running_tree(self) -> AppTree:
        """
        Return the tree of the running App.

        Raises:
            AppNotRunning: It has not been started, or is closed.
            WrongProcess: It was started before this process was forked.
            WrongLoop: This is another loop or thread than the App's.
            AppClosed: The process at the root of its tree has been killed.
        """
        tree = self._tree
        if tree is None or not tree.open_for_use:
            raise AppNotRunning
        tree.check_use()
        return tree

    @property
    def runtime(self) -> Runtime:
        """The runtime of the running App: to find an actor by name, look at it, or kill it; raises AppNotRunning."""
        return self.running_tree().runtime

    # --- looking at it --------------------------------------------------------------------------------------

    def tree(self) -> TreeNode:
        """Return a snapshot of every process, servers of tools last: restarts, mailboxes; ``render()`` prints it."""
        return self.running_tree().snapshot()

    def health(self) -> Mapping[str, object]:
        """Return a few numbers for a health endpoint: ``ready``, requests by outcome, services down."""
        tree = self._tree
        if tree is not None and not tree.is_of_this_process:
            return {"ready": False, "down": [f"App ({tree.wrong_process})"]}
        return tree.health() if tree is not None else {"ready": False}

    @property
    def dashboard_url(self) -> str:
        """
        The address of the page, with the token that lets whoever opens it act.

        Raises:
            ConfigError: The App has no dashboard.
        """
        if self._door is None:
            raise ConfigError("the App has no page to look at it: App(dashboard='127.0.0.1:8765')")
        return self._door.url

    def __repr__(self) -> str:
        lms, tree = getattr(self, "_lms", None), getattr(self, "_tree", None)  # debuggers show half-made ones too
        if lms is None:
            return "<App [not set up]>"
        models = ", ".join(shown(lm.model) for lm in lms.values()) or "no model"
        return f"<App {models} [{'not running' if tree is None else tree.state}]>"
