"""The closed set of values a handler returns: they say what happens next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._exit import NORMAL, ExitReason

__all__ = ["Continue", "Idle", "Ignore", "Next", "NoReply", "Reply", "Started", "Stop"]


class _Nothing:
    __slots__ = ()


NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class Continue:
    """Run ``handle_continue(argument)`` before any queued message."""

    argument: object = None


@dataclass(frozen=True, slots=True)
class Idle:
    """
    Deliver ``IdleTimeout`` to ``handle_info`` unless a message comes within ``seconds``.

    Raises:
        SpecError: ``seconds`` is not a number.
    """

    seconds: float

    def __post_init__(self) -> None:
        finite_timeout(self.seconds)


@dataclass(unsafe_hash=True, slots=True)  # a frozen one takes three times as long to make, and is made for each call
class Reply:
    """Answer the call, then go on; never changed once it is made."""

    value: object = None
    then: Continue | Idle | None = None


@dataclass(frozen=True, slots=True)
class NoReply:
    """Go on; a call is answered later through its ``From``."""

    then: Continue | Idle | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End with ``reason``: ``terminate`` runs first, then ``reply`` (if given) is sent."""

    reason: ExitReason = NORMAL
    reply: object = NOTHING


@dataclass(frozen=True, slots=True)
class Ignore:
    """Returned by ``init``: do not start, and do not call it a failure."""

    def __str__(self) -> str:
        return "init returned Ignore"


@dataclass(frozen=True, slots=True)
class Started:
    """Returned by ``init``: started, and ``info`` is for who started it (``ActorRef.start_info``)."""

    info: object
    then: Continue | Idle | None = None


Next = Reply | NoReply | Stop | Continue | Idle | None
