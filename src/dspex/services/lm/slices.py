"""This process's slices of the limits that several processes share. Pure, told the time."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from dspex.errors import SharedError
from dspex.services.lm.buckets import MINUTE, Bucket
from dspex.services.shared.cells import Step
from dspex.services.shared.rate_cell import (
    SLICE,
    BucketAnswer,
    BucketAsk,
    RateAnswer,
    RateAsk,
    RateCell,
    exchange_rates,
)

__all__ = ["ModelShare", "SliceBucket"]

AHEAD: Final = 0.5
"""Seconds of traffic at the present rate that a slice is to last."""

ARRIVES: Final = 1.0
"""Seconds within which a request that was sent has reached the provider, which then counts it."""

SOONEST: Final = 0.02
"""Seconds between two exchanges about one model, at the least."""

BEAT: Final = 0.25
"""Seconds between two exchanges while there is traffic."""

FRESH: Final = 1.0
"""Seconds for which nothing is asked before a call is sent, where only news of the provider are shared."""

_PATIENT: Final = 2.0
"""Seconds after which a need that nobody repeats is none any more."""

_TOGETHER: Final = 0.05
"""Seconds within which what is taken is noted as one."""

_CRUMB: Final = 1e-6


class SliceBucket(Bucket):
    """
    The amount that this process may take of one bucket that several processes share, without asking.

    It is used like a bucket of one's own. Where the shared store cannot be reached it is one: of the limit's equal
    share for each process that was alive when the store was last heard of, and empty at first, for what was left in the
    shared bucket belongs to nobody any more.

    Args:
        capacity: The limit, of all processes together.
        period: Seconds in which the limit comes back.
        now: The clock.
    """

    __slots__ = (
        "_alone",
        "_asking",
        "_debt",
        "_fair",
        "_latest",
        "_needed_at",
        "_queue",
        "_rate",
        "_rated",
        "_rated_at",
        "_valid_until",
        "_word_debt",
        "ask_at",
        "heard_left",
        "need",
        "own",
        "refunded",
    )

    def __init__(self, capacity: float, *, now: float, period: float = MINUTE) -> None:
        super().__init__(capacity, now=now, period=period, level=0.0)
        self.own = capacity
        self.need = 0.0
        """The amount that somebody waits for; 0 where nobody does."""
        self.ask_at = now
        """When it is worth asking again for what is needed."""
        self.refunded = 0.0
        self.heard_left: float | None = None
        self._valid_until = -math.inf
        self._fair: Bucket | None = None
        self._alone = self._debt = self._word_debt = 0.0
        self._needed_at = -math.inf
        self._asking = False
        self._queue = 1
        self._latest: deque[tuple[float, float]] = deque()
        """When how much had been taken, within the last seconds: what the provider may not have counted."""
        self._rate = self._rated = 0.0
        self._rated_at = now

    @property
    def limit(self) -> float:
        """The limit as it is configured or learned here; ``capacity`` is the one in force."""
        return self.own

    # --- like a bucket of one's own -----------------------------------------------------------------------------

    def level(self, now: float) -> float:
        """Return what may be taken without asking."""
        fair = self._fair.level(now) if self._fair is not None else 0.0
        return max(fair, self._level if now < self._valid_until else 0.0)

    def wait(self, amount: float, now: float) -> float:
        """Return 0 where ``amount`` may be taken now, else the seconds after which it may be; notes the need."""
        amount = min(amount, self.capacity)
        crumb = _CRUMB * self.capacity
        if now < self._valid_until and self._level + crumb >= amount:
            return 0.0
        if self._fair is not None and not self._asking:
            return self._fair.wait(min(amount, self._fair.capacity), now)
        self.need, self._needed_at = amount, now
        return max(SOONEST, self.ask_at - now)

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out, which ``wait`` said is there."""
        amount = min(amount, self.capacity)
        self.taken += amount
        self.need = 0.0
        if now < self._valid_until and self._level + _CRUMB * self.capacity >= amount:
            self._level -= amount
            self._note(amount, now)
        elif self._fair is not None:
            self._fair.take(amount, now)
            if amount > self._fair.capacity:  # a call may be more than a share: all of it is saved up for, behind it
                self._fair.correct(self._fair.capacity - amount, now)
            self._alone += amount
            self._note(amount, now)
            self.refunded += amount  # of no slice: its fair share is told as a debt
        else:
            self._debt += amount

    def correct(self, amount: float, now: float) -> None:
        """Give ``amount`` back to all, or take it when it is negative: what was reserved is now known better."""
        if self._fair is not None:
            self._fair.correct(amount, now)
            self._alone = max(0.0, self._alone - amount)
        elif amount >= 0:
            self.refunded += amount
        else:
            from_slice = min(-amount, max(0.0, self._level)) if now < self._valid_until else 0.0
            self._level -= from_slice
            self.taken += from_slice
            self._debt += -amount - from_slice

    def resize(self, capacity: float, now: float) -> None:
        """Note another limit, which holds from the next exchange on."""
        del now
        self.own = capacity
        if capacity < self.capacity:
            self.capacity = capacity

    def lower(self, level: float, now: float) -> None:
        """Note how much the provider says is left; the others are told."""
        if self._fair is not None:
            self._fair.lower(level, now)
        self.heard_left = level if self.heard_left is None else min(self.heard_left, level)

    # --- with the others ----------------------------------------------------------------------------------------

    def queued(self, count: int) -> None:
        """Note how many could be sent if there were enough."""
        self._queue = max(1, count)

    @property
    def is_idle(self) -> bool:
        """True when nothing is held and nothing happens."""
        return not self.need and not self._rate and self._level <= 0 and not self._latest and not self._debt

    def ask(self, now: float, *, leaves: bool = False) -> BucketAsk:
        """
        Return the next word to the cell; from now on only what it keeps may be taken, and what is granted.

        With ``leaves`` nothing is kept.
        """
        if leaves:
            self._level = self.need = 0.0
        while self._latest and self._latest[0][0] < now - ARRIVES:
            self._latest.popleft()
        under_way = self.taken - self._latest[0][1] if self._latest else 0.0
        elapsed = now - self._rated_at
        if elapsed >= AHEAD:
            self._rate, self._rated, self._rated_at = (self.taken - self._rated) / elapsed, self.taken, now
        ahead = max(self._rate * AHEAD, self.taken - self._rated)
        if now - self._needed_at > _PATIENT:
            self.need = 0.0  # whoever wanted it has left
        hand = max(0.0, self._level) if now < self._valid_until else 0.0
        is_short = self.need > hand + _CRUMB * self.capacity
        # A process that lacks something keeps nothing: several with half of what they need would wait for ever.
        self._level = keep = 0.0 if is_short else min(hand, max(self.need, ahead))
        need = self.need if is_short else 0.0
        want = max(need * self._queue, need + ahead - keep)
        self._word_debt, self._asking = self._debt, True
        debt, self._debt = self._debt, 0.0
        return BucketAsk(
            self.own,
            self.period,
            self.taken - self.refunded,
            under_way,
            keep,
            need,
            want,
            debt,
            self._alone,
            self.heard_left,
        )

    def hear(self, answer: BucketAnswer, asked_at: float, now: float, *, known: bool) -> None:
        """Take what was granted; it may be used for so long since it was asked for, which is sooner than granted."""
        self._fair, self._asking, self.heard_left, self._alone = None, False, None, 0.0
        self.capacity = answer.capacity
        self._level = (self._level if known else 0.0) + answer.granted
        self._valid_until = asked_at + SLICE
        self.ask_at = now + answer.wait

    def fail(self, live: int, now: float) -> None:
        """Go on alone with a fair share of the limit: the store cannot be reached."""
        self._asking = False
        self._debt += self._word_debt
        if self._fair is None:
            self._fair = Bucket(self.own / live, now=now, period=self.period, level=0.0)

    def _note(self, amount: float, now: float) -> None:
        if not self._latest or now - self._latest[-1][0] > _TOGETHER:
            self._latest.append((now, self.taken - amount))


