"""A record of processes: who began, who ended and why, and who was restarted by whom, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dspex.runtime import ExitReason, Runtime
from dspex.telemetry import Facts

__all__ = ["Began", "ExitRecorder", "Exited", "GaveUp", "Restarted", "StartRefused"]


@dataclass(frozen=True, slots=True)
class Began:
    """An actor's ``init`` has succeeded."""

    label: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A process, actor or task, is dead, and so are all below it."""

    label: str
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Restarted:
    """A supervisor has decided to start a child again, which ended for ``reason``; its ``Began`` follows."""

    child: str
    supervisor: str
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class StartRefused:
    """A child that a supervisor wanted to start again did not start; ``reason`` is its StartFailed."""

    child: str
    supervisor: str
    reason: object


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A supervisor had to restart this child too often."""

    child: str
    supervisor: str


Record = Began | Exited | Restarted | StartRefused | GaveUp


class ExitRecorder:
    """
    Records the lives of a runtime's processes from ``with`` on, and lets a test wait for them without polling.

    For example::

        with ExitRecorder(runtime) as exits:
            runtime.whereis("cache").kill()
            await exits.wait_starts("cache", 1)
        assert exits.restarts() == ["cache"]

    A process is named by its label: the id of its child spec, or what ``set_label`` said last.

    Attributes:
        records: Everything that happened, oldest first.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.records: list[Record] = []
        self._runtime = runtime
        self._detach: Callable[[], None] | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def __enter__(self) -> Self:
        self._detach = self._runtime.telemetry.attach("dspex.", self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None

    def exits(self, label: str | None = None) -> list[ExitReason]:
        """Return why the processes of this label ended, or all of them, the first first."""
        ended = (each for each in self.records if isinstance(each, Exited))
        return [each.reason for each in ended if label in (None, each.label)]

    def starts(self, label: str | None = None) -> list[str]:
        """Return the labels of the actors that were initialised, or of those called ``label``, the first first."""
        began = (each for each in self.records if isinstance(each, Began))
        return [each.label for each in began if label in (None, each.label)]

    def restarts(self, supervisor: str | None = None) -> list[str]:
        """Return the ids of the children that were restarted, by this supervisor or any, the first first."""
        again = (each for each in self.records if isinstance(each, Restarted))
        return [each.child for each in again if supervisor in (None, each.supervisor)]

    async def wait_exits(self, label: str, count: int = 1, *, timeout: float = 5.0) -> list[ExitReason]:
        """
        Return why the processes of this label ended as soon as ``count`` of them have, since the ``with``.

        Args:
            timeout: Real seconds, whatever clock the runtime has: a test that fails should not hang.

        Raises:
            TimeoutError: It did not happen; it says what did.
        Cancellation: nothing to undo.
        """
        await self._wait(lambda: len(self.exits(label)) >= count, f"{count} exits of {label!r}", timeout)
        return self.exits(label)

    async def wait_starts(self, label: str, count: int = 1, *, timeout: float = 5.0) -> None:
        """Return when ``count`` actors of this label have been initialised since the ``with``; as ``wait_exits``."""
        await self._wait(lambda: len(self.starts(label)) >= count, f"{count} starts of {label!r}", timeout)

    async def _wait(self, happened: Callable[[], bool], what: str, timeout: float) -> None:
        if happened():
            return
        entry = (happened, self._runtime.loop.create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await entry[1]
        except TimeoutError:
            lines = "\n  ".join(["", *map(repr, self.records)])
            raise TimeoutError(f"no {what} within {timeout} s; there were:{lines}") from None
        finally:
            self._waiting.remove(entry)

    def _heard(self, name: str, _: Mapping[str, float], facts: Mapping[str, object]) -> None:
        record = _record(name, facts)
        if record is None:
            return
        self.records.append(record)
        for happened, future in self._waiting:
            if not future.done() and happened():
                future.set_result(None)


def _record(name: str, facts: Facts) -> Record | None:
    match name:
        case "dspex.process.start":
            return Began(facts["label"])
        case "dspex.process.exit":
            return Exited(facts["label"], facts["reason"])
        case "dspex.child.restart":
            return Restarted(facts["child"], facts["supervisor"], facts["reason"])
        case "dspex.child.start_failed":
            return StartRefused(facts["child"], facts["supervisor"], facts["reason"])
        case "dspex.supervisor.gave_up":
            return GaveUp(facts["child"], facts["supervisor"])
    return None
