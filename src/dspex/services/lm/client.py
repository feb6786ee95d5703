"""The actor around the decisions for one model: it watches who holds a lease, and answers. It sends nothing itself."""

from __future__ import annotations

import math

from dspex._clock import TimerHandle
from dspex.runtime import Down, From, LibraryActor, Next, NoReply, Reply
from dspex.services.lm.lease_book import Acquire, LeaseBook, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.sharing import Sharing
from dspex.services.shared.cells import Cells

__all__ = ["LOOK_AGAIN", "LMClient"]

LOOK_AGAIN = object()
"""Sent to a client when those who wait may be able to go on."""


class LMClient(LibraryActor):
    """
    Lends the leases of one model on one key as its ``LeaseBook`` decides.

    A step that finds a slot free takes its lease out of the book in its own tick, and sends ``Lease`` when it dies with
    it; all else goes through this actor. A restarted client adopts the leases that its predecessor granted; callers who
    waited for one ask again by name.
    """

    at_once = False  # many ask in one turn of the loop, and go on to send: together is cheaper

    def __init__(
        self,
        model: str,
        table: LeaseTable,
        limits: ClientLimits,
        follow_latency: bool = False,
        cells: Cells | None = None,
    ) -> None:
        self._model = model
        self._table = table
        self._limits = limits
        self._follow_latency = follow_latency
        self._book: LeaseBook[From]
        self._monitors: dict[int, Lease] = {}
        self._monitor_of: dict[int, int] = {}
        self._wake: TimerHandle | None = None
        self._wake_at = math.inf
        self._sharing = Sharing(self, cells, table.shares[model]) if cells is not None else None

    async def init(self) -> None:
        """Open the book and adopt the leases that a predecessor granted; those whose holder is dead are released."""
        table, runtime = self._table, self.runtime
        self._book = LeaseBook(
            self._model,
            table,
            self._limits,
            now=runtime.clock.now(),
            follow_latency=self._follow_latency,
            has_left=_has_left,
            rand=runtime.random.random,
            telemetry=runtime.telemetry,
            name=self._dspex_process._name or self._model,  # noqa: SLF001 - the name that callers' events carry too
            share=table.shares.get(self._model),
        )
        table.clients[self._model] = self.ref
        self.own(self, LMClient._sleep_no_more)
        for lease in table.of(self._model):
            if lease.holder.alive:
                self._book.adopt(lease)
                self._watch(lease)
            else:
                self._book.drop(lease)
        table.books[self._model] = self._book
        self.own(self._book, self._withdraw)
        if self._sharing is not None:
            self.own(self._sharing, Sharing.part)
            self._sharing.go_on(self._book)

    async def handle_call(self, message: object, sender: From) -> Next:
        """Answer ``Acquire`` now or when a slot is free, and ``Settle`` at once."""
        if type(message) is Acquire:
            return self._acquire(message, sender)
        if type(message) is not Settle:
            return self.refuse(message, sender)
        self._settle(message)
        return Reply(self._book.judge(message, self.runtime.clock.now()))

    async def handle_cast(self, message: object) -> Next:
        """Take back the lease of an attempt that succeeded, or was broken off."""
        if type(message) is not Settle:
            return await super().handle_cast(message)
        self._settle(message)
        return None

    async def handle_info(self, message: object) -> Next:
        """Take back the lease of a holder that died, or look again after a pause or news of the key."""
        if type(message) is Down:
            lease = self._monitors.pop(message.monitor, None)
            if lease is not None:
                del self._monitor_of[lease.id]
                self._lose(lease)
        elif type(message) is Lease:
            self._lose(message)
        elif message is LOOK_AGAIN:
            self._wake, self._wake_at = None, math.inf
            self._pump()
        elif message is _KEY_NEWS:
            self._pump()
        elif self._sharing is not None and self._sharing.understands(message):
            for sender, verdict in self._sharing.heard(message, self._book):
                sender.reply(verdict)
            self._pump()
        else:
            return await super().handle_info(message)
        return None

    def describe(self) -> str:
        """Tell limit, in flight, waiting by priority, buckets, and faults of breaker or key."""
        return self._book.describe(self.runtime.clock.now())

    def _acquire(self, request: Acquire, sender: From) -> Next:
        answer = self._book.acquire(request, sender, now := self.runtime.clock.now())
        if isinstance(answer, float):
            if answer:
                self._look_again_in(answer, now)
            else:
                self._pump()
        elif isinstance(answer, Lease):
            self._watch(answer)
        if self._sharing is not None:
            self._sharing.go_on(self._book)
        return NoReply() if isinstance(answer, float) else Reply(answer)

    def _lose(self, lease: Lease) -> None:
        """Take back the lease of a holder that died."""
        if self._book.lose(lease, self.runtime.clock.now()):
            self._pump()

    def _pump(self) -> None:
        """Answer those who wait, for as long as there is room."""
        now = self.runtime.clock.now()
        while not isinstance(served := self._book.next_answer(now), float):
            sender, answer = served
            is_heard = sender.reply(answer)
            if isinstance(answer, Lease):
                if is_heard:
                    self._watch(answer)
                else:
                    self._book.lose(answer, now)
        self._look_again_in(served, now)
        if self._sharing is not None:
            self._sharing.go_on(self._book)

    def _settle(self, message: Settle) -> None:
        """Take the lease back, and tell everybody who is concerned."""
        monitor = self._monitor_of.pop(message.lease, None)
        if monitor is not None:
            self._monitors.pop(monitor, None)
            self._dspex_process.demonitor(monitor)
        key_changed, hopeless = self._book.settle(message, self.runtime.clock.now())
        for sender, verdict in hopeless:
            sender.reply(verdict)
        if key_changed:
            for client in self._table.clients.values():
                client.send(_KEY_NEWS)
        self._pump()

    def _watch(self, lease: Lease) -> None:
        monitor = lease.holder.monitor()
        self._monitors[monitor] = lease
        self._monitor_of[lease.id] = monitor

    def _look_again_in(self, seconds: float, now: float) -> None:
        if now + seconds >= self._wake_at:
            return
        self._sleep_no_more()
        clock, context = self.runtime.clock, self.runtime.context
        self._wake_at = now + seconds
        self._wake = clock.call_later(seconds, self.ref.send, LOOK_AGAIN, context=context)

    def _withdraw(self, book: LeaseBook[From]) -> None:
        """Have nobody lend from the book of a client that is gone."""
        if self._table.books.get(self._model) is book:
            del self._table.books[self._model]

    def _sleep_no_more(self) -> None:
        if self._wake is not None:
            self._wake.cancel()


def _has_left(waiter: tuple[Acquire, From]) -> bool:
    request, sender = waiter
    return not sender.waiting or not request.holder.alive


_KEY_NEWS = object()
