"""When to stop asking a provider that is down, and how to find out whether it is back: pure, told the time."""

from __future__ import annotations

from enum import Enum

__all__ = ["BreakerState", "CircuitBreaker"]


class BreakerState(Enum):
    """The answer of a circuit breaker to the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Stops asking a provider that is down, and finds out with one probe whether it is back.

    It opens when, among the last ``window`` seconds' outcomes, at least ``min_calls`` were seen and ``share`` of
    them were outages. Open, it refuses for ``cooldown`` seconds; then it is half open: one call is let through, and
    its outcome alone decides. A probe that hung costs its caller all its time: after each of these the cooldown is
    doubled, up to ``max_cooldown``. One that failed at once costs next to nothing, and a server that was restarted is
    to be found soon. Outcomes of calls sent before it opened change nothing.
    """

    __slots__ = (
        "_base_cooldown",
        "_cooldown",
        "_generation",
        "_max_cooldown",
        "_min_calls",
        "_opened_at",
        "_outcomes",
        "_probe",
        "_share",
        "_tickets",
        "_window",
        "may_probe",
        "state",
    )

    def __init__(
        self,
        *,
        share: float = 0.5,
        min_calls: int = 10,
        window: float = 10.0,
        cooldown: float = 1.0,
        max_cooldown: float = 30.0,
    ) -> None:
        if not 0 < share <= 1 or min_calls < 1 or window <= 0 or not 0 < cooldown <= max_cooldown:
            raise ValueError("a breaker needs 0 < share <= 1, min_calls >= 1, window > 0, 0 < cooldown <= max_cooldown")
        self.state = BreakerState.CLOSED
        self.may_probe = True
        """False while another process is to find out whether the provider is back."""
        self._share = share
        self._min_calls = min_calls
        self._window = window
        self._base_cooldown = self._cooldown = cooldown
        self._max_cooldown = max_cooldown
        self._opened_at = 0.0
        self._generation = 0
        self._tickets = 0
        self._probe: int | None = None
        self._outcomes: list[_Slice] = []

    def admit(self, now: float) -> int | None:
        """
        Return a ticket for one call, or ``None`` when it must not be sent.

        The ticket goes back with the outcome, exactly once, through ``succeeded``, ``failed`` or ``forgotten``.
        """
        if self.state is BreakerState.OPEN and self.retry_after(now) <= 0 and self.may_probe:
            self.state = BreakerState.HALF_OPEN
        if self.state is BreakerState.OPEN or (self.state is BreakerState.HALF_OPEN and self._probe is not None):
            return None
        self._tickets += 1
        if self.state is BreakerState.HALF_OPEN:
            self._probe = self._tickets
        return self._tickets

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is due; 0 when closed, half open or due."""
        return max(0.0, self._opened_at + self._cooldown - now) if self.state is BreakerState.OPEN else 0.0

    def succeeded(self, ticket: int, now: float) -> None:
        """Note an answer of any kind but an outage: an error that blames the caller proves the provider alive."""
        if self.state is BreakerState.HALF_OPEN and self._probe == ticket:
            self.state = BreakerState.CLOSED
            self._cooldown = self._base_cooldown
            self._start_afresh()
        elif self.state is BreakerState.CLOSED and ticket > self._generation:
            self._note(now, failed=False)

    def failed(self, ticket: int, now: float, *, hung: bool = False) -> None:
        """Note an outage; ``hung`` says that the provider kept silent until its caller's time was over."""
        if self._is_probe(ticket):
            self._cooldown = min(self._max_cooldown, self._cooldown * 2) if hung else self._base_cooldown
            self._open(now)
        elif self._counts(ticket):
            self._note(now, failed=True)
            calls = sum(piece.calls for piece in self._outcomes)
            failures = sum(piece.failures for piece in self._outcomes)
            if calls >= self._min_calls and failures >= self._share * calls:
                self._open(now)

    def forgotten(self, ticket: int) -> None:
        """Note that a call ended without telling anything (its caller gave it up): a probe's place is free again."""
        if self._is_probe(ticket):
            self._probe = None

    @property
    def is_probing(self) -> bool:
        """True while one call is out to find out whether the provider is back."""
        return self.state is BreakerState.HALF_OPEN and self._probe is not None

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
            self.state = BreakerState.CLOSED
            self._cooldown = self._base_cooldown
            self._start_afresh()

    def _is_well(self, now: float) -> bool:
        """True when the calls of the last fifth of the window went well by the breaker's own measure."""
        place = now // (self._window / 10)
        lately = [piece for piece in self._outcomes if piece.place >= place - 1]
        calls = sum(piece.calls for piece in lately)
        return calls > 0 and sum(piece.failures for piece in lately) < self._share * calls

    def _is_probe(self, ticket: int) -> bool:
        return self.state is BreakerState.HALF_OPEN and self._probe == ticket

    def _counts(self, ticket: int) -> bool:
        """True when this call was sent in the present closed period."""
        return self.state is BreakerState.CLOSED and ticket > self._generation

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self._opened_at = now
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Forget outcomes, and every ticket given so far."""
        self._probe = None
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
