"""The ledger's book: what has been spent, and what is set aside. Pure but for the accounts it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from dspex.errors import BudgetExceeded
from dspex.protocols.lm import Attempt, AttemptLog, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Account, Budget, Estimate, Reservation, Spending
from dspex.runtime import ProcessRef
from dspex.services.money.periods import Periods
from dspex.services.money.prices import PriceTable
from dspex.services.money.purse import Purse, spending_of
from dspex.services.money.shares import Shares, Short

__all__ = ["LEDGER", "Booking", "LedgerBook", "More", "Reserve", "shared_refusal"]

LEDGER = "ledger"
"""The name under which the ledger's actor is registered."""

UNKNOWN = frozenset({"killed", "cancelled", "reader", "StreamTruncated"})
"""Outcomes of attempts that were sent and may have been charged: nobody saw the provider's bill, unless it came."""


@dataclass(frozen=True, slots=True)
class Booking:
    """
    A provider's count: for a logical LM call that it answered, or for an attempt at one that brought no answer.

    Attributes:
        attempts: That the call took; 0 where they are counted with something else of the same call.
        paid: A reservation pays for its tokens.
        calls: 1, or 0 where the call is counted with something else.
    """

    account: Account
    lm: LM | LMPool
    usage: Usage
    attempts: int
    paid: bool
    calls: int = 1
    due: int = 1
    """Of the budgets' calls, where nothing paid for them."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """
    Ask for money to be set aside; answered by ``Reservation`` or ``BudgetExceeded``.

    ``id`` is the asker's, from ``LedgerBook.next_id``: asked again of a successor, it is set aside once.
    """

    id: int
    account: Account
    lm: LM | LMPool
    estimate: Estimate
    holder: ProcessRef
    log: AttemptLog


@dataclass(frozen=True, slots=True)
class More:
    """Ask for further requests of a call to be set aside; answered by None or ``BudgetExceeded``."""

    reservation: int
    calls: int


@dataclass(slots=True)
class _Held:
    """A reservation and what settles it, should its holder die."""

    reservation: Reservation
    holder: ProcessRef
    lm: LM | LMPool
    log: AttemptLog
    lost_before: int
    """Attempts of the same call that had been lost, and paid for, before this was set aside."""
    charged_before: int
    """Charges of the same call that had been paid before."""
    amount: Spending
    """The sum that is set aside: for the first request, and for each that ``more`` allowed."""
    requests: int = 1
    """The number of lost requests that the sum can pay for."""
    purses: list[Purse] = field(default_factory=list)
    """The budgets of several processes that it is set aside in."""


@dataclass(slots=True)
class LedgerBook:
    """The totals, the accounts' root and what is set aside; it outlives the actor that writes it."""

    prices: PriceTable = field(default_factory=PriceTable)
    budget: Budget | None = None
    periods: Periods = field(default_factory=lambda: Periods(()))
    shares: Shares | None = None
    """The purses of budgets that other processes spend from too; None where there are none."""
    calls: int = 0
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    by_model: dict[str, Usage] = field(default_factory=dict)
    root: Account = field(init=False)
    held: dict[int, _Held] = field(default_factory=dict)
    _last: int = 0

    def __post_init__(self) -> None:
        self.root = Account("the App", self.budget, self.periods.account)

    def share(self, holder: str, *, root: bool) -> None:
        """Share the budgets by day and month with other processes from now on, and with ``root`` the App's own."""
        self.shares = Shares(holder, self.periods, self.root if root else None)

    # --- pure bookkeeping ------------------------------------------------------------------------------------

    def add(self, booking: Booking) -> Decimal | None:
        """Count one call and return its price; where nothing was set aside for it, its accounts pay now."""
        cost = self.prices.cost(booking.lm, booking.usage)
        self.calls += booking.calls
        self.attempts += booking.attempts
        self.usage += booking.usage
        before = self.by_model.get(booking.lm.model)
        self.by_model[booking.lm.model] = booking.usage if before is None else before + booking.usage
        if not booking.paid:
            amount = _amount(cost, booking.usage, booking.due)
            self._pay(booking.account, amount, self.shares.find(booking.account.chain()) if self.shares else [])
        return cost

    def next_id(self) -> int:
        """Return a number that no reservation has had."""
        self._last += 1
        return self._last

    def reserve(self, wanted: Reserve) -> Reservation | BudgetExceeded | Short:
        """Set aside what a call may cost on every account of the chain, or on none; ``Short`` when others are asked."""
        known = self.held.get(wanted.id)
        if known is not None:
            return known.reservation
        self._roll()
        estimate = wanted.estimate
        amount = Spending(
            estimate.usd if estimate.usd is not None else Decimal(0),
            estimate.input_tokens + estimate.output_tokens,
            1,
            int(estimate.usd is None),
        )
        chain = wanted.account.chain()
        refusal = self._refusal(chain, amount, wanted.lm)
        if refusal is not None:
            return refusal
        purses = self.shares.find(chain) if self.shares else []
        payers: list[Account | Purse] = [*chain, *purses]
        for payer in payers:
            payer.reserved += amount
        reservation = Reservation(wanted.id, wanted.account, amount)
        log = wanted.log
        before = _lost(log) + log.on_wire  # what a dead predecessor has on the wire was paid with its reservation
        held = _Held(reservation, wanted.holder, wanted.lm, log, before, len(log.charges), amount, purses=purses)
        self.held[reservation.id] = held
        return reservation

    def more(self, reservation: int, calls: int) -> BudgetExceeded | Short | None:
        """
        Set aside what so many further requests of a call may cost, as far as it is not set aside already.

        In one tick with the sending: requests that start together cannot overrun a budget together. ``Short`` says
        that this process's slice of a budget does not suffice: nothing is set aside then.
        """
        held = self.held.get(reservation)
        if held is None:
            return None
        log, each = held.log, held.reservation.amount
        wanted = log.calls - log.counted + calls - held.amount.calls
        lost = max(0, _lost(log) + log.on_wire - held.lost_before + 1 - held.requests)
        if wanted <= 0 and not lost:
            return None
        self._roll()
        amount = Spending(each.usd * lost, each.tokens * lost, max(0, wanted), each.unpriced * lost)
        chain = held.reservation.account.chain()
        refusal = self._refusal(chain, amount, held.lm, held.purses)
        if refusal is not None:
            return refusal
        payers: list[Account | Purse] = [*chain, *held.purses]
        for payer in payers:
            payer.reserved += amount
        held.amount += amount
        held.requests += lost
        return None

    def settle(self, reservation: int, lm: LM | LMPool | None = None) -> None:
        """
        Release what was set aside, and pay for what was sent.

        That is the price of the answer, and of what was counted for attempts without one, and the estimate for each
        attempt that was lost. Nothing sent costs nothing. A reservation that has been settled changes nothing.
        """
        held = self.held.pop(reservation, None)
        if held is None:
            return
        amount, log = held.reservation.amount, held.log
        payers: list[Account | Purse] = [*held.reservation.account.chain(), *held.purses]
        for payer in payers:
            payer.reserved -= held.amount
        lost = _lost(log) + log.on_wire - held.lost_before
        charges = log.charges[held.charged_before :]
        paid = Spending(calls=log.due_calls())
        for charge in charges:
            paid += _amount(self.prices.cost(charge.lm, charge.usage), charge.usage, 0)
        if log.response is not None:
            usage = log.response.usage
            paid += _amount(self.prices.cost(lm or log.lm or held.lm, usage), usage, 0)
        for _ in range(lost):
            paid += Spending(amount.usd, amount.tokens, 0, amount.unpriced)
        self._pay(held.reservation.account, paid, held.purses)

    def _pay(self, account: Account, amount: Spending, purses: list[Purse]) -> None:
        if self.periods.each:
            self._roll()
        each: Account | None = account
        while each is not None:
            each.spent += amount
            each = each.above
        for purse in purses:
            purse.spent += amount
        if purses and self.shares is not None:
            self.shares.paid()

    def _roll(self) -> None:
        if self.periods.roll() and self.shares is not None:
            self.shares.roll()

    def _refusal(
        self, chain: list[Account], amount: Spending, lm: LM | LMPool, purses: list[Purse] | None = None
    ) -> BudgetExceeded | Short | None:
        """Return why a chain of accounts cannot set ``amount`` aside; ``purses`` are those that it is in so far."""
        shares, short = self.shares, None
        for account in chain:
            purse = shares.by_account.get(account) if shares is not None else None
            if purse is None:
                refusal = _refusal(account, amount, lm)
            else:
                refusal = _unpriced(account, amount, lm)
                if purses is None and short is None and not purse.covers(amount):
                    short = Short(purse, account, amount)
            if refusal is not None:
                return refusal
        for purse in purses or ():  # of the day in which the call began
            if not purse.covers(amount):
                return Short(purse, chain[-1], amount)
        return short

    # --- telling -----------------------------------------------------------------------------------------------

    def plain(self) -> list[dict[str, object]]:
        """Return limits and sums of the budgets that outlive this tree, for a health endpoint, as they are now."""
        self._roll()
        found = [
            _plain({"per": each.per, "period": each.key}, each.account, self._purse(each.account))
            for each in self.periods.each
        ]
        own = self._purse(self.root)
        return [*found, *([_plain({"per": "app"}, self.root, own)] if own is not None else [])]

    def _purse(self, account: Account) -> Purse | None:
        return self.shares.by_account.get(account) if self.shares is not None else None


