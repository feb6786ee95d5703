"""
When and how the provider fails: a pure plan, the same under any interleaving of requests.

A decision depends on the plan's seed, the SHA-256 of the request body and how often that body has arrived, and on
nothing else: not on time, not on other requests. A script, for tests, depends on the arrival order on a route.
"""

import enum
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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
    """What happens to a request; the kinds exclude each other."""

    NONE = "ok"
    RATE_LIMIT = "429"
    SERVER_ERROR = "500"
    RESET = "reset"
    HANG = "hang"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """
    Seconds until the first byte of an answer: lognormal by median and 95th percentile, or fixed.

    Attributes:
        median: Half of the answers take at most this long.
        p95: 19 of 20 take at most this long; 0 means all take the median.
    """

    median: float = 0.0
    p95: float = 0.0

    def __post_init__(self) -> None:
        if not _at_least_zero(self.median) or not _at_least_zero(self.p95):
            raise FaultPlanInvalid("latency", "a median and a p95 in seconds, not below 0")
        if self.p95 and not 0 < self.median <= self.p95:
            raise FaultPlanInvalid("latency", "a median above 0 and a p95 not below it")

    def at(self, quantile: float) -> float:
        """Return the latency at a quantile between 0 and 1, both excluded."""
        if not self.p95:
            return self.median
        spread = math.log(self.p95 / self.median) / _P95
        return self.median * math.exp(spread * NormalDist().inv_cdf(quantile))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    What to do with one request.

    Attributes:
        kind: What happens.
        delay: Seconds before it happens; a hang never ends by itself.
        retry_after: Seconds a 429 asks to wait.
        status: The HTTP status of a server error, such as 503.
        after_bytes: How many bytes of the response are sent before a reset; for a truncation, how many of its body,
            or None for half of it.
    """

    kind: FaultKind = FaultKind.NONE
    delay: float = 0.0
    retry_after: float = 1.0
    status: int = 500
    after_bytes: int | None = None

    def __post_init__(self) -> None:
        if not _is_a(FaultKind, self.kind):
            raise FaultPlanInvalid("kind", "a FaultKind")
        if not _at_least_zero(self.delay) or not _at_least_zero(self.retry_after):
            raise FaultPlanInvalid("delay", "and retry_after too, in seconds, not below 0")
        if not _is_a(int, self.status) or not 500 <= self.status <= 599:
            raise FaultPlanInvalid("status", "from 500 to 599")
        if self.after_bytes is not None and (not _is_a(int, self.after_bytes) or self.after_bytes < 0):
            raise FaultPlanInvalid("after_bytes", "a number of bytes, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """
    How often each kind of fault happens, and what it looks like.

    Attributes:
        seed: Another seed fails other requests at the same rates.
        latency: How long answers take, faults other than hangs included.
        rate_429: Share of requests refused for their rate; the other rates likewise. Together at most 1.
        retry_after: Seconds a 429 asks to wait, sent as whole seconds and as milliseconds.
        reset_after_bytes: Bytes of the response sent before a reset; 0 resets before any byte.
        script: By path, the faults of the first requests on it, in order of arrival; then the rates apply.
    """

    seed: int = 0
    latency: Latency = field(default_factory=Latency)
    rate_429: float = 0.0
    rate_500: float = 0.0
    rate_reset: float = 0.0
    rate_hang: float = 0.0
    rate_truncate: float = 0.0
    retry_after: float = 1.0
    reset_after_bytes: int = 0
    script: Mapping[str, tuple[Fault, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_a(int, self.seed):
            raise FaultPlanInvalid("seed", "a whole number")
        for kind, rate in self.rates().items():
            if not _at_least_zero(rate) or rate > 1:
                raise FaultPlanInvalid(f"rate_{kind}", "from 0 to 1")
        if math.fsum(self.rates().values()) > 1 + 1e-9:
            raise FaultPlanInvalid("rates", "at most 1 together")
        if not _is_a(Latency, self.latency) or not _is_a(Mapping, self.script):
            raise FaultPlanInvalid("latency", "a Latency, and script a mapping")
        Fault(retry_after=self.retry_after, after_bytes=self.reset_after_bytes)  # checks both

    def rates(self) -> dict[FaultKind, float]:
        """Return the rate of each kind, in the order they are drawn in."""
        return {
            FaultKind.RATE_LIMIT: self.rate_429,
            FaultKind.SERVER_ERROR: self.rate_500,
            FaultKind.RESET: self.rate_reset,
            FaultKind.HANG: self.rate_hang,
            FaultKind.TRUNCATE: self.rate_truncate,
        }

    def decide(self, digest: bytes, arrival: int) -> Fault:
        """
        Decide what happens to one request.

        Args:
            digest: SHA-256 of the request body.
            arrival: How often this body had arrived before.
        """
        source = hashlib.sha256(b"%d\n%b%d" % (self.seed, digest, arrival)).digest()
        mark, quantile = ((int.from_bytes(part) + 0.5) / 2**48 for part in (source[:6], source[6:12]))
        delay = self.latency.at(quantile)
        for kind, rate in self.rates().items():
            mark -= rate
            if mark < 0:
                after = self.reset_after_bytes if kind is FaultKind.RESET else None
                return Fault(kind=kind, delay=delay, retry_after=self.retry_after, after_bytes=after)
        return Fault(delay=delay)

    def scripted(self, path: str, arrival: int) -> Fault | None:
        """Return what the script says about the request number `arrival`, from 0, on a path, if anything."""
        faults = self.script.get(path, ())
        return faults[arrival] if arrival < len(faults) else None

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON values, which `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "FaultPlan":
        """
        Read a plan from JSON values; what is left out keeps its default.

        Raises:
            FaultPlanInvalid: A member is unknown, of the wrong type or out of range.
        """
        members = _members(cls, value, "plan")
        if "latency" in members:
            members["latency"] = Latency(**_members(Latency, members["latency"], "latency"))
        script = members.get("script", {})
        if not isinstance(script, Mapping) or not all(isinstance(faults, list | tuple) for faults in script.values()):
            raise FaultPlanInvalid("script", "an object of lists")
        members["script"] = {path: tuple(_fault(one) for one in faults) for path, faults in script.items()}
        return cls(**members)


def _members(cls: type, value: object, name: str) -> dict[str, Any]:  # Any: each class checks its own members
    if not isinstance(value, Mapping):
        raise FaultPlanInvalid(name, "an object")
    known = {one.name for one in fields(cls)}
    if unknown := sorted(set(value) - known):
        raise FaultPlanInvalid(str(unknown[0]), f"one of {', '.join(sorted(known))}")
    return dict(value)


def _fault(value: object) -> Fault:
    members = _members(Fault, value, "fault")
    kind = members.get("kind", FaultKind.NONE)
    if kind not in set(FaultKind):
        raise FaultPlanInvalid("kind", f"one of {', '.join(FaultKind)}")
    return Fault(**{**members, "kind": FaultKind(kind)})


def _at_least_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
