"""When to stop asking a provider that is down, and how to find out whether it is back: pure, told the time."""

from __future__ import annotations

import math
from enum import Enum

__all__ = ["BreakerState", "CircuitBreaker"]


class BreakerState(Enum):
    """The answer of a circuit breaker to the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Stops asking a provider that is down, and finds out with single probes whether it is back.

    It opens when, among the last ``window`` seconds' outcomes, at least ``min_calls`` were seen and ``share`` of
    them were outages. Open, it refuses for ``cooldown`` seconds; then it is half open: one call is let through. Its
    failure opens the breaker again, its answer closes it. While it is silent, which may last as long as its caller's
    time, one more call is let through after each ``cooldown``: a server that was restarted is to be found soon, also
    where the connection of the first probe was lost without a word. Outcomes of calls sent before it opened change
    nothing.
    """

    __slots__ = (
        "_cooldown",
        "_generation",
        "_min_calls",
        "_opened_at",
        "_outcomes",
        "_probed_at",
        "_probes",
        "_share",
        "_tickets",
        "_window",
        "may_probe",
        "state",
    )

    def __init__(self, *, share: float = 0.5, min_calls: int = 10, window: float = 10.0, cooldown: float = 1.0) -> None:
        if not 0 < share <= 1 or min_calls < 1 or window <= 0 or cooldown <= 0:
            raise ValueError("a breaker needs 0 < share <= 1, min_calls >= 1, window > 0 and cooldown > 0")
        self.state = BreakerState.CLOSED
        self.may_probe = True
        """False while another process is to find out whether the provider is back."""
        self._share = share
        self._min_calls = min_calls
        self._window = window
        self._cooldown = cooldown
        self._opened_at = self._probed_at = 0.0
        self._generation = 0
        self._tickets = 0
        self._probes: set[int] = set()
        self._outcomes: list[_Slice] = []

    def admit(self, now: float) -> int | None:
        """
        Return a ticket for one call, or ``None`` when it must not be sent.

        The ticket goes back with the outcome, exactly once, through ``succeeded``, ``failed`` or ``forgotten``.
        """
        if self.state is BreakerState.OPEN and self.retry_after(now) <= 0 and self.may_probe:
            self.state = BreakerState.HALF_OPEN
            self._probed_at = -math.inf  # those that were out before it opened again do not count
        if self.state is BreakerState.OPEN or (self.state is BreakerState.HALF_OPEN and self.next_probe(now) > 0):
            return None
        self._tickets += 1
        if self.state is BreakerState.HALF_OPEN:
            self._probes.add(self._tickets)
            self._probed_at = now
        return self._tickets

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is due; 0 when closed, half open or due."""
        return max(0.0, self._opened_at + self._cooldown - now) if self.state is BreakerState.OPEN else 0.0

    def next_probe(self, now: float) -> float:
        """Seconds until one more probe may go out beside those that are silent; infinite where it is not half open."""
        if self.state is not BreakerState.HALF_OPEN:
            return math.inf
        return max(0.0, self._probed_at + self._cooldown - now) if self._probes else 0.0

    def succeeded(self, ticket: int, now: float) -> None:
        """Note an answer of any kind but an outage: an error that blames the caller proves the provider alive."""
        if ticket in self._probes:
            self._close()
        elif self._counts(ticket):
            self._note(now, failed=False)

    def failed(self, ticket: int, now: float) -> None:
        """Note an outage."""
        if ticket in self._probes:
            self._probes.discard(ticket)
            if self.state is BreakerState.HALF_OPEN:
                self._open(now)
        elif self._counts(ticket):
            self._note(now, failed=True)
            calls = sum(piece.calls for piece in self._outcomes)
            failures = sum(piece.failures for piece in self._outcomes)
            if calls >= self._min_calls and failures >= self._share * calls:
                self._open(now)

    def forgotten(self, ticket: int) -> None:
        """Note that a call ended without telling anything (its caller gave it up); the only probe's place is free."""
        self._probes.discard(ticket)

    @property
    def is_probing(self) -> bool:
        """True while a call is out to find out whether the provider is back."""
        return self.state is BreakerState.HALF_OPEN and bool(self._probes)

    def told_open(self, now: float, seconds: float) -> None:
        """
        Heed another process that sees an outage, for so many seconds: a hint.

        The outcomes of the last fifth of the window count for more, if any were seen; so does a probe that is out.
        """
        if self.is_probing or (self.state is BreakerState.CLOSED and self._is_well(now)):
            return
        if self.state is BreakerState.CLOSED:
            self._start_afresh()
        elif self.retry_after(now) >= seconds:
            return
        self.state = BreakerState.OPEN
        self._opened_at = now + seconds - self._cooldown

    def told_closed(self) -> None:
        """Heed another process that found the provider alive."""
        if self.state is not BreakerState.CLOSED and not self.is_probing:
            self._close()

    def _is_well(self, now: float) -> bool:
        """True when the calls of the last fifth of the window went well by the breaker's own measure."""
        place = now // (self._window / 10)
        lately = [piece for piece in self._outcomes if piece.place >= place - 1]
        calls = sum(piece.calls for piece in lately)
        return calls > 0 and sum(piece.failures for piece in lately) < self._share * calls

    def _counts(self, ticket: int) -> bool:
        """True when this call was sent in the present closed period."""
        return self.state is BreakerState.CLOSED and ticket > self._generation

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self._opened_at = now
        self._start_afresh()

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._probes.clear()
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Forget outcomes, and every ticket given so far but those of probes, whose answer still counts."""
        self._generation = self._tickets
        self._outcomes.clear()

    def _note(self, now: float, *, failed: bool) -> None:
        """Count an outcome in its tenth of the window, and drop the tenths that are over."""
        place = now // (self._window / 10)
        if not self._outcomes or self._outcomes[-1].place < place:
            self._outcomes.append(_Slice(place))
        self._outcomes[-1].calls += 1
        self._outcomes[-1].failures += failed
        while self._outcomes[0].place <= place - 10:
            del self._outcomes[0]

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state.value}>"


class _Slice:
    """The outcomes of one tenth of the window."""

    __slots__ = ("calls", "failures", "place")

    def __init__(self, place: float) -> None:
        self.place = place
        self.calls = 0
        self.failures = 0