def _amount(cost: Decimal | None, usage: Usage, calls: int = 1) -> Spending:
    return Spending(cost if cost is not None else Decimal(0), usage.total_tokens, calls, int(cost is None))


def _refusal(account: Account, amount: Spending, lm: LM | LMPool) -> BudgetExceeded | None:
    """Return why ``account`` cannot set ``amount`` aside."""
    if account.budget is None:
        return None
    return _unpriced(account, amount, lm) or _too_much(
        account.name, account.budget, account.spent + account.reserved, amount
    )


def _unpriced(account: Account, amount: Spending, lm: LM | LMPool) -> BudgetExceeded | None:
    if account.budget is None or account.budget.usd is None or not amount.unpriced:
        return None
    return BudgetExceeded(
        f"{account.name} has a budget in dollars and the price of {lm.model} is unknown; "
        f"give App(prices={{{lm.model!r}: Price(input=…, output=…)}})"
    )


def _too_much(name: str, budget: Budget, used: Spending, amount: Spending) -> BudgetExceeded | None:
    if budget.usd is not None and used.usd + amount.usd > budget.usd:
        return BudgetExceeded(
            f"{name} may spend {budget.usd} USD, of which {budget.usd - used.usd:.6f} are left; "
            f"this call may cost {amount.usd:.6f}. Raise the budget, or lower max_tokens"
        )
    for word, limit, so_far, more in (
        ("tokens", budget.tokens, used.tokens, amount.tokens),
        ("calls", budget.calls, used.calls, amount.calls),
    ):
        if limit is not None and so_far + more > limit:
            return BudgetExceeded(
                f"{name} may use {limit:,} {word}, of which {limit - so_far:,} are left; this call may use {more:,}"
            )
    return None


