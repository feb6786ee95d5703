"""The description of a child that a supervisor needs, validated when it is written down."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from dspex._guard import exact_text
from dspex.errors import SpecError
from dspex.runtime._actor import Actor
from dspex.runtime._deadlines import LONGEST
from dspex.runtime._via import Via

__all__ = ["AutoShutdown", "Backoff", "ChildSpec", "Restart", "RestartLimit", "RestartStrategy", "ShutdownPolicy"]


class Restart(enum.Enum):
    """When a child that has ended is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """After an abnormal exit only."""
    TEMPORARY = "temporary"
    """Never."""


class RestartStrategy(enum.Enum):
    """The children that are restarted with a child that crashed."""

    ONE_FOR_ONE = "one_for_one"
    """Nobody else."""
    ONE_FOR_ALL = "one_for_all"
    """All its siblings."""
    REST_FOR_ONE = "rest_for_one"
    """Those started after it."""


class AutoShutdown(enum.Enum):
    """The rule by which a supervisor ends when its significant children have done their work."""

    NEVER = "never"
    """It does not, and no child may be significant."""
    ANY_SIGNIFICANT = "any_significant"
    """When the first significant child has ended by itself."""
    ALL_SIGNIFICANT = "all_significant"
    """When the last one has."""


class ShutdownPolicy(enum.Enum):
    """A way to stop a child, other than by a number of seconds."""

    BRUTAL_KILL = "brutal_kill"
    """Kill it at once."""
    INFINITY = "infinity"
    """Wait as long as it takes."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    Restart without limit, but ever more slowly: an extension of OTP for services that must come back.

    The delay starts at ``initial`` seconds and doubles up to ``maximum`` with each exit of a child that lived no longer
    than it was waited for; so one that is killed again and again is away for half of the time at most. It starts
    afresh after ``reset_after`` seconds of health. After ``unavailable_after`` failed starts running, callers by name
    are told so.

    Raises:
        SpecError: A value is not valid; it names the field.
    """

    initial: float = 0.01
    maximum: float = 1.0
    reset_after: float = 5.0
    unavailable_after: int = 5

    def __post_init__(self) -> None:
        check_seconds("initial", self.initial, minimum=0.0)
        check_seconds("maximum", self.maximum, minimum=float(self.initial))
        check_seconds("reset_after", self.reset_after, minimum=0.0)
        if not isinstance(self.unavailable_after, int) or self.unavailable_after < 1:
            raise SpecError("unavailable_after", self.unavailable_after, "an int >= 1")


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """
    The limit of restarts of one child: an extension of OTP, where all children share one limit.

    A child that has one does not use up its supervisor's; one restart too many, and the supervisor gives up.

    Raises:
        SpecError: A value is not valid; it names the field.
    """

    max_restarts: int = 3
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not isinstance(self.max_restarts, int) or isinstance(self.max_restarts, bool) or self.max_restarts < 0:
            raise SpecError("max_restarts", self.max_restarts, "an int >= 0")
        check_seconds("max_seconds", self.max_seconds, minimum=1e-9)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """
    Instructions to start, restart and stop one child.

    Args:
        id: Unique inside one supervisor.
        start: Makes a fresh actor for each incarnation, from ``args`` and ``kwargs``.
        restart: PERMANENT by default.
        shutdown: Seconds between the request to stop and the kill; 5 for workers, INFINITY for supervisors.
        kind: ``"worker"`` or ``"supervisor"``; by default what the class of the actor says (``Actor.kind``), which for
            a ``start`` that is not a class is known when it has made one.
        name: Registered in the runtime for whoever of the incarnations lives.
        via: The same under a key of a registry of yours: ``registry.via(key)``; a child may have both.
        significant: Its end may end the supervisor, as ``auto_shutdown`` says; not for PERMANENT children.
        limit: The limit of its own restarts; without one its supervisor's limit holds (an extension of OTP).
        backoff: Restart it ever more slowly (an extension of OTP); whom the strategy restarts with it goes on
            meanwhile. Unlike a supervisor's ``backoff``, this does not lift the limit.

    Raises:
        SpecError: A value is not valid; it names the field.
    """

    id: str
    start: Callable[..., Actor]
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    restart: Restart = Restart.PERMANENT
    shutdown: float | ShutdownPolicy | None = None
    kind: Literal["worker", "supervisor"] | None = None
    name: str | None = None
    significant: bool = False
    limit: RestartLimit | None = None
    backoff: Backoff | None = None
    via: Via | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise SpecError("id", self.id, "a non-empty string")
        object.__setattr__(self, "id", exact_text(self.id))
        if self.name is not None:
            object.__setattr__(self, "name", exact_name(self.name))
        if not callable(self.start):
            raise SpecError("start", self.start, "a callable that returns an Actor")
        if not isinstance(self.restart, Restart):
            raise SpecError("restart", self.restart, "a member of Restart")
        if self.kind is None:
            object.__setattr__(self, "kind", _kind_of(self.start))
        elif self.kind not in ("worker", "supervisor"):
            raise SpecError("kind", self.kind, "'worker' or 'supervisor'")
        if not isinstance(self.significant, bool):
            raise SpecError("significant", self.significant, "a bool")
        if self.significant and self.restart is Restart.PERMANENT:
            raise SpecError("significant", self.significant, "False for a PERMANENT child, which never ends by itself")
        if self.limit is not None and not isinstance(self.limit, RestartLimit):
            raise SpecError("limit", self.limit, "None or a RestartLimit")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise SpecError("backoff", self.backoff, "None or a Backoff")
        if self.via is not None and not isinstance(self.via, Via):
            raise SpecError("via", self.via, "None or what Registry.via(key) returns")
        if self.shutdown is None:
            if self.kind is not None:
                default = ShutdownPolicy.INFINITY if self.kind == "supervisor" else 5.0
                object.__setattr__(self, "shutdown", default)
        elif not isinstance(self.shutdown, ShutdownPolicy):
            check_seconds("shutdown", self.shutdown, minimum=0.0)

    def resolved(self, kind: Literal["worker", "supervisor"]) -> ChildSpec:
        """Return this spec with what depends on the kind of the actor filled in."""
        return replace(self, kind=kind)

    @property
    def grace(self) -> float | None:
        """Seconds to wait between the request to stop and the kill; None is for ever, 0 may mean not at all."""
        if self.shutdown is ShutdownPolicy.INFINITY:
            return None
        return 0.0 if isinstance(self.shutdown, ShutdownPolicy) or self.shutdown is None else float(self.shutdown)


def _kind_of(start: Callable[..., Actor]) -> Literal["worker", "supervisor"] | None:
    while isinstance(start, partial):
        start = start.func
    return start.kind if isinstance(start, type) and issubclass(start, Actor) else None


def exact_name(name: object) -> str:
    """Return ``name`` as a ``str`` proper; SpecError if it is not text."""
    if not isinstance(name, str):
        raise SpecError("name", name, "None or a string")
    return exact_text(name)


def check_seconds(field_name: str, value: object, *, minimum: float) -> None:
    """Raise SpecError unless ``value`` is a finite number of seconds from ``minimum`` on."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not minimum <= value <= LONGEST:  # type: ignore[operator]  # number says so
        raise SpecError(field_name, value, f"a number of seconds >= {minimum:g}")
