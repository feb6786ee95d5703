"""The simulator as a server in this process."""

import asyncio
import contextvars
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from dspex.simulator._connection import Connection
from dspex.simulator._request_handler import RequestHandler
from dspex.simulator._stats import SimulatorStats
from dspex.simulator.dialects import DIALECTS
from dspex.simulator.faults import FaultPlan
from dspex.simulator.judge import Arrival, ConformanceReport
from dspex.simulator.limits import Limits
from dspex.simulator.training import TrainingPlan, TrainingRun

__all__ = ["Simulator", "urls_at"]

_BACKLOG = 4096


class Simulator:
    """
    A provider that lives in the running event loop: ``async with Simulator() as sim: ... sim.url``.

    Connections run in an empty context, not in that of whoever started the server.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: FaultPlan | None = None,
        key: str | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        training: TrainingPlan | None = None,
    ) -> None:
        """
        Set up a simulator; it listens once it is entered.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            faults: The faults; none when it is None.
            key: The only key accepted; None accepts any, and none.
            limits: Requests and tokens a minute that each key may use, and is told of; any number when None.
            clock: Where limits and arrivals take their time from, in seconds.
            training: How trainings go; each succeeds when it was looked at three times, when it is None.
        """
        self._host = host
        self._port = port
        self._handler = RequestHandler(faults or FaultPlan(), key, limits=limits, clock=clock, training=training)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL that OpenAI's clients use, ending in ``/v1``."""
        return self.urls["openai"]

    @property
    def urls(self) -> Mapping[str, str]:
        """The base URL for the clients of each provider: ``openai``, ``anthropic`` and ``gemini``."""
        return urls_at(f"http://{self._host}:{self._port}")

    @property
    def faults(self) -> FaultPlan:
        """The plan in force."""
        return self._handler.faults

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests so far by outcome; see `SimulatorStats`."""
        return dict(self._handler.counters.requests)

    def stats(self) -> SimulatorStats:
        """Return a snapshot of all counts."""
        return self._handler.counters.snapshot()

    async def wait_until(self, condition: Callable[[SimulatorStats], bool]) -> SimulatorStats:
        """
        Wait until the counts are as wanted, and return them; the caller sets the deadline.

        Args:
            condition: ReceivedPrompt at once, and again after every change.
        """
        while not condition(stats := self.stats()):
            change = asyncio.get_running_loop().create_future()
            self._handler.counters.waiting.append(change)
            await change
        return stats

    def set_faults(self, plan: FaultPlan) -> None:
        """Replace the fault plan: for the next request on; its script starts afresh, arrivals count on."""
        self._handler.set_faults(plan)

    def trainings(self) -> tuple[TrainingRun, ...]:
        """Return every training that was submitted, in order."""
        return tuple(self._handler.training.runs.values())

    def set_training(self, plan: TrainingPlan) -> None:
        """Replace the plan of trainings, for those under way too."""
        self._handler.training.plan = plan

    def reset(self) -> None:
        """Forget all counts, arrivals included, so that the same requests meet the same faults again."""
        self._handler.reset()

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return every request that has come, in order; of very many, the last 20,000."""
        return self._handler.arrival_log.arrivals()

    def judge(self) -> ConformanceReport:
        """Judge the clients by what has arrived since the start or the last reset."""
        return self._handler.judge()

    async def __aenter__(self) -> Self:
        listening = socket.create_server((self._host, self._port), backlog=_BACKLOG)
        try:
            self._port = listening.getsockname()[1]
            # Handlers copy the context the server is started in: start it in an empty one.
            starting = contextvars.Context().run(asyncio.ensure_future, self._start(listening))
            await starting
        except BaseException:  # whatever it is: undone here, then raised on
            await self._close()
            listening.close()
            raise
        return self

    async def _start(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listening, backlog=_BACKLOG, start_serving=False)
        await self._server.start_serving()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """Stop listening, end every connection, and wait until their sockets are closed."""
        if self._server is not None:
            self._server.close()
        while self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await Connection(self._handler, reader, writer).serve()
        except asyncio.CancelledError:
            writer.transport.abort()  # the server closes, and waits for no client to read on
            await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop
        finally:
            self._connections.discard(task)


def urls_at(root: str) -> dict[str, str]:
    """Return the base URL for the clients of each provider, given that of the server."""
    return {dialect.name: f"{root}{dialect.base}" for dialect in DIALECTS}
