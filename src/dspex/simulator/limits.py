"""Limits of requests and tokens a minute that are really kept, and told truthfully."""

import math
from dataclasses import dataclass

from dspex.simulator.dialects import RateAllowance
from dspex.simulator.faults import FaultPlanInvalid

__all__ = ["Limits", "Meter"]

_MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    A provider's limits for each key.

    Attributes:
        rpm: Requests a minute, None for any number.
        tpm: Tokens a minute, those of prompts and of answers, None for any number.
    """

    rpm: int | None = None
    tpm: int | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise FaultPlanInvalid(name, "a whole number above 0, or None")


class Meter:
    """
    Token buckets for one key: full at first, refilled evenly, a minute's worth a minute.

    Time is passed in, in seconds, and never goes back.
    """

    def __init__(self, limits: Limits) -> None:
        given = {"requests": limits.rpm, "tokens": limits.tpm}
        self._sizes = {counted: size for counted, size in given.items() if size is not None}
        self._levels = {counted: float(size) for counted, size in self._sizes.items()}
        self._at = -math.inf

    def take(self, now: float, tokens: int) -> tuple[str, float] | None:
        """
        Take one request and its tokens, or say what does not suffice and in how many seconds it would.

        A request of more tokens than a minute has takes a full bucket, else it could never be sent.
        """
        self._refill(now)
        wanted = {"requests": 1.0, "tokens": float(tokens)}
        waits = {
            counted: (min(wanted[counted], size) - self._levels[counted]) * _MINUTE / size
            for counted, size in self._sizes.items()
        }
        short = max(waits, key=lambda counted: waits[counted], default=None)
        if short is not None and waits[short] > 1e-9:
            return short, waits[short]
        for counted in self._sizes:
            self._levels[counted] -= min(wanted[counted], self._sizes[counted])
        return None

    def left(self, now: float) -> dict[str, RateAllowance]:
        """Say what is left of each limit."""
        self._refill(now)
        return {
            counted: RateAllowance(
                limit=size,
                remaining=max(0, math.floor(self._levels[counted] + 1e-9)),
                reset=(size - self._levels[counted]) * _MINUTE / size,
            )
            for counted, size in self._sizes.items()
        }

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._at) if math.isfinite(self._at) else 0.0
        self._at = max(now, self._at)
        for counted, size in self._sizes.items():
            self._levels[counted] = min(float(size), self._levels[counted] + passed * size / _MINUTE)
