"""
When and how the provider fails: a pure plan, the same under any interleaving of requests.

A decision depends on the plan's seed, the SHA-256 of the request body and how often that body has arrived, and on
nothing else: not on time, not on other requests. A script, for tests, depends on the arrival order on a route.
"""

import enum
import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import NormalDist
from typing import Any

__all__ = ["Fault", "FaultKind", "FaultPlan", "FaultPlanInvalid", "Latency"]

_P95 = NormalDist().inv_cdf(0.95)


class FaultPlanInvalid(ValueError):
    """
    A plan cannot be carried out.

    Attributes:
        field: The member at fault.
    """

    def __init__(self, name: str, expected: str) -> None:
        self.field = name
        super().__init__(f"fault plan: {name} must be {expected}")


class FaultKind(enum.StrEnum):
    """
    The kinds of faults; a request meets one kind at most. Each dialect has its own status and words for a refusal.

    Refused, with the provider's own error: ``429`` (too fast, with a time to wait), ``slow_down`` (429: the ramp is too
    steep), ``quota`` and ``billing`` (no money or no daily quota: waiting does not help), ``500`` (or another 5xx),
    ``overloaded`` (503 or 529), ``504``, ``400`` (or another 4xx), ``401``, ``403``, ``404``, ``context`` (the prompt
    is too long). Broken: ``reset`` (the connection, after some bytes), ``hang`` (nothing comes), ``hang_body`` (half
    of it comes), ``truncate`` (the connection ends before the announced length or the last chunk), ``close`` (all is
    well, then the kept-alive connection is closed). Wrong: ``cut_stream`` (the stream ends without its end marker),
    ``stream_error`` (an error after status 200, inside the stream), ``malformed`` (no JSON), ``html`` (a page with
    status 200), ``redirect`` (307 to the same address), ``empty`` (no choice), ``refusal`` and ``filtered`` (the
    provider's policy). Harmless: ``split`` (cut anywhere, inside characters too), ``drip`` (the same, slowly).
    """

    NONE = "ok"
    RATE_LIMIT = "429"
    SLOW_DOWN = "slow_down"
    QUOTA = "quota"
    BILLING = "billing"
    SERVER_ERROR = "500"
    OVERLOADED = "overloaded"
    TIMEOUT = "504"
    INVALID = "400"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    CONTEXT = "context"
    RESET = "reset"
    HANG = "hang"
    HANG_BODY = "hang_body"
    TRUNCATE = "truncate"
    CLOSE = "close"
    CUT_STREAM = "cut_stream"
    STREAM_ERROR = "stream_error"
    MALFORMED = "malformed"
    HTML = "html"
    REDIRECT = "redirect"
    EMPTY = "empty"
    REFUSAL = "refusal"
    FILTERED = "filtered"
    SPLIT = "split"
    DRIP = "drip"


