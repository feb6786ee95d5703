"""
The limits of one model on one key over several processes: the decisions, pure; a cell keeps them.

Each process holds slices of the buckets of requests and tokens, and sends what they cover without asking. A slice ends
with its time: what is not used by then is lost to its holder, and comes back by the bucket's own refilling. Until it is
said to be used it takes up its room in the bucket, which therefore refills no earlier than the provider's: whatever the
delay between a grant and the request that uses it, the provider has never counted more than it allows.

A provider that is down, and one that asked for patience, are told to the others as hints: each has a time at which it
ends. One process finds out for all whether a provider is back.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = ["SLICE", "BucketAnswer", "BucketAsk", "RateAnswer", "RateAsk", "RateCell", "exchange_rates"]

SLICE: Final = 3.0
"""Seconds for which a slice may be used, and for which a holder counts as alive after its last word."""

WAITS: Final = 1.5
"""Seconds for which a place in the queue is kept for a holder that does not ask again."""

PROBE: Final = 15.0
"""Seconds that a holder may take to find out whether a provider is back, until another one may try."""

HINT: Final = 30.0
"""Seconds after which the word that a provider is down is forgotten, where nobody has looked since."""

_VERSION: Final = 1
_CRUMB: Final = 1e-6
"""The error of rounding that a bucket may have when it has just become full enough, as a share of it."""


class BucketAsk(NamedTuple):
    """
    One holder's word about one bucket.

    Attributes:
        capacity: The limit, as the holder was configured or has learned.
        period: Seconds in which an empty bucket becomes full.
        taken: All that was ever taken out of slices, for requests.
        under_way: The part of it that the provider may not have counted yet.
        keep: The part of the slice that is kept; from now on the holder takes no more than that, and what is granted.
        need: The least more that would be of use; 0 where nobody waits.
        want: The most more that there is a use for.
        debt: Sent without a slice since the last exchange.
        alone: Sent of a fair share while the store could not be reached. The bucket has refilled meanwhile as
            if nothing had been, and a provider's own is never below 0: so this takes no more than there is.
        left: The provider's own word on what was left, if it told any since the last exchange.
    """

    capacity: float
    period: float
    taken: float = 0.0
    under_way: float = 0.0
    keep: float = 0.0
    need: float = 0.0
    want: float = 0.0
    debt: float = 0.0
    alone: float = 0.0
    left: float | None = None


class BucketAnswer(NamedTuple):
    """
    The answer about one bucket.

    Attributes:
        granted: ``need`` at least, or nothing.
        wait: Seconds after which to ask again where nothing was granted.
        capacity: The limit in force: the smallest of those that live holders know.
        level: The rest in the bucket, for people to read.
    """

    granted: float
    wait: float
    capacity: float
    level: float


class RateAsk(NamedTuple):
    """
    One holder's word.

    Attributes:
        holder: Its name, which no other process has, ever.
        turn: Counts up with each word.
        buckets: By kind, ``requests`` and ``tokens``.
        pause: Seconds for which the provider asked for patience, by the holder's latest news; 0 where it did not.
        opened: Seconds for which the holder's breaker is open, where it has just opened; 0 otherwise.
        closed: The holder's probe found the provider alive, or it was let in by it.
        wants_probe: The holder has a call with which to find out whether the provider is back.
        leaves: It has ended.
    """

    holder: str
    turn: int
    buckets: dict[str, BucketAsk] = {}  # noqa: RUF012 - never changed
    pause: float = 0.0
    opened: float = 0.0
    closed: bool = False
    wants_probe: bool = False
    leaves: bool = False


class RateAnswer(NamedTuple):
    """
    The cell's answer.

    Attributes:
        buckets: By kind.
        live: Holders that are alive, the asker included.
        pause: Seconds for which nobody is to send anything.
        open_for: Seconds for which the provider counts as down; 0 where it does not, or a probe is due.
        down: True while the provider counts as down, also when a probe is due or out.
        probe: True when the asker is the one that finds out whether it is back.
        known: False when the cell had no slice of the asker: its time was over, or the store has lost it.
    """

    buckets: dict[str, BucketAnswer]
    live: int
    pause: float
    open_for: float
    down: bool
    probe: bool
    known: bool


@dataclass(slots=True)
class _Part:
    """A holder's part of one bucket, and its place in the queue."""

    capacity: float
    taken: float
    under_way: float = 0.0
    keep: float = 0.0
    need: float = 0.0
    since: float = 0.0

    @property
    def held(self) -> float:
        """The room that it takes up."""
        return self.keep + self.under_way


