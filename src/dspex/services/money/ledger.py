"""The ledger: what has been spent, what is set aside, and the actor that keeps budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from dspex.errors import BudgetExceeded, ConfigError
from dspex.protocols.lm import Attempt, AttemptLog, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Account, Budget, Estimate, Reservation, Spending
from dspex.runtime import ChildSpec, Down, From, LibraryActor, Next, ProcessRef, Reply, WorkerThread, get_logger
from dspex.services.money.periods import PeriodFile, Periods
from dspex.services.money.prices import PriceTable

__all__ = ["LEDGER", "Booking", "LedgerBook", "LedgerServer", "Reserve"]

_log = get_logger("money")

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


@dataclass(slots=True)
class LedgerBook:
    """The totals, the accounts' root and what is set aside; it outlives the actor that writes it."""

    prices: PriceTable = field(default_factory=PriceTable)
    budget: Budget | None = None
    periods: Periods = field(default_factory=lambda: Periods(()))
    calls: int = 0
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    by_model: dict[str, Usage] = field(default_factory=dict)
    root: Account = field(init=False)
    held: dict[int, _Held] = field(default_factory=dict)
    _last: int = 0

    def __post_init__(self) -> None:
        self.root = Account("the App", self.budget, self.periods.account)

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
            self._pay(booking.account, _amount(cost, booking.usage, booking.due))
        return cost

    def next_id(self) -> int:
        """Return a number that no reservation has had."""
        self._last += 1
        return self._last

    def reserve(self, wanted: Reserve) -> Reservation | BudgetExceeded:
        """Set aside what a call may cost on every account of the chain, or on none."""
        known = self.held.get(wanted.id)
        if known is not None:
            return known.reservation
        self.periods.roll()
        estimate = wanted.estimate
        amount = Spending(
            estimate.usd if estimate.usd is not None else Decimal(0),
            estimate.input_tokens + estimate.output_tokens,
            1,
            int(estimate.usd is None),
        )
        for account in wanted.account.chain():
            refusal = _refusal(account, amount, wanted.lm)
            if refusal is not None:
                return refusal
        for account in wanted.account.chain():
            account.reserved += amount
        reservation = Reservation(wanted.id, wanted.account, amount)
        log = wanted.log
        before = _lost(log) + log.on_wire  # what a dead predecessor has on the wire was paid with its reservation
        held = _Held(reservation, wanted.holder, wanted.lm, log, before, len(log.charges), amount)
        self.held[reservation.id] = held
        return reservation

    def more(self, reservation: int, calls: int) -> BudgetExceeded | None:
        """
        Set aside what so many further requests of a call may cost, as far as it is not set aside already.

        In one tick with the sending: requests that start together cannot overrun a budget together.
        """
        held = self.held.get(reservation)
        if held is None:
            return None
        log, each = held.log, held.reservation.amount
        wanted = log.calls - log.counted + calls - held.amount.calls
        lost = max(0, _lost(log) + log.on_wire - held.lost_before + 1 - held.requests)
        if wanted <= 0 and not lost:
            return None
        self.periods.roll()
        amount = Spending(each.usd * lost, each.tokens * lost, max(0, wanted), each.unpriced * lost)
        chain = held.reservation.account.chain()
        for account in chain:
            refusal = _refusal(account, amount, held.lm)
            if refusal is not None:
                return refusal
        for account in chain:
            account.reserved += amount
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
        for account in held.reservation.account.chain():
            account.reserved -= held.amount
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
        self._pay(held.reservation.account, paid)

    def _pay(self, account: Account, amount: Spending) -> None:
        if self.periods.each:
            self.periods.roll()
        payer: Account | None = account
        while payer is not None:
            payer.spent += amount
            payer = payer.above
        if self.periods.each and amount != _NOTHING:
            self.periods.note(amount)


_NOTHING = Spending()


def _amount(cost: Decimal | None, usage: Usage, calls: int = 1) -> Spending:
    return Spending(cost if cost is not None else Decimal(0), usage.total_tokens, calls, int(cost is None))


def _refusal(account: Account, amount: Spending, lm: LM | LMPool) -> BudgetExceeded | None:
    """Return why ``account`` cannot set ``amount`` aside."""
    budget = account.budget
    if budget is None:
        return None
    after = account.spent + account.reserved + amount
    if budget.usd is not None:
        if amount.unpriced:
            return BudgetExceeded(
                f"{account.name} has a budget in dollars and the price of {lm.model} is unknown; "
                f"give App(prices={{{lm.model!r}: Price(input=…, output=…)}})"
            )
        if after.usd > budget.usd:
            left = budget.usd - account.spent.usd - account.reserved.usd
            return BudgetExceeded(
                f"{account.name} may spend {budget.usd} USD, of which {left:.6f} are left; "
                f"this call may cost {amount.usd:.6f}. Raise the budget, or lower max_tokens"
            )
    for word, limit, used, more in (
        ("tokens", budget.tokens, account.spent.tokens + account.reserved.tokens, amount.tokens),
        ("calls", budget.calls, account.spent.calls + account.reserved.calls, amount.calls),
    ):
        if limit is not None and used + more > limit:
            return BudgetExceeded(
                f"{account.name} may use {limit:,} {word}, of which {limit - used:,} are left; "
                f"this call may use {more:,}"
            )
    return None


