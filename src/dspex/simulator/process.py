"""The simulator as a child process, so that a client under load does not share its event loop."""

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from dspex.simulator._control import ask
from dspex.simulator._stats import SimulatorStats
from dspex.simulator.faults import FaultPlan
from dspex.simulator.judge import Arrival, ConformanceReport, judge
from dspex.simulator.limits import Limits
from dspex.simulator.server import urls_at
from dspex.simulator.training import TrainingPlan, TrainingRun

__all__ = ["SimulatorProcess", "SimulatorStartFailed"]

_START = 15.0  # seconds for an interpreter to start on a busy machine
_PATIENCE = 2.0  # seconds between closing its input, terminating and killing


class SimulatorStartFailed(RuntimeError):
    """
    The child process did not come to listen.

    Attributes:
        code: Its exit code, None when it was too slow and has been killed.
        output: Its standard error.
    """

    def __init__(self, code: int | None, output: str) -> None:
        self.code = code
        self.output = output
        super().__init__(f"the simulator did not start (exit code {code}): {output.strip() or 'no output'}")


class SimulatorProcess:
    """
    A simulator in a process of its own: ``async with SimulatorProcess(faults=...) as sim: ... sim.url``.

    The child cannot outlive this one: it is told to end when its standard input closes.
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
        Set up a simulator; the process is started on entering.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            faults: The faults; none when it is None.
            key: The only key accepted; None accepts any, and none.
            limits: Requests and tokens a minute that each key may use, and is told of; any number when None.
            training: How trainings go; each succeeds when it was looked at three times, when it is None.
        """
        plan = json.dumps((faults or FaultPlan()).to_json())
        self._arguments = ["--until-stdin-closes", "--host", host, "--port", str(port), "--plan", plan]
        self._arguments += ["--key", key] if key else []
        for name, value in (("--rpm", limits and limits.rpm), ("--tpm", limits and limits.tpm)):
            self._arguments += [name, str(value)] if value else []
        if training is not None:
            self._arguments += ["--training-looks", str(training.looks), "--training-fails", training.fails]
        self._child: asyncio.subprocess.Process | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The base URL that OpenAI's clients use, ending in ``/v1``; empty before the process is started."""
        return self._url

    @property
    def urls(self) -> Mapping[str, str]:
        """The base URL for the clients of each provider; empty before the process is started."""
        return urls_at(self._url.removesuffix("/v1")) if self._url else {}

    @property
    def pid(self) -> int | None:
        """The id of the process, None when it does not run."""
        return None if self._child is None else self._child.pid

    async def trainings(self) -> tuple[TrainingRun, ...]:
        """Return every training that was submitted, in order."""
        held = await ask(self._url, "GET", "/_simulator/trainings")
        return tuple(TrainingRun(**one) for one in held["trainings"])

    async def set_training(self, plan: TrainingPlan) -> None:
        """Replace the plan of trainings, for those under way too."""
        await ask(self._url, "POST", "/_simulator/training", dataclasses.asdict(plan))

    async def set_faults(self, plan: FaultPlan) -> None:
        """Replace the fault plan, as `Simulator.set_faults` does."""
        await ask(self._url, "POST", "/_simulator/faults", plan.to_json())

    async def stats(self) -> SimulatorStats:
        """Return a snapshot of all counts."""
        return SimulatorStats(**await ask(self._url, "GET", "/_simulator/stats"))

    async def reset(self) -> None:
        """Forget all counts, as `Simulator.reset` does."""
        await ask(self._url, "POST", "/_simulator/reset", {})

    async def arrivals(self) -> tuple[Arrival, ...]:
        """Return every request that has come, as `Simulator.arrivals` does."""
        held = await ask(self._url, "GET", "/_simulator/arrivals")
        return tuple(Arrival(**one) for one in held["arrivals"])

    async def judge(self) -> ConformanceReport:
        """Judge the clients by what has arrived since the start or the last reset."""
        return judge(await self.arrivals())

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "dspex.simulator", *self._arguments]
        self._child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            self._url = await self._first_line(self._child)
        except BaseException:  # whatever it is: undone here, then raised on
            await self._end(patient=False)
            raise
        return self

    async def _first_line(self, child: asyncio.subprocess.Process) -> str:
        assert child.stdout is not None
        assert child.stderr is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START):
                line = await child.stdout.readline()
                if line:
                    return line.decode().strip()
                output = await child.stderr.read()
                raise SimulatorStartFailed(await child.wait(), output.decode(errors="replace"))
        raise SimulatorStartFailed(None, "no address in time")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(patient=True)

    async def _end(self, *, patient: bool) -> None:
        """Close the child's input, then terminate, then kill it; a cancellation goes straight to the kill."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        try:
            child.stdin.close()
            if patient and not await _ended(child):
                child.terminate()
                await _ended(child)
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            await child.communicate()  # reads both pipes to their end, so that nothing stays open


async def _ended(child: asyncio.subprocess.Process) -> bool:
    """Wait a while for a process to end, and say whether it has."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await child.wait()
    return child.returncode is not None
