"""The words between a step and the client of a model: asking for a lease, and giving it back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from dspex.errors import LMError
    from dspex.protocols.lm import Usage
    from dspex.runtime import ProcessRef
    from dspex.services.lm.retry import Raise

__all__ = ["Acquire", "Busy", "Settle", "Settled"]

W = TypeVar("W")


class Acquire(NamedTuple):
    """
    Ask for a lease for one attempt; answered by ``Lease``, ``RetryAfter``, ``Raise`` or ``Busy``.

    Attributes:
        holder: The process that will make the attempt; its death gives the lease back.
        attempt: The number of the attempt at this model, from 1.
        deadline: When its caller's time is over.
        priority: Lower numbers are served first when calls wait.
        prompt: Tokens of the prompt, estimated.
        answer: Tokens of the longest answer; ``None`` where nothing limits it.
        queue: False wants ``Busy`` rather than to wait.
        hedge: A second ask of a call that is on the wire already: only where nothing is amiss. Implies no queue.
        waited: Seconds that the call has waited between its tries; infinite where it has elsewhere to go.
    """

    holder: ProcessRef
    attempt: int
    deadline: float
    priority: int = 0
    prompt: int = 0
    answer: int | None = 0
    queue: bool = True
    hedge: bool = False
    waited: float = math.inf


class Busy(NamedTuple):
    """There is no lease now; perhaps in ``wait`` seconds, or, where that is infinite, when others are done."""

    wait: float


class Settle(NamedTuple):
    """
    Give a lease back with what its attempt came to; a call is answered by ``RetryAfter`` or ``Raise``.

    ``cancelled`` says that the attempt was broken off by its own caller: it tells nothing about the provider, unless
    it was the caller's deadline and the provider had been silent for long. ``waited`` is as in ``Acquire``;
    ``unconnected`` are the seconds that the call's attempts spent on connections that never came about.
    """

    lease: int
    error: LMError | None
    attempt: int
    deadline: float
    usage: Usage | None = None
    cancelled: bool = False
    waited: float = math.inf
    unconnected: float = 0.0


class Settled(NamedTuple, Generic[W]):
    """
    News from a lease that was settled.

    Attributes:
        key_changed: The key was found to be refused, or good again: every model on it is to look again.
        hopeless: Waiters whose time is over before the provider may be asked again, and what they are told.
    """

    key_changed: bool = False
    hopeless: tuple[tuple[W, Raise], ...] = ()