def shared_refusal(short: Short) -> BudgetExceeded:
    """Return the error of a call that a budget of several processes does not allow, by its latest answer."""
    purse = short.purse
    used = purse.total() + purse.reserved
    if purse.heard is not None:
        used += spending_of(purse.heard.held)
    refusal = _too_much(short.account.name, purse.in_force(), used, short.amount)
    return refusal or BudgetExceeded(f"{short.account.name} has nothing left for this call")


def _plain(about: dict[str, object], account: Account, purse: Purse | None) -> dict[str, object]:
    """Return limits and sums for a health endpoint; ``others`` is what other processes may still spend of it."""
    budget = purse.in_force() if purse is not None else account.budget
    assert budget is not None
    spent = account.spent
    away = spending_of(purse.heard.held) if purse is not None and purse.heard is not None else Spending()
    for name, limit, used, others in (
        ("usd", budget.usd, spent.usd, away.usd),
        ("tokens", budget.tokens, spent.tokens, away.tokens),
        ("calls", budget.calls, spent.calls, away.calls),
    ):
        if limit is not None:
            shown = str if name == "usd" else int
            left = max(limit - used - others, 0)
            about[name] = {"limit": shown(limit), "spent": shown(used), "left": shown(left)}
            if others:
                about[name] = {**about[name], "others": shown(others)}  # type: ignore[dict-item]
    if purse is not None and purse.heard is not None:
        if purse.heard.live > 1:
            about["processes"] = purse.heard.live
        if any(purse.heard.lost):
            lost = spending_of(purse.heard.lost)
            about["lost"] = {"usd": str(lost.usd), "tokens": lost.tokens, "calls": lost.calls}
    return about


def _lost(log: AttemptLog) -> int:
    return sum(map(_is_lost, log.attempts))


def _is_lost(attempt: Attempt) -> bool:
    """True when an attempt may have been charged by an unknown sum; also when its answer had begun and broke off."""
    if attempt.usage is not None:
        return False
    if attempt.status == 200 and attempt.outcome in ("ResponseInvalid", "ContentRefused"):
        return True  # an answer came, which says neither what it should nor what it cost
    return attempt.outcome in UNKNOWN or (attempt.outcome == "TransportFailed" and attempt.first_byte is not None)
