"""Which member of a pool is asked next, and when a second one is asked at the same time: pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dspex.errors import (
    AuthFailed,
    ContextTooLong,
    LMError,
    QuotaExhausted,
    RequestRejected,
)
from dspex.protocols.model import LM, LMPool
from dspex.services.lm.retry import LOCAL

__all__ = ["HedgeBudget", "Round", "may_answer_elsewhere", "order_of"]


def order_of(
    pool: LM | LMPool, resolve: Callable[[str | LM | LMPool], LM | LMPool], rand: Callable[[], float]
) -> list[LM]:
    """
    Return the members in the order in which one call asks them, nested pools unfolded in their place.

    Without weights that is the order given. With weights it is drawn: the first by its share, the next by its share
    among the rest, so that a choice among those that can answer is fair whoever cannot. A weight of 0 is a reserve,
    asked after all others. A model that is in there twice is asked where it comes first.
    """
    if isinstance(pool, LM):
        return [pool]
    members = list(pool.members)
    if pool.weights:
        members = _drawn(members, pool.weights, rand)
    found = [lm for each in members for lm in order_of(resolve(each), resolve, rand)]
    return list(dict.fromkeys(found))


def _drawn(
    members: Sequence[str | LM | LMPool], weights: Sequence[float], rand: Callable[[], float]
) -> list[str | LM | LMPool]:
    """Return a weighted random permutation (Efraimidis and Spirakis, 2006): each draws ``-log(1 - r) / weight``."""
    times = [-math.log1p(-rand()) / weight if weight > 0 else math.inf for weight in weights]
    return [members[i] for i in sorted(range(len(members)), key=lambda i: (times[i], i))]


def may_answer_elsewhere(error: LMError) -> bool:
    """
    True when another member may answer a question that this one could not.

    A refused key, an empty balance, an outage or an overload are the member's own. So is a window that is too short:
    windows differ. A request that is wrong, or refused by policy, is the caller's: shopping for a provider that takes
    it is not for a library to do. Limits of the user's own that a call cannot fit are the member's, too.
    """
    if isinstance(error, (ContextTooLong, AuthFailed, QuotaExhausted)) or error.is_retryable or error.should_retry:
        return True
    return isinstance(error, RequestRejected) and error.code == LOCAL


class Round:
    """
    The state of the members for one call: when each may be asked again, and which are out for this call.

    Args:
        count: The number of members.
    """

    __slots__ = ("_ready_at", "attempts")

    def __init__(self, count: int) -> None:
        self._ready_at = [-math.inf] * count
        self.attempts = [0] * count
        """Attempts and refusals so far, by member."""

    def due(self, now: float) -> list[int]:
        """Return the members that may be asked now, in their order."""
        return [member for member, at in enumerate(self._ready_at) if at <= now]

    def next_at(self) -> float | None:
        """Return when the first member may be asked again; ``None`` when all are out."""
        soonest = min(self._ready_at)
        return soonest if soonest < math.inf else None

    def wait(self, member: int, until: float) -> None:
        """Note that a member is to be left alone until then."""
        self._ready_at[member] = until

    def out(self, member: int) -> None:
        """Note that a member cannot answer this call."""
        self._ready_at[member] = math.inf

    def left(self) -> bool:
        """True when any member may still answer."""
        return self.next_at() is not None


class HedgeBudget:
    """
    Keeps second asks a share of the calls: each call earns ``share`` of one.

    At most ``ceiling`` are saved up, so that a quiet hour does not pay for a storm.
    """

    __slots__ = ("_ceiling", "_share", "_tokens", "calls", "hedges")

    def __init__(self, share: float, *, ceiling: float = 10.0) -> None:
        self._share = share
        self._ceiling = max(1.0, ceiling)
        self._tokens = 0.0
        self.calls = 0
        self.hedges = 0

    def earn(self) -> None:
        """Note a call."""
        self.calls += 1
        self._tokens = min(self._ceiling, self._tokens + self._share)

    @property
    def available(self) -> bool:
        """True when a second ask may be spent."""
        return self._tokens >= 1.0 - 1e-9

    def spend(self) -> bool:
        """Take one second ask; ``False`` when there is none."""
        if not self.available:
            return False
        self._tokens -= 1.0
        self.hedges += 1
        return True

    def refund(self) -> None:
        """Put one back: nobody could be asked."""
        self._tokens += 1.0
        self.hedges -= 1