def _lost(log: AttemptLog) -> int:
    return sum(map(_is_lost, log.attempts))


def _is_lost(attempt: Attempt) -> bool:
    """True when an attempt may have been charged by an unknown sum; also when its answer had begun and broke off."""
    if attempt.usage is not None:
        return False
    if attempt.status == 200 and attempt.outcome in ("ResponseInvalid", "ContentRefused"):
        return True  # an answer came, which says neither what it should nor what it cost
    return attempt.outcome in UNKNOWN or (attempt.outcome == "TransportFailed" and attempt.first_byte is not None)


class LedgerServer(LibraryActor):
    """Sets money aside, and settles for holders that die; whoever lives settles in the book itself."""

    def __init__(self, book: LedgerBook, path: Path | None = None) -> None:
        self._book = book
        self._path = path
        self._monitors: dict[int, int] = {}
        self._worker: WorkerThread
        self._file: PeriodFile
        self._writing = False

    @staticmethod
    def spec(book: LedgerBook, path: Path | None = None) -> ChildSpec:
        """Return the child spec of the ledger's actor; ``path`` is the file of the budgets by day and month."""
        return ChildSpec(LEDGER, LedgerServer, (book, path), name=LEDGER)

    async def init(self) -> None:
        """
        Watch over what a predecessor set aside; for holders that died meanwhile, settle.

        Raises:
            ConfigError: There is a budget by day or month, and its file cannot be used.
        """
        if self._book.periods.each and self._path is not None:
            await self._open_file(self._path)
        for reservation, held in list(self._book.held.items()):
            if held.holder.alive:
                self._watch(reservation, held.holder)
            else:
                self._book.settle(reservation)

    # --- the file of days and months ----------------------------------------------------------------------------

    async def _open_file(self, path: Path) -> None:
        """Take over what has been paid in the running periods, and write from now on what is paid."""
        self._worker = self.own(WorkerThread("dspex-ledger"), self._close_file)
        self._file = await self._worker.run(PeriodFile, path)
        await self._write()
        self._book.periods.on_paid = self._begin_writing

    def _begin_writing(self) -> None:
        if not self._writing and self.ref.alive:
            self._writing = True
            self.spawn_task(self._keep_writing, label="write payments")

    async def _keep_writing(self) -> None:
        """Write until nothing is left; what cannot be written now is kept for the next payment."""
        try:
            while self._book.periods.unwritten:
                await self._write()
        except ConfigError as error:
            _log.error("payments cannot be written", says="{error}", error=str(error))
        finally:
            self._writing = False

    async def _write(self) -> None:
        periods = self._book.periods
        periods.agree(await self._worker.run(self._file.add, periods.unwritten, periods.keys()))

    async def _close_file(self, worker: WorkerThread) -> None:
        periods = self._book.periods
        periods.on_paid = None

        def write_rest() -> None:
            if periods.unwritten and hasattr(self, "_file"):
                self._file.add(periods.unwritten, ())

        await worker.aclose(write_rest)

    # --- messages -------------------------------------------------------------------------------------------------

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Set money aside."""
        if not issubclass(type(message), Reserve):
            return self.refuse(message, sender)
        answer = self._book.reserve(message)
        if isinstance(answer, Reservation):
            self._watch(answer.id, message.holder)
        return Reply(answer)

    async def handle_info(self, message: Any) -> Next:
        """Settle for a holder that died."""
        if not issubclass(type(message), Down):
            return await super().handle_info(message)
        self._book.settle(self._monitors.pop(message.monitor, 0))
        return None

    def _watch(self, reservation: int, holder: ProcessRef) -> None:
        self._monitors[holder.monitor()] = reservation

    def describe(self) -> str:
        """Tell calls, tokens and dollars."""
        book = self._book
        spent = book.root.spent
        money = f", {spent.usd:.4f} USD" if spent.usd else ""
        money += f", {spent.unpriced} of unknown price" if spent.unpriced else ""
        held = f", {len(book.held)} set aside" if book.held else ""
        return f"{book.calls} calls, {book.usage.total_tokens:,} tokens{money}{held}"
