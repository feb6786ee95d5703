"""The state of the demo as numbers and cells: telemetry feeds it, a view draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from dspex.protocols.executor import Failed, Ok
from dspex.requests import Request
from dspex.telemetry import Facts

__all__ = ["Board", "Cell", "KilledActor"]

_IN_SHORT: Mapping[str, str] = {
    "RateLimited": "429",
    "ServerFailed": "5xx",
    "TransportFailed": "network",
    "ResponseInvalid": "garbled",
}
"""The outcome of a failed attempt, in a word."""


class Cell(Enum):
    """Where one question is."""

    WAITING = "waiting"
    ASKING = "asking"
    AGAIN = "again"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(slots=True)
class KilledActor:
    """An actor that was killed: when, by the board's own time, and the seconds until it was back."""

    name: str
    at: float
    back: float | None = None


@dataclass(slots=True)
class Board:
    """
    The questions being asked, and what happens meanwhile.

    Attributes:
        total: The number of questions.
        now: The clock of the loop that asks them.
        requests: One per question once it is asked.
        ends: One per question once it is over.
        failures: Failed attempts by what they came to.
        kills: Actors killed, oldest first.
        on_back: Told of each killed actor that is back.
    """

    total: int
    now: Callable[[], float]
    on_back: Callable[[KilledActor], object] = lambda _: None
    requests: list[Request[object] | None] = field(default_factory=list)
    ends: list[Ok | Failed | None] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    kills: list[KilledActor] = field(default_factory=list)
    retries: int = 0
    step_restarts: int = 0
    started: float = 0.0
    ended: float | None = None

    def __post_init__(self) -> None:
        self.requests = [None] * self.total
        self.ends = [None] * self.total
        self.started = self.now()

    # --- fed ------------------------------------------------------------------------------------------------

    def killed(self, name: str) -> None:
        """Note a kill that is about to happen."""
        self.kills.append(KilledActor(name, self.elapsed))

    def handle(self, event: str, measurements: Mapping[str, float], metadata: Facts) -> None:
        """Take a telemetry event."""
        match event:
            case "dspex.lm.attempt.exception":
                self.failures[_IN_SHORT.get(metadata["error"], metadata["error"])] += 1
            case "dspex.lm.retry":
                self.retries += 1
            case "dspex.step.restart":
                self.step_restarts += 1
            case "dspex.process.start":
                self._is_back(metadata["label"])

    def _is_back(self, label: str) -> None:
        for kill in self.kills:
            if kill.back is None and kill.name.rpartition("/")[2] == label:
                kill.back = self.elapsed - kill.at
                self.on_back(kill)

    # --- read -----------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the first question, or until the last answer."""
        return (self.now() if self.ended is None else self.ended) - self.started

    @property
    def answered(self) -> int:
        """Questions with an answer, right or wrong."""
        return sum(isinstance(end, Ok) for end in self.ends)

    @property
    def failed(self) -> list[Failed]:
        """Questions that ended in an error."""
        return [end for end in self.ends if isinstance(end, Failed)]

    @property
    def cells(self) -> list[Cell]:
        """Where each question is."""
        return [_cell(request, end) for request, end in zip(self.requests, self.ends, strict=True)]

    @property
    def met(self) -> str:
        """The failed attempts in a few words."""
        return ", ".join(f"{count}x {kind}" for kind, count in self.failures.most_common()) or "none"


def _cell(request: Request[object] | None, end: Ok | Failed | None) -> Cell:
    if end is not None:
        return Cell.ANSWERED if isinstance(end, Ok) else Cell.FAILED
    if request is None:
        return Cell.WAITING
    totals = request.details
    return Cell.AGAIN if totals.attempts or totals.step_restarts else Cell.ASKING
