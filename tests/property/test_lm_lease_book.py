"""The decisions about one model, without a loop: who is lent to, who waits, and that everybody is served in the end."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.errors import AuthFailed, LMError, RateLimited, RequestRejected, ServerFailed
from dspex.protocols.lm import Usage
from dspex.services.lm.lease_book import Acquire, Busy, LeaseBook, Settle
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import Raise, RetryAfter
from dspex.telemetry import Telemetry

LIMIT = 3
FAR = 1e9
OUTCOMES: dict[str, LMError | None] = {
    "ok": None,
    "rejected": RequestRejected("no", status=400),
    "limited": RateLimited("slow", status=429, retry_after=5.0),
    "failed": ServerFailed("down", status=500),
    "refused": AuthFailed("key", status=401),
}
HOLDER: Any = object()  # the book only passes it on


class BookMachine(RuleBasedStateMachine):
    """Callers ask at once, in the queue or not; attempts end; holders die; time passes; the book is succeeded."""

    @initialize()
    def start(self) -> None:
        """Open a book."""
        self.now = 100.0
        self.out: list[Lease] = []
        self.waiting: list[int] = []
        self.left: set[int] = set()
        self.number = 0
        self.has_refused = False
        self.table = LeaseTable()
        self.open()

    def open(self) -> None:
        """Open a book on what is out."""
        self.book: LeaseBook[int] = LeaseBook(
            "m",
            self.table,
            ClientLimits(max_in_flight=LIMIT),
            now=self.now,
            has_left=lambda waiter: waiter[1] in self.left,
            rand=lambda: 0.5,
            telemetry=Telemetry(),
            name="m",
        )
        for lease in self.table.of("m"):
            self.book.adopt(lease)

    def request(self, **given: Any) -> Acquire:
        return Acquire(HOLDER, 1, given.pop("deadline", FAR), **given)

    def serve(self) -> float:
        """Answer those who may be answered; return when to look again."""
        while not isinstance(served := self.book.next_answer(self.now), float):
            waiter, answer = served
            self.waiting.remove(waiter)
            if isinstance(answer, Lease):
                self.out.append(answer)
        return served

    @rule()
    def ask_at_once(self) -> None:
        """Nobody overtakes those who wait."""
        lease = self.book.lend_at_once(HOLDER, 1, FAR, self.now)
        if lease is not None:
            assert not [each for each in self.waiting if each not in self.left]
            self.out.append(lease)

    @rule(priority=st.sampled_from([0, 10]), queue=st.booleans(), hedge=st.booleans(), hurry=st.booleans())
    def ask(self, priority: int, queue: bool, hedge: bool, hurry: bool) -> None:
        """Somebody asks for a lease."""
        self.number += 1
        deadline = self.now + 1.0 if hurry else FAR
        request = self.request(priority=priority, queue=queue, hedge=hedge, deadline=deadline)
        answer = self.book.acquire(request, self.number, self.now)
        if isinstance(answer, Lease):
            self.out.append(answer)
        elif isinstance(answer, Busy):
            assert not queue or hedge
        elif isinstance(answer, float):
            assert queue
            assert not hedge
            self.waiting.append(self.number)
            self.serve()

    @precondition(lambda self: bool(getattr(self, "waiting", None)))
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        """Somebody who waits goes away without a word."""
        self.left.add(self.waiting[which % len(self.waiting)])

    @precondition(lambda self: bool(getattr(self, "out", None)))
    @rule(which=st.integers(0, 9), outcome=st.sampled_from(sorted(OUTCOMES)), sent=st.booleans())
    def settle(self, which: int, outcome: str, sent: bool) -> None:
        """An attempt ends; a failure is judged."""
        lease = self.out.pop(which % len(self.out))
        lease.sent, lease.sent_at, lease.begun_at = sent, self.now, self.now
        error = OUTCOMES[outcome]
        message = Settle(lease.id, error, 1, FAR, Usage(10, 5))
        news = self.book.settle(message, self.now)
        for waiter, verdict in news.hopeless:
            assert isinstance(verdict.error, RateLimited)
            self.waiting.remove(waiter)
        # A refusal is news; so is any answer, an error included, that shows that a refused key is good again.
        assert news.key_changed <= (outcome == "refused" or self.has_refused)
        self.has_refused = self.has_refused or outcome == "refused"
        assert self.book.settle(message, self.now) == ((False, ()))  # a second time nothing is learned
        if error is not None:
            assert isinstance(self.book.judge(message, self.now), (Raise, RetryAfter))
        self.serve()

    @precondition(lambda self: bool(getattr(self, "out", None)))
    @rule(which=st.integers(0, 9))
    def lose(self, which: int) -> None:
        """A holder dies; a second message about it changes nothing."""
        lease = self.out.pop(which % len(self.out))
        assert self.book.lose(lease, self.now)
        assert not self.book.lose(lease, self.now)
        self.serve()

    @rule(seconds=st.sampled_from([0.1, 5.0, 120.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.serve()

    @rule()
    def succeed(self) -> None:
        """The client dies: whoever waited asks the successor."""
        waiting = [each for each in self.waiting if each not in self.left]
        self.waiting.clear()
        self.open()
        for each in waiting:
            answer = self.book.acquire(self.request(), each, self.now)
            if isinstance(answer, Lease):
                self.out.append(answer)
            elif isinstance(answer, float):
                self.waiting.append(each)
                self.serve()

    @invariant()
    def what_is_out_is_counted(self) -> None:
        """The table holds what is out, and the limiter counts as many, never above the limit."""
        if not hasattr(self, "out"):
            return
        assert set(self.table.leases) == {lease.id for lease in self.out}
        assert self.book.in_flight == len(self.out) <= LIMIT

    def teardown(self) -> None:
        """Once all is given back and the time of pauses and refusals is over, nobody waits any more."""
        if not hasattr(self, "out"):
            return
        for _ in range(100):
            for lease in self.out:
                lease.sent = True
                self.book.settle(Settle(lease.id, None, 1, FAR, Usage(1, 1)), self.now)
            self.out.clear()
            again = self.serve()
            if not self.out and math.isinf(again):
                break
            self.now += 0.0 if math.isinf(again) else again
        assert not [each for each in self.waiting if each not in self.left]


TestBook = BookMachine.TestCase
TestBook.settings = settings(stateful_step_count=30, deadline=None)
