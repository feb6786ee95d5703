"""
A judgement on a client, from the arrivals of its requests alone.

Arrivals belong to one *call* when they carry the same idempotency key, else the same ``x-client-request-id``, else the
same body; of those that only share a body, one that follows an answer begins a new call.
"""

import bisect
import enum
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

__all__ = ["Arrival", "ConformanceReport", "Finding", "FindingKind", "NotResilient", "judge"]

_ANSWERED = frozenset({"ok", "split", "drip", "close"})
_SPENT = frozenset({"quota", "billing"})
_REFUSED = frozenset({"rejected", "400", "401", "403", "404", "context", "refusal", "filtered"})
_TRANSIENT = frozenset({408, 409, 425, 429})
_TOLERANCE = 0.001  # seconds: timers of an event loop have this grain
_WAITS = frozenset({"429", "slow_down", "limited"})


class FindingKind(enum.StrEnum):
    """The mistakes that a client can make."""

    EARLY_RETRY = "early_retry"
    QUOTA_RETRIED = "quota_retried"
    CALLER_ERROR_RETRIED = "caller_error_retried"
    RETRY_FORBIDDEN = "retry_forbidden"
    CONCURRENT_DUPLICATE = "concurrent_duplicate"
    REPEATED_AFTER_ANSWER = "repeated_after_answer"
    ATTEMPT_NUMBER = "attempt_number"
    NOT_RECONNECTED = "not_reconnected"
    CONCURRENCY_RAISED = "concurrency_raised"
    EXTRA_LOAD = "extra_load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """
    One request, as the simulator saw it; times are seconds of its own clock.

    Attributes:
        number: Which it is, from 1, in order of arrival.
        call: The name of the logical call it belongs to.
        named_by: The source of that name: a header, or ``body`` for the SHA-256 of the body.
        attempt: Which attempt of the call it says it is.
        at: When it had been read.
        ended: When its answer had been sent; None while it is under way.
        path: Where it was sent to.
        connection: Which connection it came on, from 1.
        in_flight: The number of requests under way, itself included.
        outcome: The end of the request: a fault's kind, ``ok``, ``rejected``, ``limited``, ``cancelled``, or ``stale``
            for one that was written to a connection the simulator had closed.
        status: The HTTP status of the answer.
        retry_after: Seconds the answer asked to wait.
        should_retry: The answer's word about retrying.
    """

    number: int = 0
    call: str
    named_by: str = "body"
    attempt: int | None = None
    at: float
    ended: float | None = None
    path: str = ""
    connection: int = 0
    in_flight: int = 1
    outcome: str = ""
    status: int = 0
    retry_after: float | None = None
    should_retry: bool | None = None

    @property
    def is_answered(self) -> bool:
        """True when the answer was one to keep."""
        return self.outcome in _ANSWERED

    @property
    def is_refused(self) -> bool:
        """True when the answer says that the request itself is wrong."""
        return self.outcome in _REFUSED and self.status not in _TRANSIENT and self.should_retry is not True


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing a client did wrong.

    Attributes:
        kind: The mistake.
        text: In one line.
        call: In which call, empty when it concerns several.
        arrivals: The numbers of the requests that show it.
    """

    kind: FindingKind
    text: str
    call: str = ""
    arrivals: tuple[int, ...] = ()


class NotResilient(AssertionError):
    """
    A client misbehaved.

    Attributes:
        findings: The details, one by one.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(["the client is not resilient:", *(f"- {one.text}" for one in findings)]))


@dataclass(frozen=True, slots=True)
class ConformanceReport:
    """
    The judgement on a client.

    Attributes:
        calls: Logical calls.
        requests: Requests, redirects that were followed left out.
        answered: Calls that were answered in the end.
        reconnected: Requests that came again on a new connection after one was closed under them.
        findings: Its mistakes, in order of arrival.
    """

    calls: int
    requests: int
    answered: int
    reconnected: int
    findings: tuple[Finding, ...]

    @property
    def extra_load(self) -> float:
        """Requests beyond the first of each call, as a share of the calls."""
        return (self.requests - self.calls) / self.calls if self.calls else 0.0

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """Return the findings of one kind."""
        return tuple(one for one in self.findings if one.kind is kind)

    def assert_resilient(self, *, max_extra_load: float | None = None, allow: Collection[FindingKind] = ()) -> None:
        """
        Fail a test if the client misbehaved.

        Args:
            max_extra_load: The number of allowed requests beyond the first of each call, as a share of the calls.
            allow: Kinds of findings that are all right, such as concurrent duplicates of a client that hedges.

        Raises:
            NotResilient: It did; the message has a line for each finding.
        """
        found = [one for one in self.findings if one.kind not in allow]
        if max_extra_load is not None and self.extra_load > max_extra_load + 1e-9:
            text = f"retries added {self.extra_load:.0%} load to {self.calls} calls; {max_extra_load:.0%} is allowed"
            found.append(Finding(FindingKind.EXTRA_LOAD, text))
        if found:
            raise NotResilient(found)

    def __str__(self) -> str:
        head = f"{self.calls} calls, {self.answered} answered, {self.requests} requests, {self.extra_load:.0%} extra"
        return "\n".join([head, *(one.text for one in self.findings)])

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON values."""
        return {**asdict(self), "extra_load": self.extra_load}