class ModelShare:
    """
    One model on one key, as this process shares it with others. It outlives the client that lends.

    Args:
        cell: The name of the cell.
        holder: The name of this process, which no other has, ever.

    Attributes:
        buckets: By kind, ``requests`` and ``tokens``; the client's limits put them here.
        heard: The latest answer.
        away: Why the store cannot be reached; empty while it can.
        pause: Seconds for which the provider asked for patience: news for the others.
        opened: Seconds for which the breaker has just opened: news for the others.
        closed: The breaker has closed: news for the others.
    """

    __slots__ = (
        "_asked_at",
        "_expected",
        "_heard_at",
        "_turn",
        "away",
        "buckets",
        "cell",
        "closed",
        "heard",
        "holder",
        "opened",
        "pause",
    )

    def __init__(self, cell: str, holder: str) -> None:
        self.cell = cell
        self.holder = holder
        self.buckets: dict[str, SliceBucket] = {}
        self.heard: RateAnswer | None = None
        self.away = ""
        self.pause = self.opened = 0.0
        self.closed = False
        self._heard_at = -math.inf
        self._asked_at = -math.inf
        self._turn = 0
        self._expected = False

    @property
    def live(self) -> int:
        """Processes that share the limits, as was last heard."""
        return self.heard.live if self.heard is not None else 1

    def describe(self) -> str:
        """Tell who shares the limits, for people."""
        if self.away:
            return f"alone with 1/{self.live} of the limits: {self.away}" if self.live > 1 else f"alone: {self.away}"
        return f"{self.live} processes share the limits" if self.live > 1 else "limits shared"

    def bucket(self, kind: str, capacity: float, now: float) -> SliceBucket:
        """Return the bucket of a kind: that of a predecessor of the client, where there was one."""
        found = self.buckets.get(kind)
        if found is None:
            found = self.buckets[kind] = SliceBucket(capacity, now=now)
        found.resize(capacity, now)
        return found

    def is_fresh(self, now: float) -> bool:
        """True while what was heard of the provider is new enough to send without asking."""
        return now - max(self._heard_at, self._asked_at if self.away else -math.inf) < FRESH

    def expect(self, now: float) -> float:
        """Note that a call waits for news; return the seconds after which to look again, should none come."""
        del now
        self._expected = True
        return BEAT

    def due(self, now: float, *, busy: bool) -> float:
        """
        Return the seconds until the next exchange is worth it; infinite while there is nothing to say.

        Args:
            now: The clock.
            busy: There are calls on the wire, or a provider is to be tried out.
        """
        since = now - self._asked_at
        if self.away:
            return max(0.0, BEAT - since)
        times = [each.ask_at - now for each in self.buckets.values() if each.need]
        if self.pause or self.opened or self.closed or self._expected:
            times.append(0.0)
        if busy or not all(each.is_idle for each in self.buckets.values()):
            times.append(BEAT - since)
        return max(0.0, SOONEST - since, min(times)) if times else math.inf

    def queued(self, count: int) -> None:
        """Note how many calls could be sent if all limits had enough: a slice is to be for all of them."""
        for each in self.buckets.values():
            each.queued(count)

    def ask(self, now: float, *, wants_probe: bool = False, leaves: bool = False) -> RateAsk:
        """Return the next word to the cell."""
        self._turn += 1
        self._asked_at, self._expected = now, False
        buckets = {kind: each.ask(now, leaves=leaves) for kind, each in self.buckets.items()}
        return RateAsk(self.holder, self._turn, buckets, self.pause, self.opened, self.closed, wants_probe, leaves)

    def hear(self, ask: RateAsk, answer: RateAnswer, now: float) -> None:
        """Take what was granted and the news; news that was told is news no longer."""
        for kind, each in answer.buckets.items():
            self.buckets[kind].hear(each, self._asked_at, now, known=answer.known)
        self.heard, self.away, self._heard_at = answer, "", now
        self.pause = self.pause if self.pause > ask.pause else 0.0
        self.opened = self.opened if self.opened != ask.opened else 0.0
        self.closed = self.closed and not ask.closed

    def fail(self, reason: str, now: float) -> None:
        """Go on alone, with a fair share of every limit."""
        self.away = reason
        for each in self.buckets.values():
            each.fail(self.live, now)

    def step(self, ask: RateAsk, origin: str) -> Step[RateAnswer]:
        """Return what changes the cell by one word; ``origin`` names its first text, should there be none."""
        empty = self.heard is not None  # the store has lost it: nobody knows what was left

        def step(text: str | None, now: float) -> tuple[str, RateAnswer]:
            try:
                cell = RateCell.decode(text) if text is not None else RateCell(origin, empty)
            except ValueError as error:
                raise SharedError(f"the shared limits {self.cell!r} cannot be read: {error}") from error
            answer = exchange_rates(cell, ask, now)
            return cell.encode(), answer

        return step
