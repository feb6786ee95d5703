"""
Faults at numbered points: the third init of a child fails, an actor is killed at its fifth message.

A plan is data: it can be printed, pasted into a test, drawn at random from a seed or shrunk by hypothesis
(``dspex.testing.strategies``). ``_fault_points`` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, Self, get_args

from dspex._random import generator
from dspex.errors import SpecError

__all__ = ["Action", "Delay", "Fault", "FaultPlan", "FaultPoint", "KillProcess", "PointKind", "Raise"]

PointKind = Literal["init", "call", "cast", "info", "continue", "message", "terminate", "task", "event"]
"""
Where faults can be: in front of an actor's ``init``, a handler, or (``message``) any of its handlers of messages;
in front of its ``terminate``; at the first step of a task; where a telemetry event is emitted.
"""

FaultPoint = tuple[PointKind, str]
"""A kind of point, and whose: the name or label of a process, or the name of an event."""

_MESSAGES: Final = frozenset({"call", "cast", "info"})


class Raise:
    """
    Raise ``error(*arguments)`` in the code at this point; at an event, the process whose code emits it crashes.

    For example ``Raise(OSError, "disk full")``. Each time a fresh one is made.
    """

    __slots__ = ("arguments", "error")

    def __init__(self, error: type[BaseException], *arguments: object) -> None:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise SpecError("error", error, "a class of exceptions, and behind it the arguments")
        self.error = error
        self.arguments = arguments

    def make(self) -> BaseException:
        """Return the exception."""
        return self.error(*self.arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raise) and (other.error, other.arguments) == (self.error, self.arguments)

    def __hash__(self) -> int:
        return hash((self.error, self.arguments))

    def __repr__(self) -> str:
        return f"Raise({', '.join([self.error.__name__, *map(repr, self.arguments)])})"


@dataclass(frozen=True, slots=True)
class KillProcess:
    """Kill the process at this point, or (``process``) whoever has that name or label."""

    process: str = ""


@dataclass(frozen=True, slots=True)
class Delay:
    """Let ``seconds`` go by on the runtime's clock before the code at this point goes on; not at events."""

    seconds: float


Action = Raise | KillProcess | Delay


@dataclass(frozen=True, slots=True)
class Fault:
    """
    At the ``visit``-th time (from 1) that a point is reached, do this; once.

    Args:
        kind: The sort of point.
        of: The registered name of a process, or else its label (the id of its child spec); for ``event`` the name
            of the event. ``*`` stands for any text, and then all that match are counted together.
        visit: Counted over all incarnations, from the moment the plan is applied.
        action: The fault.

    Raises:
        SpecError: A value is not valid; it names the field.
    """

    kind: PointKind
    of: str
    visit: int
    action: Action

    def __post_init__(self) -> None:
        if self.kind not in get_args(PointKind):
            raise SpecError("kind", self.kind, f"one of {', '.join(get_args(PointKind))}")
        if not isinstance(self.of, str) or not self.of:
            raise SpecError("of", self.of, "the name or label of a process, or the name of an event")
        if not isinstance(self.visit, int) or self.visit < 1:
            raise SpecError("visit", self.visit, "an int >= 1")
        if not isinstance(self.action, Action):
            raise SpecError("action", self.action, "a Raise, a KillProcess or a Delay")
        if self.kind == "event" and isinstance(self.action, Delay):
            raise SpecError("action", self.action, "no Delay at an event, whose emitter does not wait")

    def concerns(self, kind: PointKind, of: str) -> bool:
        """True when a visit of this point counts."""
        same = kind == self.kind or (self.kind == "message" and kind in _MESSAGES)
        return same and (self.of == of or fnmatchcase(of, self.of))

    def __repr__(self) -> str:
        return f"Fault({self.kind!r}, {self.of!r}, {self.visit}, {self.action!r})"


class FaultPlan:
    """
    A list of faults, each with its time.

    For example::

        plan = FaultPlan(
            Fault("init", "cache", 2, Raise(OSError, "disk full")),
            Fault("message", "client", 5, KillProcess()),
        )
        with applied(plan, runtime) as faults:
            ...
        assert not faults.unfired

    The same plan does the same to the same run. ``repr`` is the code that makes it.
    """

    __slots__ = ("faults",)

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults

    @classmethod
    def random(
        cls,
        seed: int,
        points: Iterable[FaultPoint],
        *,
        faults: int = 3,
        visits: int = 10,
        actions: Iterable[Action] = (KillProcess(),),
    ) -> Self:
        """
        Draw ``faults`` faults, each at one of the first ``visits`` visits of one of ``points``.

        The same seed and points, in whatever order, give the same plan. To learn which points there are, run under an
        empty plan and read ``AppliedFaults.visits``.
        """
        rng, choices, deeds = generator(seed), sorted(points), tuple(actions)
        drawn = []
        for _ in range(faults):
            kind, of = rng.choice(choices)
            possible = [each for each in deeds if kind != "event" or not isinstance(each, Delay)]
            drawn.append(Fault(kind, of, rng.randint(1, visits), rng.choice(possible)))
        return cls(*drawn)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FaultPlan) and other.faults == self.faults

    def __hash__(self) -> int:
        return hash(self.faults)

    def __repr__(self) -> str:
        if len(self.faults) < 2:
            return f"FaultPlan({', '.join(map(repr, self.faults))})"
        return "\n    ".join(["FaultPlan(", *(f"{fault!r}," for fault in self.faults)]) + "\n)"
