"""The simulator in a thread of its own, for tests and notebooks that run no event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from dspex.simulator._stats import SimulatorStats
from dspex.simulator.faults import FaultPlan
from dspex.simulator.judge import Arrival, ConformanceReport
from dspex.simulator.limits import Limits
from dspex.simulator.server import Simulator
from dspex.simulator.training import TrainingPlan, TrainingRun

__all__ = ["SimulatorThread"]

T = TypeVar("T")
_START = 15.0  # seconds for a thread to come to listen on a busy machine


class SimulatorThread:
    """
    A simulator in a thread: ``with SimulatorThread(faults=...) as sim: ... sim.url``.

    It serves synchronous and asynchronous clients alike; every method may be called from any thread.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: FaultPlan | None = None,
        key: str | None = None,
        limits: Limits | None = None,
        training: TrainingPlan | None = None,
    ) -> None:
        """
        Set up a simulator; the thread is started on entering.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            faults: The faults; none when it is None.
            key: The only key accepted; None accepts any, and none.
            limits: Requests and tokens a minute that each key may use, and is told of; any number when None.
            training: How trainings go; each succeeds when it was looked at three times, when it is None.
        """
        self._simulator = Simulator(host=host, port=port, faults=faults, key=key, limits=limits, training=training)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL that OpenAI's clients use, ending in ``/v1``."""
        return self._simulator.url

    @property
    def urls(self) -> Mapping[str, str]:
        """The base URL for the clients of each provider: ``openai``, ``anthropic`` and ``gemini``."""
        return self._simulator.urls

    @property
    def faults(self) -> FaultPlan:
        """The plan in force."""
        return self._simulator.faults

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests so far by outcome; see `SimulatorStats`."""
        return self.stats().requests

    def stats(self) -> SimulatorStats:
        """Return a snapshot of all counts."""
        return self._do(self._simulator.stats)

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return every request that has come, in order."""
        return self._do(self._simulator.arrivals)

    def judge(self) -> ConformanceReport:
        """Judge the clients by what has arrived since the start or the last reset."""
        return self._do(self._simulator.judge)

    def trainings(self) -> tuple[TrainingRun, ...]:
        """Return every training that was submitted, in order."""
        return self._do(self._simulator.trainings)

    def set_faults(self, plan: FaultPlan) -> None:
        """Replace the fault plan, as `Simulator.set_faults` does."""
        self._do(lambda: self._simulator.set_faults(plan))

    def reset(self) -> None:
        """Forget all counts, as `Simulator.reset` does."""
        self._do(self._simulator.reset)

    def wait_until(self, condition: Callable[[SimulatorStats], bool], timeout: float) -> SimulatorStats:
        """
        Block until the counts are as wanted, and return them.

        Args:
            condition: ReceivedPrompt in the simulator's thread, at once and again after every change.
            timeout: The longest wait, in seconds.

        Raises:
            TimeoutError: They were not in time.
        """
        assert self._loop is not None, "a simulator is used inside its `with` block"

        async def wait() -> SimulatorStats:
            async with asyncio.timeout(timeout):
                return await self._simulator.wait_until(condition)

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _do(self, what: Callable[[], T]) -> T:
        """Do something in the simulator's thread, or here when it does not run."""
        if self._loop is None:
            return what()

        async def run() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_START)

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="dspex-simulator", daemon=True)
        self._thread.start()
        try:
            started.result(_START)
        except BaseException:  # whatever it is: undone here, then raised on
            self._end()
            raise
        return self

    def _run(self, started: "Future[None]") -> None:
        with contextlib.suppress(BaseException):  # what went wrong is told through the future
            asyncio.run(self._serve(started))

    async def _serve(self, started: "Future[None]") -> None:
        try:
            async with self._simulator:
                self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
                started.set_result(None)
                await self._ended.wait()
        except Exception as error:  # whoever waits for the start is told; raised on below
            if not started.done():
                started.set_exception(error)
            raise
        finally:
            self._loop = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        loop, ended = self._loop, self._ended
        if loop is not None and ended is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended first
                loop.call_soon_threadsafe(ended.set)
        if thread is not None:
            thread.join(_START)