_NAMED = {
    FaultKind.RATE_LIMIT: "rate_429",
    FaultKind.SERVER_ERROR: "rate_500",
    FaultKind.RESET: "rate_reset",
    FaultKind.HANG: "rate_hang",
    FaultKind.TRUNCATE: "rate_truncate",
}
RETRY_FORMS = ("native", "seconds", "milliseconds", "date", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """
    Seconds until the first byte of an answer: lognormal by median and 95th percentile, or fixed.

    Attributes:
        median: Half of the answers take at most this long.
        p95: 19 of 20 take at most this long; 0 means all take the median.
        gap: Seconds between the events of a stream, always the same.
    """

    median: float = 0.0
    p95: float = 0.0
    gap: float = 0.0

    def __post_init__(self) -> None:
        if not _at_least_zero(self.median) or not _at_least_zero(self.p95):
            raise FaultPlanInvalid("latency", "a median and a p95 in seconds, not below 0")
        if self.p95 and not 0 < self.median <= self.p95:
            raise FaultPlanInvalid("latency", "a median above 0 and a p95 not below it")
        if not _at_least_zero(self.gap):
            raise FaultPlanInvalid("latency", "a gap in seconds, not below 0")

    def at(self, quantile: float) -> float:
        """Return the latency at a quantile between 0 and 1, both excluded."""
        if not self.p95:
            return self.median
        spread = math.log(self.p95 / self.median) / _P95
        return self.median * math.exp(spread * NormalDist().inv_cdf(quantile))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    The fault of one request.

    Attributes:
        kind: The kind of fault.
        delay: Seconds before it happens; a hang never ends by itself.
        gap: Seconds between the events of a stream.
        retry_after: Seconds a ``429``, a ``slow_down`` or an ``overloaded`` asks to wait.
        retry_form: The form of the request to wait: ``native`` as the provider does, ``seconds`` or ``milliseconds`` in
            that header alone, ``date`` as an HTTP date, ``none`` not at all.
        should_retry: The value of the header ``x-should-retry`` of a refusal; None sends none.
        status: The HTTP status of a ``500`` or a ``400``, another one of its family; the kind's own when None.
        after_bytes: The bytes of the response that are sent before a reset; for ``truncate`` and ``hang_body``, the
            bytes of its body, or None for half of it.
        piece: The bytes that ``split`` and ``drip`` send at a time.
        pause: Seconds between the pieces of a ``drip``.
    """

    kind: FaultKind = FaultKind.NONE
    delay: float = 0.0
    gap: float = 0.0
    retry_after: float = 1.0
    retry_form: str = "native"
    should_retry: bool | None = None
    status: int | None = None
    after_bytes: int | None = None
    piece: int = 1
    pause: float = 0.01

    def __post_init__(self) -> None:
        if not _is_a(FaultKind, self.kind):
            raise FaultPlanInvalid("kind", "a FaultKind")
        if not _at_least_zero(self.delay) or not _at_least_zero(self.retry_after):
            raise FaultPlanInvalid("delay", "and retry_after too, in seconds, not below 0")
        low = 400 if self.kind is FaultKind.INVALID else 500
        if self.status is not None and (not _is_a(int, self.status) or not low <= self.status <= low + 99):
            raise FaultPlanInvalid("status", f"from {low} to {low + 99}, or None")
        if self.after_bytes is not None and (not _is_a(int, self.after_bytes) or self.after_bytes < 0):
            raise FaultPlanInvalid("after_bytes", "a number of bytes, or None")
        if self.retry_form not in RETRY_FORMS:
            raise FaultPlanInvalid("retry_form", f"one of {', '.join(RETRY_FORMS)}")
        if self.should_retry is not None and not isinstance(self.should_retry, bool):
            raise FaultPlanInvalid("should_retry", "true, false or None")
        if not _is_a(int, self.piece) or self.piece < 1:
            raise FaultPlanInvalid("piece", "at least 1 byte")
        if not _at_least_zero(self.pause) or not _at_least_zero(self.gap):
            raise FaultPlanInvalid("pause", "and gap too, in seconds, not below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """
    The rate of each kind of fault, and its details.

    Attributes:
        seed: Another seed fails other requests at the same rates.
        latency: The duration of answers, faults other than hangs included.
        rate_429: Share of requests refused for their rate; the other rates likewise. Together at most 1.
        shares: The share of any kind, by the kind; five of them have a member of their own, and may stand in either.
        retry_after: Seconds a refusal asks to wait; see `Fault` for the forms.
        retry_form: The form of the request to wait.
        reset_after_bytes: Bytes of the response sent before a reset; 0 resets before any byte.
        piece: The bytes that ``split`` and ``drip`` send at a time.
        pause: Seconds between the pieces of a ``drip``.
        script: By path, the faults of the first requests on it, in order of arrival; then the rates apply.
    """

    seed: int = 0
    latency: Latency = field(default_factory=Latency)
    rate_429: float = 0.0
    rate_500: float = 0.0
    rate_reset: float = 0.0
    rate_hang: float = 0.0
    rate_truncate: float = 0.0
    shares: Mapping[FaultKind, float] = field(default_factory=dict)
    retry_after: float = 1.0
    retry_form: str = "native"
    reset_after_bytes: int = 0
    piece: int = 1
    pause: float = 0.01
    script: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)
    _table: tuple[tuple[Fault, float], ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if not _is_a(int, self.seed):
            raise FaultPlanInvalid("seed", "a whole number")
        if not isinstance(self.shares, Mapping) or not all(isinstance(kind, FaultKind) for kind in self.shares):
            raise FaultPlanInvalid("shares", "an object from kinds to shares")
        for kind, name in _NAMED.items():
            if not _is_share(getattr(self, name)):
                raise FaultPlanInvalid(name, "from 0 to 1")
            if getattr(self, name) and self.shares.get(kind):
                raise FaultPlanInvalid(name, f"given once: it is in shares as {kind.value!r} too")
        for kind, rate in self.shares.items():
            if kind is FaultKind.NONE or not _is_share(rate):
                raise FaultPlanInvalid(f"shares.{kind}", "a fault, from 0 to 1")
        if math.fsum(self.rates().values()) > 1 + 1e-9:
            raise FaultPlanInvalid("rates", "at most 1 together")
        if not _is_a(Latency, self.latency) or not _is_a(Mapping, self.script):
            raise FaultPlanInvalid("latency", "a Latency, and script a mapping")
        if wrong := [path for path in self.script if not str(path).startswith("/")]:
            raise FaultPlanInvalid("script", f"by path, such as /v1/chat/completions, not {wrong[0]!r}")
        calm = self._drawn(FaultKind.NONE)  # also checks what a fault is made of
        rates = {kind: rate for kind, rate in self.rates().items() if rate}
        table = zip(map(self._drawn, rates), itertools.accumulate(rates.values()), strict=True)
        # Frozen, so it is set as the dataclass sets its own; the last is drawn when none of the others is.
        object.__setattr__(self, "_table", (*table, (calm, math.inf)))

    def rates(self) -> dict[FaultKind, float]:
        """Return the rate of each kind that has one, in the order they are drawn in, and of five that always have."""
        named = {kind: getattr(self, name) or self.shares.get(kind, 0.0) for kind, name in _NAMED.items()}
        return named | {kind: self.shares[kind] for kind in FaultKind if kind in self.shares and kind not in named}

    def _drawn(self, kind: FaultKind) -> Fault:
        return Fault(
            kind=kind,
            delay=self.latency.median,
            gap=self.latency.gap,
            retry_after=self.retry_after,
            retry_form=self.retry_form,
            after_bytes=self.reset_after_bytes if kind is FaultKind.RESET else None,
            piece=self.piece,
            pause=self.pause,
        )

    def decide(self, digest: bytes, arrival: int) -> Fault:
        """
        Decide what happens to one request.

        Args:
            digest: SHA-256 of the request body.
            arrival: The number of earlier arrivals of this body.
        """
        source = hashlib.sha256(b"%d\n%b%d" % (self.seed, digest, arrival)).digest()
        mark, quantile = ((int.from_bytes(part) + 0.5) / 2**48 for part in (source[:6], source[6:12]))
        fault = next(fault for fault, below in self._table if mark < below)
        return replace(fault, delay=self.latency.at(quantile)) if self.latency.p95 else fault

    def scripted(self, path: str, arrival: int) -> Fault | None:
        """Return what the script says about the request number `arrival`, from 0, on a path, if anything."""
        faults = self.script.get(path, ())
        return faults[arrival] if arrival < len(faults) else None

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON values, which `from_json` reads back."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    @classmethod
    def from_json(cls, value: object) -> "FaultPlan":
        """
        Read a plan from JSON values; what is left out keeps its default, and a fault may be its kind alone.

        Raises:
            FaultPlanInvalid: A member is unknown, of the wrong type or out of range.
        """
        members = _members(cls, value, "plan")
        if "latency" in members:
            members["latency"] = Latency(**_members(Latency, members["latency"], "latency"))
        script = members.get("script", {})
        if not isinstance(script, Mapping) or not all(isinstance(faults, list | tuple) for faults in script.values()):
            raise FaultPlanInvalid("script", "an object of lists")
        shares = members.get("shares", {})
        if not isinstance(shares, Mapping):
            raise FaultPlanInvalid("shares", "an object from kinds to shares")
        members["shares"] = {_kind(kind): share for kind, share in shares.items()}
        members["script"] = {path: tuple(_fault(one) for one in faults) for path, faults in script.items()}
        return cls(**members)


def _members(cls: type, value: object, name: str) -> dict[str, Any]:  # Any: each class checks its own members
    if not isinstance(value, Mapping):
        raise FaultPlanInvalid(name, "an object")
    known = {one.name for one in fields(cls) if one.init}
    if unknown := sorted(set(value) - known):
        raise FaultPlanInvalid(str(unknown[0]), f"one of {', '.join(sorted(known))}")
    return dict(value)


def _fault(value: object) -> Fault:
    members = _members(Fault, {"kind": value} if isinstance(value, str) else value, "fault")
    return Fault(**{**members, "kind": _kind(members.get("kind", FaultKind.NONE))})


def _kind(value: object) -> FaultKind:
    if not isinstance(value, str) or value not in set(FaultKind):
        raise FaultPlanInvalid("kind", f"one of {', '.join(FaultKind)}")
    return FaultKind(value)


def _is_share(value: object) -> bool:
    return _at_least_zero(value) and isinstance(value, int | float) and value <= 1


def _at_least_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
