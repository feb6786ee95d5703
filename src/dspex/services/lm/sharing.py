"""The exchanges of a client with the other processes that share its model's limits."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dspex._random import fresh_id
from dspex.errors import SharedError
from dspex.runtime import Timer, get_logger
from dspex.services.lm.slices import ModelShare
from dspex.services.shared.cells import Cells
from dspex.services.shared.rate_cell import RateAnswer, RateAsk

if TYPE_CHECKING:
    from dspex.runtime import From, LibraryActor
    from dspex.services.lm.lease_book import LeaseBook
    from dspex.services.lm.retry import Raise

__all__ = ["Sharing"]

_log = get_logger("lm")

KEEP: Final = 86_400.0
"""Seconds after which the store may forget the limits of a model that nobody uses: they are long full again."""


class _RatesSaid(NamedTuple):
    """The end of an exchange."""

    ask: RateAsk
    answer: RateAnswer | SharedError


class Sharing:
    """
    One exchange at a time, in a task of the client's; what comes of it is sent to the client.

    Args:
        actor: The client.
        cells: The store.
        share: The slices and the news, which outlive the client.
    """

    def __init__(self, actor: LibraryActor, cells: Cells, share: ModelShare) -> None:
        self._actor = actor
        self._cells = cells
        self._share = share
        self._talking = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._in_force: dict[str, float] = {}

    def go_on(self, book: LeaseBook[From]) -> None:
        """Begin an exchange when it is worth it, or look again when it will be."""
        if self._talking or not self._actor.ref.alive:
            return
        now = self._actor.runtime.clock.now()
        wants_probe = book.wants_probe(now)
        seconds = self._share.due(now, busy=book.in_flight > 0 or wants_probe)
        if seconds <= 0:
            self._talking = True
            self._share.queued(book.could_send)
            ask = self._share.ask(now, wants_probe=wants_probe)
            self._actor.spawn_task(self._exchange, ask, label="share limits")
        elif now + seconds < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = now + seconds
            self._timer = self._actor.send_after(seconds, _LOOK)

    def understands(self, message: object) -> bool:
        """True for messages of this room's own."""
        return message is _LOOK or issubclass(type(message), _RatesSaid)

    def heard(self, message: Any, book: LeaseBook[From]) -> tuple[tuple[From, Raise], ...]:
        """Take what an exchange brought; return the waiters who have no hope any more."""
        if message is _LOOK:
            self._timer, self._timer_at = None, math.inf
            return ()
        self._talking = False
        now, share = self._actor.runtime.clock.now(), self._share
        if isinstance(message.answer, SharedError):
            if not share.away:
                self._tell_away(str(message.answer))
            share.fail(str(message.answer), now)
            book.alone()
            return ()
        if share.away:
            self._tell("dspex.shared.together", {"processes": float(message.answer.live)}, {})
        share.hear(message.ask, message.answer, now)
        self._tell_limits()
        return book.hear(message.answer, now)

    async def _exchange(self, ask: RateAsk) -> None:
        try:
            step = self._share.step(ask, fresh_id("limits"))
            answer: RateAnswer | SharedError = await self._cells.change(self._share.cell, step, KEEP)
        except SharedError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - whatever it is: one that nobody hears of would end the sharing
            answer = SharedError(f"{type(error).__name__}: {error}")
        self._actor.ref.send(_RatesSaid(ask, answer))

    async def part(self) -> None:
        """Give the slices back."""
        if self._timer is not None:
            self._timer.cancel()
        share = self._share
        if share.heard is None or share.away:
            return
        ask = share.ask(self._actor.runtime.clock.now(), leaves=True)
        with contextlib.suppress(SharedError):
            await self._cells.change(share.cell, share.step(ask, fresh_id("limits")), KEEP)

    # --- telling --------------------------------------------------------------------------------------------------

    def _tell_away(self, reason: str) -> None:
        live = self._share.live
        says = "the limits of {cell} cannot be shared, so this process takes 1/{live} of them: {reason}"
        _log.warning("limits cannot be shared", says=says, cell=self._share.cell, live=live, reason=reason)
        self._tell("dspex.shared.alone", {"share": 1 / live}, {"reason": reason})

    def _tell_limits(self) -> None:
        """Say once that another process has a smaller limit than this one."""
        for kind, bucket in self._share.buckets.items():
            if bucket.capacity == self._in_force.get(kind, bucket.own):
                continue
            self._in_force[kind] = bucket.capacity
            if bucket.capacity < bucket.own:
                says = "another process has a limit of {capacity:g} {kind} for {cell}, which holds; this one of {own:g}"
                facts = {"kind": kind, "capacity": bucket.capacity, "own": bucket.own}
                _log.warning("limits differ", says=says, cell=self._share.cell, **facts)
                told: dict[str, object] = {"own": f"{bucket.own:g} {kind}", "in_force": f"{bucket.capacity:g} {kind}"}
                self._tell("dspex.shared.limits_differ", {}, told)

    def _tell(self, name: str, measurements: dict[str, float], facts: dict[str, object]) -> None:
        telemetry = self._actor.runtime.telemetry
        if telemetry.active:
            telemetry.emit(name, measurements, {"name": self._share.cell, **facts})


_LOOK = object()
