"""The ledger's door: steps reserve, settle and book through it, by the ledger's name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from dspex.errors import BudgetExceeded
from dspex.protocols.lm import AttemptLog, LMRequest, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Account, Estimate, Reservation
from dspex.runtime import Runtime, calling_process
from dspex.services.money.ledger import LEDGER, Booking, LedgerBook, More, Reserve, shared_refusal
from dspex.services.money.shares import Short

__all__ = ["MoneyGateway"]


class MoneyGateway:
    """
    Implements ``protocols.MoneyService`` over the ledger's actor.

    Args:
        runtime: Where the ledger lives.
        book: Its data.
        members: Unfolds a pool into the records that may be asked.
    """

    def __init__(self, runtime: Runtime, book: LedgerBook, members: Callable[[LM | LMPool], list[LM]]) -> None:
        self._runtime = runtime
        self._book = book
        self._members = members
        self._ledger = runtime.named(LEDGER, patient=True)  # asked again until it answers: each try must wait

    def cost(self, lm: LM | LMPool, usage: Usage) -> Decimal | None:
        """Return what these tokens of this model cost, in dollars; None where its price is unknown."""
        return self._book.prices.cost(lm, usage)

    def estimate(self, lm: LM | LMPool, request: LMRequest) -> Estimate:
        """Return what a call may come to: for a pool, at its most expensive member."""
        return self._book.prices.estimate(self._members(lm), request)

    async def reserve(
        self, account: Account, lm: LM | LMPool, request: LMRequest, log: AttemptLog, deadline: float
    ) -> Reservation:
        """
        Set aside what a call may cost, as ``protocols.MoneyService.reserve`` says.

        Cancellation: what was set aside is released when the process ends.
        """
        holder = calling_process().ref
        wanted = Reserve(self._book.next_id(), account, lm, self.estimate(lm, request), holder, log)
        answer: Reservation | BudgetExceeded = await self._ledger.ask(wanted, deadline)
        if isinstance(answer, BudgetExceeded):
            raise answer
        return answer

    async def set_aside(self, account: Account, lm: LM, estimate: Estimate, deadline: float) -> Reservation:
        """
        Set aside what something other than a call may cost, a training for example; raises as ``reserve``.

        Cancellation: what was set aside is released when the process ends.
        """
        wanted = Reserve(self._book.next_id(), account, lm, estimate, calling_process().ref, AttemptLog(lm.model))
        answer: Reservation | BudgetExceeded = await self._ledger.ask(wanted, deadline)
        if isinstance(answer, BudgetExceeded):
            raise answer
        return answer

    def release(self, held: Reservation) -> None:
        """Release what ``set_aside`` has set aside; whatever was spent of it is booked beside."""
        self._book.settle(held.id)

    def more(self, held: Reservation, calls: int) -> None:
        """Set aside what further requests of a call may cost, as ``protocols.MoneyService.more`` says."""
        refusal = self._book.more(held.id, calls)
        if isinstance(refusal, Short):
            refusal = shared_refusal(refusal)
        if refusal is not None:
            raise refusal

    async def fetch(self, held: Reservation, deadline: float, calls: int) -> None:
        """Set aside what further requests of a call may cost, as ``protocols.MoneyService.fetch`` says."""
        refusal: BudgetExceeded | None = await self._ledger.ask(More(held.id, calls), deadline)
        if refusal is not None:
            raise refusal

    def settle(self, held: Reservation, lm: LM | LMPool, log: AttemptLog) -> None:
        """Pay for the answer in ``log``, or for what may have been charged, and release the rest."""
        self._book.settle(held.id, lm)

    def book(
        self,
        account: Account,
        lm: LM | LMPool,
        usage: Usage,
        attempts: int,
        *,
        paid: bool,
        calls: int = 1,
        due: int = 1,
    ) -> Decimal | None:
        """Note what a provider counted, and return its price, as ``protocols.MoneyService.book`` says."""
        return self._book.add(Booking(account, lm, usage, attempts, paid, calls, due))
