"""One logical call at a pool: the member whose turn it is, the next when it cannot, a second when it is slow."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

from dspex.errors import BudgetExceeded, InternalError, LMError, RequestRejected
from dspex.protocols.lm import AttemptLog, LMResponse
from dspex.protocols.model import LM, LMPool
from dspex.runtime import Runtime
from dspex.services.lm.first_bytes import FirstBytes
from dspex.services.lm.lease_book import Busy, Settle
from dspex.services.lm.leases import Lease
from dspex.services.lm.logical_call import LogicalCall
from dspex.services.lm.pool_policy import HedgeBudget, Round, may_answer_elsewhere
from dspex.services.lm.race import Race
from dspex.services.lm.retry import Raise, RetryAfter

__all__ = ["PoolCall", "PoolState"]


class PoolState:
    """The data that outlives the calls at one pool."""

    __slots__ = ("first_bytes", "hedges", "pool")

    def __init__(self, pool: LMPool) -> None:
        self.pool = pool
        self.hedges = HedgeBudget(pool.hedge_share)
        self.first_bytes: dict[LM, FirstBytes] = {}
        """By member: how long its answers take to begin."""

    def hedge_after(self, lm: LM) -> float | None:
        """Return the seconds that ``lm`` may take to begin before another is asked; ``None`` for any time."""
        after = self.pool.hedge_after
        if after != "auto":
            return after
        seen = self.first_bytes.get(lm)
        return seen.value if seen is not None else None

    def learn(self, lm: LM, seconds: float) -> None:
        """Note how long ``lm`` took to begin an answer."""
        if self.pool.hedge_after == "auto":
            self.first_bytes.setdefault(lm, FirstBytes()).note(seconds)


class PoolCall:
    """
    The attempts of one call at the members of a pool, in its step's own task.

    A member that cannot take the call now (no slot, paused, its buckets too low, its breaker or its key open) is
    passed over at once; when none can, the call waits at the one that will be first. A member that failed is left
    alone for as long as its own retry policy says, which no other member has to wait for. One idempotency key, one
    list of attempts and one deadline hold for all.

    Args:
        runtime: The runtime whose clock and names are used.
        state: The pool's.
        members: In the order in which this call asks them.
        open_call: Makes the attempts at one member, encoded for it.
        log: The history of earlier attempts of this call.
        deadline: When the caller's time is over.
    """

    __slots__ = ("_calls", "_last", "_left", "_members", "_open_call", "_round", "deadline", "log", "runtime", "state")

    def __init__(
        self,
        runtime: Runtime,
        state: PoolState,
        members: Sequence[LM],
        open_call: Callable[[LM], Awaitable[LogicalCall]],
        log: AttemptLog,
        deadline: float,
    ) -> None:
        self.runtime = runtime
        self.state = state
        self.log = log
        self.deadline = deadline
        self._members = members
        self._open_call = open_call
        self._calls: dict[int, LogicalCall] = {}
        self._round = Round(len(members))
        self._last: LMError | None = None
        self._left: tuple[LogicalCall, str] | None = None

    async def run(self) -> LMResponse:
        """Ask members until one answers or none may; raises and is cancelled as ``LMService.complete``."""
        hedges = self.state.hedges
        if self.log.sent == 0:
            hedges.earn()
        while True:
            member, lease = await self._lease()
            call, number = self._calls[member], self._round.attempts[member] + 1
            after = self.state.hedge_after(self._members[member])
            if after is None or not hedges.available:
                verdict = await call.attempt(lease, number)
                if isinstance(verdict, LMResponse):
                    self._learn(member, lease)
                    return verdict
                self._heed(member, verdict)
                continue
            race = Race(self.runtime, self.log, self._learn)
            race.enter(member, call, lease, number)
            try:
                if not await race.begun_within(after):
                    await self._hedge(race, member, after)
                answer = await race.finish(self._heed)
            except BaseException as error:  # whatever it is: undone here, then raised on
                await race.break_off(error)
                raise
            if answer is not None:
                return answer

    # --- whose turn it is -----------------------------------------------------------------------------------

    async def _lease(self) -> tuple[int, Lease]:
        """Return a lease of the first member that grants one, waiting if none does."""
        while True:
            now = self.runtime.clock.now()
            due = self._round.due(now)
            if not due:
                await self._pause(now)
                continue
            busy: list[tuple[float, int]] = []
            for member in due:
                found = await self._ask(member, queue=len(due) == 1)
                if isinstance(found, Lease):
                    return member, found
                if found is not None:
                    busy.append((found.wait, member))
            if busy:
                member = min(busy, key=lambda each: each[0])[1]
                found = await self._ask(member, queue=True)
                if isinstance(found, Lease):
                    return member, found

    async def _ask(self, member: int, *, queue: bool) -> Lease | Busy | None:
        """Ask one member for a lease; ``None`` when it is out, or to be left alone for a while."""
        call = self._calls.get(member)
        if call is None:
            try:
                call = self._calls[member] = await self._open_call(self._members[member])
            except RequestRejected as error:  # this member's wire has no word for it: another's may
                self._last = error
                self._round.out(member)
                return None
            if len(self._calls) == 1:
                call.note_lost_attempts()
        granted: Lease | RetryAfter | Raise | Busy = Busy(math.inf)
        if queue or self._is_there(call):
            granted = await call.acquire(self._round.attempts[member] + 1, queue=queue)
        if isinstance(granted, Lease):
            self._tell_fallback(call)
            return granted
        if isinstance(granted, Busy):
            if self._left is None:
                self._left = (call, "busy")
            return granted
        self._heed(member, granted)
        return None

    def _is_there(self, call: LogicalCall) -> bool:
        """True when a member's client and transport live and are not being restarted."""
        return self.runtime.whereis(call.client.name) is not None and call.keyed.table.channel is not None

    async def _pause(self, now: float) -> None:
        """Wait until a member may be asked again; raise the last word when all are out."""
        until = self._round.next_at()
        if until is None:
            if self._last is None:
                raise InternalError("every member of a pool is out, and none said why")
            self._last.attempts = tuple(self.log.attempts)
            raise self._last
        call = next(iter(self._calls.values()))
        why = self.log.attempts[-1].outcome if self.log.attempts else "CircuitOpen"
        call.emit("dspex.lm.retry", {"number": len(self.log.attempts), "delay": until - now}, {"error": why})
        await self.runtime.sleep(until - now)

    def _heed(self, member: int, verdict: RetryAfter | Raise) -> None:
        """Note what a member's client says follows; raises what is no other member's business."""
        call = self._calls[member]
        self._round.attempts[member] += 1
        if isinstance(verdict, RetryAfter):
            self._round.wait(member, self.runtime.clock.now() + verdict.delay)
            why = self.log.attempts[-1].outcome if self.log.attempts else "CircuitOpen"
        else:
            if self.log.delivered or not may_answer_elsewhere(verdict.error):
                call.give_up(verdict.error)
            self._last = verdict.error
            self._round.out(member)
            why = type(verdict.error).__name__
        if self._left is None:
            self._left = (call, why)

    def _tell_fallback(self, call: LogicalCall) -> None:
        """Say that another member is asked than the one whose turn it was."""
        left, self._left = self._left, None
        if left is not None and left[0] is not call:
            number = {"number": len(self.log.attempts) + 1}
            left[0].emit("dspex.lm.fallback", number, {"to": call.client.name, "error": left[1]})

    # --- a second one ---------------------------------------------------------------------------------------

    def _is_allowed(self, call: LogicalCall) -> bool:
        """True when the budgets have a call for a second ask."""
        try:
            call.allow()
        except BudgetExceeded:
            return False
        return True

    def _learn(self, member: int, lease: Lease) -> None:
        """Note how long an ask took to begin, or had taken when another was faster."""
        begun = lease.begun_at if lease.begun_at is not None else self.runtime.clock.now()
        self.state.learn(self._members[member], begun - lease.sent_at)

    async def _hedge(self, race: Race, first: int, after: float) -> None:
        """Let another member join the race, or the same one where it is alone; none joins that is not at its best."""
        if not self.state.hedges.spend():
            return
        others = [member for member in self._round.due(self.runtime.clock.now()) if member != first]
        for member in others if len(self._members) > 1 else [first]:
            call = self._calls.get(member)
            if call is None or member == first:
                try:
                    call = await self._open_call(self._members[member])
                except RequestRejected:  # it cannot be asked this; that it may not help is not an error
                    continue
            if member == first:
                call.key += "-again"  # the same key would be the same call to the provider
            else:
                self._calls[member] = call
            number = self._round.attempts[member] + 1
            lease = await call.acquire(number, queue=False, hedge=True) if self._is_there(call) else None
            if isinstance(lease, Lease):
                if race.decided or not self._is_allowed(call):
                    call.client.cast(Settle(lease.id, None, number, self.deadline, cancelled=True))
                    break
                self._calls[first].emit("dspex.lm.hedge", {"after": after}, {"to": call.client.name})
                race.enter(member, call, lease, number)
                return
        self.state.hedges.refund()