@dataclass(slots=True)
class _Holder:
    turn: int
    seen: float
    parts: dict[str, _Part] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    capacity: float
    period: float
    level: float
    at: float


@dataclass(slots=True)
class RateCell:
    """
    The whole of what is in a cell.

    Attributes:
        origin: A name that was drawn when the cell was made: another one tells that the store has lost what it had.
        empty: Buckets begin empty: somebody who knew an earlier cell made this one.
    """

    origin: str
    empty: bool = False
    buckets: dict[str, _Bucket] = field(default_factory=dict)
    holders: dict[str, _Holder] = field(default_factory=dict)
    paused_until: float = 0.0
    open_until: float | None = None
    prober: str = ""
    probe_until: float = 0.0

    def encode(self) -> str:
        """Return the text of the cell."""
        buckets = {kind: [each.capacity, each.period, each.level, each.at] for kind, each in self.buckets.items()}
        holders = {
            name: [
                each.turn,
                each.seen,
                {
                    kind: [one.capacity, one.taken, one.under_way, one.keep, one.need, one.since]
                    for kind, one in each.parts.items()
                },
            ]
            for name, each in self.holders.items()
        }
        rest = [self.paused_until, self.open_until, self.prober, self.probe_until]
        return json.dumps([_VERSION, self.origin, self.empty, buckets, holders, *rest], separators=(",", ":"))

    @staticmethod
    def decode(text: str) -> RateCell:
        """
        Read the text of a cell.

        Raises:
            ValueError: It is none.
        """
        try:
            version, origin, empty, buckets, holders, paused, opened, prober, probe = json.loads(text)
            if version != _VERSION:
                raise ValueError(f"it is of version {version!r:.20}, and this dspex knows {_VERSION}")
            return RateCell(
                str(origin),
                bool(empty),
                {str(kind): _bucket(*each) for kind, each in buckets.items()},
                {str(name): _holder(*each) for name, each in holders.items()},
                _number(paused),
                None if opened is None else _number(opened),
                str(prober),
                _number(probe),
            )
        except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it holds no limits: {type(error).__name__}") from error


def exchange_rates(cell: RateCell, ask: RateAsk, now: float) -> RateAnswer:
    """
    Take one holder's word, change ``cell`` by it, and answer.

    Args:
        cell: The cell, which is changed.
        ask: The word. One that is older than what the cell knows of the holder changes nothing and grants nothing.
        now: The store's clock. It may be set back: then what has been seen counts as seen now, and no time has passed.
    """
    _pass_time(cell, now)
    own = cell.holders.get(ask.holder)
    known = own is not None
    answers: dict[str, BucketAnswer] = {}
    if own is None:
        own = cell.holders[ask.holder] = _Holder(ask.turn - 1, now)
    if own.turn < ask.turn:
        own.turn, own.seen = ask.turn, now
        for kind, each in ask.buckets.items():
            answers[kind] = _of_bucket(cell, own, kind, each, now)
        _of_provider(cell, ask, now)
    live = len(cell.holders)
    if ask.leaves:
        del cell.holders[ask.holder]
    open_for = max(0.0, cell.open_until - now) if cell.open_until is not None else 0.0
    down = cell.open_until is not None
    probe = down and cell.prober == ask.holder
    return RateAnswer(answers, live, max(0.0, cell.paused_until - now), open_for, down, probe, known)


def _pass_time(cell: RateCell, now: float) -> None:
    """Refill the buckets, then let go of holders that were not heard of: what they held counts as used only now."""
    for kind, bucket in cell.buckets.items():
        bucket.at = min(bucket.at, now)
        most = bucket.capacity - _held(cell, kind)
        if bucket.level < most:
            bucket.level = min(most, bucket.level + (now - bucket.at) * bucket.capacity / bucket.period)
        bucket.at = now
    for each in cell.holders.values():
        each.seen = min(each.seen, now)
    for name in [name for name, each in cell.holders.items() if now - each.seen > SLICE]:
        del cell.holders[name]
    if cell.prober and (cell.prober not in cell.holders or now >= cell.probe_until):
        cell.prober = ""
    cell.probe_until = min(cell.probe_until, now + PROBE)
    if cell.open_until is not None and now > cell.open_until + HINT:
        cell.open_until = None


