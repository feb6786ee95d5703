"""The ledger against a simple model: nothing is spent twice, nothing stays set aside, no budget is overrun."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.errors import BudgetExceeded
from dspex.protocols.lm import Attempt, AttemptLog, Charge, Completion, LMResponse, Usage
from dspex.protocols.model import LM
from dspex.protocols.money import Account, Budget, Estimate, Price, Reservation, Spending
from dspex.services.money.ledger import UNKNOWN, Booking, LedgerBook, Reserve
from dspex.services.money.prices import PriceTable

MODEL = LM("openai/a")
NOBODY = cast("Any", None)  # the book itself never looks at who holds
PRICE = Price(1_000_000, 1_000_000)  # a dollar a token: sums are easy to read


def _lost(log: AttemptLog) -> int:
    """Count the attempts of which nobody saw a bill."""
    return sum(each.outcome in UNKNOWN for each in log.attempts if each.usage is None)


def _calls(log: AttemptLog) -> int:
    """Count the requests that were sent and not refused in words."""
    return log.on_wire + sum(each.outcome not in ("RateLimited", "ServerFailed") for each in log.attempts)


class Ledger(RuleBasedStateMachine):
    """Calls reserve, are sent, answered, refused, lost or killed in any order; the model knows what each came to."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[int, tuple[Reservation, AttemptLog, Account, int]] = {}
        self.paid_before: dict[int, tuple[int, int]] = {}
        self.killed: list[tuple[AttemptLog, Account, int]] = []
        self.paid: dict[str, Spending] = {}
        self.counted: dict[int, tuple[AttemptLog, int]] = {}
        self.set_aside: dict[int, Spending] = {}

    @initialize(top=st.integers(0, 200), job=st.integers(0, 120) | st.none(), calls=st.integers(0, 20) | st.none())
    def open(self, top: int, job: int | None, calls: int | None) -> None:
        self.book = LedgerBook(PriceTable({"openai/a": PRICE}), Budget(usd=top))
        budget = Budget(usd=job, calls=calls) if job is not None or calls is not None else None
        self.accounts = [self.book.root, Account("job", budget, self.book.root)]
        self.accounts.append(Account("request", Budget(tokens=50), self.accounts[1]))
        self.paid = {account.name: Spending() for account in self.accounts}

    def pay(self, account: Account, amount: Spending) -> None:
        for each in account.chain():
            self.paid[each.name] += amount

    @rule(which=st.integers(0, 2), tokens=st.integers(0, 60), again=st.booleans())
    def reserve(self, which: int, tokens: int, again: bool) -> None:
        self.ask(AttemptLog("key"), self.accounts[which], tokens, again=again)

    @precondition(lambda self: self.killed)
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """Reserve anew for a call whose step was killed, and note what that step had on the wire as lost."""
        number = data.draw(st.integers(0, len(self.killed) - 1))
        log, account, tokens = self.killed.pop(number)
        if self.ask(log, account, tokens):
            while log.on_wire:
                log.on_wire -= 1
                log.attempts.append(Attempt(len(log.attempts) + 1, "killed", 0.0))

    def ask(self, log: AttemptLog, account: Account, tokens: int, *, again: bool = False) -> bool:
        wanted = Reserve(self.book.next_id(), account, MODEL, Estimate(tokens, 0, Decimal(tokens)), NOBODY, log)
        room = all(
            (limit is None or used + more <= limit)
            for each in account.chain()
            if each.budget is not None
            for limit, used, more in (
                (each.budget.usd, each.spent.usd + each.reserved.usd, Decimal(tokens)),
                (each.budget.tokens, each.spent.tokens + each.reserved.tokens, tokens),
                (each.budget.calls, each.spent.calls + each.reserved.calls, 1),
            )
        )
        before = [each.reserved for each in self.accounts]

        answer = self.book.reserve(wanted)

        assert isinstance(answer, Reservation) == room
        if isinstance(answer, BudgetExceeded):
            assert [each.reserved for each in self.accounts] == before
            return False
        assert isinstance(answer, Reservation)
        if again:  # the ledger died before its answer arrived: its successor is asked the same
            assert self.book.reserve(wanted) == answer
        self.under_way[answer.id] = (answer, log, account, tokens)
        self.set_aside[answer.id] = answer.amount
        self.paid_before[answer.id] = (_lost(log) + log.on_wire, len(log.charges))
        return True

    def may_send(self, number: int) -> bool:
        """Ask for one more request of a call that is under way, and check that it is set aside or refused."""
        reservation, log, account, tokens = self.under_way[number]
        _, counted = self.counted.get(id(log), (log, 0))
        held, lost = self.set_aside[number], _lost(log) + log.on_wire - self.paid_before[number][0]
        calls = max(0, _calls(log) - counted + 1 - held.calls)
        copies = max(0, lost + 1 - (held.tokens // tokens if tokens else lost + 1))
        more = Spending(Decimal(tokens * copies), tokens * copies, calls)
        room = all(
            each.budget is None
            or all(
                limit is None or used <= limit
                for limit, used in (
                    (each.budget.usd, each.spent.usd + each.reserved.usd + more.usd),
                    (each.budget.tokens, each.spent.tokens + each.reserved.tokens + more.tokens),
                    (each.budget.calls, each.spent.calls + each.reserved.calls + more.calls),
                )
            )
            for each in account.chain()
        )
        refusal = self.book.more(reservation.id, 1)
        if more != Spending():
            assert (refusal is None) == room
        if refusal is None:
            self.set_aside[number] = held + more
        return refusal is None

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), used=st.floats(0, 1), outcome=st.sampled_from(["answered", "unsent", "killed"]))
    def end(self, data: st.DataObject, used: float, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.under_way)))
        outcome = outcome if outcome == "unsent" or self.may_send(number) else "unsent"
        self.set_aside.pop(number)
        reservation, log, account, tokens = self.under_way.pop(number)
        lost_before, charged_before = self.paid_before.pop(number)
        if outcome == "answered":
            actual = int(tokens * used)
            log.attempts.append(Attempt(len(log.attempts) + 1, "ok", 0.0, 200))
            log.response = LMResponse((Completion("a"),), Usage(actual, 0), "a")
            self.pay(account, Spending(Decimal(actual), actual, 0))
        elif outcome == "killed":
            log.on_wire = 1
            self.killed.append((log, account, tokens))
        for _ in range(_lost(log) + log.on_wire - lost_before):
            self.pay(account, Spending(Decimal(tokens), tokens, 0))
        charges = log.charges[charged_before:]
        for charge in charges:
            counted = charge.usage.total_tokens
            self.pay(account, Spending(Decimal(counted), counted, 0))
        # each request that was sent is a call, whatever came of it, and only once; of refused ones the first is
        calls = max(_calls(log), int(bool(log.attempts)))
        _, before = self.counted.get(id(log), (log, 0))
        self.pay(account, Spending(calls=calls - before))
        self.counted[id(log)] = (log, calls)
        self.book.settle(reservation.id, MODEL)
        self.book.settle(reservation.id, MODEL)  # and again, by Down: nothing more

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from([*sorted(UNKNOWN), "TransportFailed", "RateLimited", "ServerFailed"]))
    def lose_an_attempt(self, data: st.DataObject, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.under_way)))
        log = self.under_way[number][1]
        if not self.may_send(number):
            return
        log.attempts.append(Attempt(len(log.attempts) + 1, outcome, 0.0))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), counted=st.integers(1, 9), outcome=st.sampled_from(["ContentRefused", "StreamTruncated"]))
    def be_charged_for_nothing(self, data: st.DataObject, counted: int, outcome: str) -> None:
        """The provider said what it counted: that is paid, and no estimate."""
        number = data.draw(st.sampled_from(sorted(self.under_way)))
        log, usage = self.under_way[number][1], Usage(counted, 0)
        if not self.may_send(number):
            return
        log.attempts.append(Attempt(len(log.attempts) + 1, outcome, 0.0, usage=usage))
        log.charges.append(Charge(MODEL, usage))

    @rule(which=st.integers(0, 2), tokens=st.integers(0, 5))
    def book_unlimited(self, which: int, tokens: int) -> None:
        cost = self.book.add(Booking(self.accounts[which], MODEL, Usage(tokens, 0), 1, paid=True))
        assert cost == tokens

    @invariant()
    def books_agree(self) -> None:
        for account in getattr(self, "accounts", []):
            assert account.spent == self.paid[account.name]
            held = [self.set_aside[at] for at, each in self.under_way.items() if account in each[2].chain()]
            assert account.reserved == sum(held, Spending())
            if account.budget is not None and account.budget.calls is not None:
                assert account.spent.calls + account.reserved.calls <= account.budget.calls

    def teardown(self) -> None:
        for reservation, *_ in list(self.under_way.values()):
            self.book.settle(reservation.id, MODEL)
        for account in getattr(self, "accounts", []):
            assert account.reserved == Spending()


TestLedger = Ledger.TestCase