def judge(arrivals: Iterable[Arrival]) -> ConformanceReport:
    """Judge a client by the arrivals of its requests."""
    seen = sorted(arrivals, key=lambda one: (one.at, one.number))
    calls = [_without_followed(call) for call in _calls(seen)]
    found = [finding for call in calls for finding in _of_call(call)]
    found += _raised(seen)
    return ConformanceReport(
        calls=len(calls),
        requests=sum(map(len, calls)),
        answered=sum(any(one.is_answered for one in call) for call in calls),
        reconnected=sum(_reconnected(call) for call in calls),
        findings=tuple(sorted(found, key=lambda one: one.arrivals)),
    )


def _calls(seen: Iterable[Arrival]) -> list[list[Arrival]]:
    """Gather the requests of each call, in order of arrival."""
    current: dict[tuple[str, str, str], list[Arrival]] = {}
    calls: list[list[Arrival]] = []
    for one in seen:
        name = (one.path, one.named_by, one.call)
        held = current.get(name)
        if held is None or (one.named_by == "body" and _begins_anew(one, held)):
            held = current[name] = []
            calls.append(held)
        held.append(one)
    return calls


def _without_followed(call: Sequence[Arrival]) -> list[Arrival]:
    """Leave out redirects that were followed: what came next is not a retry."""
    return [one for one in call[:-1] if one.outcome != "redirect"] + [call[-1]]


def _begins_anew(one: Arrival, held: Sequence[Arrival]) -> bool:
    last = held[-1]
    if one.attempt is not None and held[0].attempt is not None and one.attempt <= held[0].attempt:
        return True
    return last.is_answered and last.ended is not None and last.ended <= one.at


def _of_call(call: Sequence[Arrival]) -> Iterator[Finding]:
    for before, one in itertools.pairwise(call):
        shown = (before.number, one.number)
        where = _where(one)
        if before.ended is None or one.at < before.ended:
            text = f"{where} was sent again while request {before.number} was still under way"
            yield Finding(FindingKind.CONCURRENT_DUPLICATE, text, one.call, shown)
        else:
            yield from _of_retry(before, one, where, shown)
        if before.attempt is not None and (one.attempt is None or one.attempt <= before.attempt):
            text = f"{where} says it is attempt {one.attempt}, after attempt {before.attempt}"
            yield Finding(FindingKind.ATTEMPT_NUMBER, text, one.call, shown)
    last = call[-1]
    if last.outcome == "stale":
        text = f"{_where(last)} was written to a connection closed by the server, and never sent on a new one"
        yield Finding(FindingKind.NOT_RECONNECTED, text, last.call, (last.number,))


def _of_retry(before: Arrival, one: Arrival, where: str, shown: tuple[int, int]) -> Iterator[Finding]:
    assert before.ended is not None, "a retry follows an end"
    waited = one.at - before.ended
    if before.outcome in _SPENT:
        text = f"{where} was sent again although the quota is spent ({before.outcome})"
        yield Finding(FindingKind.QUOTA_RETRIED, text, one.call, shown)
    elif before.is_refused:
        text = f"{where} was sent again although the request was refused as wrong ({before.outcome})"
        yield Finding(FindingKind.CALLER_ERROR_RETRIED, text, one.call, shown)
    elif before.should_retry is False:
        text = f"{where} was sent again although x-should-retry was false"
        yield Finding(FindingKind.RETRY_FORBIDDEN, text, one.call, shown)
    elif before.is_answered:
        text = f"{where} was sent again after it had been answered"
        yield Finding(FindingKind.REPEATED_AFTER_ANSWER, text, one.call, shown)
    elif before.retry_after is not None and waited < before.retry_after - _TOLERANCE:
        text = f"{where} was sent again after {waited:.3f} s; Retry-After was {before.retry_after:g} s"
        yield Finding(FindingKind.EARLY_RETRY, text, one.call, shown)


def _raised(seen: Sequence[Arrival]) -> Iterator[Finding]:
    """Find requests that raised the concurrency to a new height while a 429 asked to wait."""
    times = [one.at for one in seen]
    peaks = list(itertools.accumulate((one.in_flight for one in seen), max))
    for told in seen:
        if told.outcome not in _WAITS or told.ended is None or not told.retry_after:
            continue
        first = bisect.bisect_right(times, told.ended)
        after = seen[first : bisect.bisect_left(times, told.ended + told.retry_after)]
        highest = max(after, key=lambda one: one.in_flight, default=None)
        peak = peaks[first - 1]
        if highest is not None and highest.in_flight > peak:
            text = f"{highest.in_flight} requests were in flight while a 429 asked to wait, {peak} had been before it"
            yield Finding(FindingKind.CONCURRENCY_RAISED, text, "", (told.number, highest.number))


def _reconnected(call: Sequence[Arrival]) -> int:
    broken = ("reset", "truncate", "stale", "hang", "hang_body")
    pairs = itertools.pairwise(call)
    return sum(before.outcome in broken and one.connection != before.connection for before, one in pairs)


def _where(one: Arrival) -> str:
    return f"call {one.call[:12]} on {one.path}"