def _of_bucket(cell: RateCell, own: _Holder, kind: str, ask: BucketAsk, now: float) -> BucketAnswer:
    part = own.parts.get(kind)
    if part is None:
        part = own.parts[kind] = _Part(ask.capacity, ask.taken)
    part.capacity = ask.capacity
    capacity = min(each.parts[kind].capacity for each in cell.holders.values() if kind in each.parts)
    bucket = cell.buckets.get(kind)
    if bucket is None:
        bucket = cell.buckets[kind] = _Bucket(capacity, ask.period, 0.0 if cell.empty else capacity, now)
    bucket.capacity, bucket.period = capacity, ask.period
    # The rest, neither kept nor taken, is given back; so is a grant whose answer never arrived.
    returned = max(0.0, part.keep - ask.keep - (ask.taken - part.taken))
    part.taken, part.under_way, part.keep = ask.taken, ask.under_way, min(ask.keep, part.keep)
    bucket.level += returned - ask.debt
    bucket.level -= min(ask.alone, max(0.0, bucket.level))
    if ask.left is not None:  # told in whole numbers, rounded down
        # Slices of others are not taken off: the provider has counted what they have sent since their last word, and
        # it would be lost to all. By our own count the level is right: this finds those who use the key beside us.
        bucket.level = min(bucket.level, max(0.0, ask.left + 1.0 - part.keep))
    bucket.level = min(bucket.level, capacity - _held(cell, kind))
    granted, wait = _grant(cell, own, part, bucket, ask, kind, now)
    bucket.level -= granted
    part.keep += granted
    return BucketAnswer(granted, wait, capacity, bucket.level)


def _grant(
    cell: RateCell, own: _Holder, part: _Part, bucket: _Bucket, ask: BucketAsk, kind: str, now: float
) -> tuple[float, float]:
    """Return what is granted, or the seconds after which to ask again; who has waited longer comes first."""
    need = min(ask.need, bucket.capacity)
    since = min(part.since, now) if part.need > 0 else now
    waits = [
        (one.since, one.need)
        for each in cell.holders.values()
        if each is not own and now - each.seen <= WAITS and (one := each.parts.get(kind)) is not None and one.need > 0
    ]
    before = sum(one for at, one in waits if at < since or need == 0)
    left = bucket.level - before
    part.need, part.since = 0.0, since
    if left + _CRUMB * bucket.capacity < max(need, 0.0) or (need == 0 and left <= 0):
        part.need = need
        return 0.0, (need - left) * bucket.period / bucket.capacity
    extra = max(0.0, min(ask.want - need, (left - need) / len(cell.holders)))
    return min(need + extra, max(0.0, bucket.level)) if need else extra, 0.0


def _of_provider(cell: RateCell, ask: RateAsk, now: float) -> None:
    """Take news of the provider: that it asked for patience, is down, or is back."""
    if ask.pause > 0:
        cell.paused_until = max(cell.paused_until, now + ask.pause)
    mine = cell.prober == ask.holder
    if ask.closed:
        cell.open_until, cell.prober = None, ""
    elif ask.opened > 0:
        cell.open_until = max(cell.open_until or 0.0, now + ask.opened)
        cell.prober = "" if mine else cell.prober
    elif mine and not ask.wants_probe:
        cell.prober = ""  # it has learned nothing: another one may try
    elif ask.wants_probe and not cell.prober and cell.open_until is not None and now >= cell.open_until:
        cell.prober, cell.probe_until = ask.holder, now + PROBE


def _held(cell: RateCell, kind: str) -> float:
    return sum(each.parts[kind].held for each in cell.holders.values() if kind in each.parts)


# --- reading -----------------------------------------------------------------------------------------------------


def _holder(turn: Any, seen: Any, parts: Any) -> _Holder:
    return _Holder(int(turn), _number(seen), {str(kind): _Part(*map(_number, each)) for kind, each in parts.items()})


def _bucket(*given: Any) -> _Bucket:
    capacity, period, level, at = map(_number, given)
    if capacity <= 0 or period <= 0:
        raise ValueError("a bucket has neither capacity nor period")
    return _Bucket(capacity, period, level, at)


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise ValueError(f"{given!r:.40} is not a number")
    return float(given)
