"""Two asks of one call at the same time: the first answer wins, the other is broken off, nothing is left."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dspex.protocols.lm import AttemptLog, LMDelta, LMResponse
from dspex.protocols.scope import OnDelta
from dspex.runtime import KILL, Crashed, Normal, Runtime, TaskHandle, TaskProcess, calling_process, yield_many
from dspex.services.lm.lease_book import Settle
from dspex.services.lm.leases import Lease
from dspex.services.lm.logical_call import LogicalCall
from dspex.services.lm.retry import Raise, RetryAfter

__all__ = ["Race"]


@dataclass(slots=True, eq=False)
class _Runner:
    """One ask under way, in a process of its own below the step."""

    member: int
    call: LogicalCall
    lease: Lease
    number: int
    process: TaskProcess
    on_delta: OnDelta | None
    lost: bool = False


class Race:
    """
    The asks of one attempt, each a process owned by the step: the step's death kills them, and their sockets with them.

    The leases are held by the step, so that whichever way it ends they are given back. Of streamed answers the first
    piece decides: the other ask is broken off before the piece is handed on, so that nobody sees two answers mixed.
    """

    __slots__ = ("_learn", "_log", "_runners", "_runtime")

    def __init__(self, runtime: Runtime, log: AttemptLog, learn: Callable[[int, Lease], None]) -> None:
        self._runtime = runtime
        self._log = log
        self._learn = learn
        self._runners: list[_Runner] = []

    def enter(self, member: int, call: LogicalCall, lease: Lease, number: int) -> None:
        """Begin an ask for which there is a lease."""
        step = calling_process()
        on_delta = call.on_delta
        if on_delta is not None:
            call.claim = partial(self._claim, call)
            call.on_delta = partial(self._hand_on, call, on_delta)
        work = partial(call.attempt, lease, number)
        label = f"{step.label} asks {call.lm.model}"
        process = self._runtime.spawn_task(step, work, label=label, context=contextvars.copy_context())
        self._runners.append(_Runner(member, call, lease, number, process, on_delta))

    async def begun_within(self, seconds: float) -> bool:
        """
        Wait for the first ask's end, or ``seconds``; whether an answer had begun by then, or there was an end.

        Cancellation: the asks go on; ``break_off`` ends them.
        """
        await self._runners[0].process.wait_exit(seconds)
        return self.decided

    @property
    def decided(self) -> bool:
        """True when the first ask has ended, or its answer has begun: there is nothing to win any more."""
        first = self._runners[0]
        return first.process.dead or first.lease.begun_at is not None

    async def finish(self, heed: Callable[[int, RetryAfter | Raise], None]) -> LMResponse | None:
        """
        Return the first answer; ``None`` when every ask has failed, which ``heed`` was told, each in its turn.

        Raises:
            Exception: The exceptions of ``heed`` and of an ask.
        Cancellation: the asks go on; ``break_off`` ends them.
        """
        hedged = len(self._runners) > 1
        while self._runners:
            runner = await self._next_end()
            if runner.lost:
                self._write_off(runner, "cancelled")
                continue
            answer = self._answer_of(runner)
            if isinstance(answer, LMResponse):
                self._learn(runner.member, runner.lease)
                if hedged:
                    await self.break_off()
                    self._tell_winner(runner)
                return answer
            heed(runner.member, answer)
        return None

    async def _hand_on(self, call: LogicalCall, on_delta: OnDelta, delta: LMDelta) -> None:
        """Hand on a piece of the ask that was first to have one; the others' are never seen."""
        await self._claim(call)
        await on_delta(delta)

    async def _claim(self, call: LogicalCall) -> None:
        """Make this ask the one that is read, in this tick and for good; one that has lost is killed here."""
        own = next((each for each in self._runners if each.call is call), None)
        if own is None or own.lost:
            await self._runtime.loop.create_future()  # the kill is on its way
        for runner in self._runners:
            if runner is not own and not runner.lost:
                runner.lost = True
                runner.process.receive_exit(KILL, None)

    async def _next_end(self) -> _Runner:
        """Return an ask that has ended, no longer in the race."""
        step = calling_process()
        await yield_many([TaskHandle(each.process, step) for each in self._runners], None, limit=1)
        runner = next(each for each in self._runners if each.process.dead)
        self._runners.remove(runner)
        runner.call.on_delta, runner.call.claim = runner.on_delta, None
        return runner

    def _answer_of(self, runner: _Runner) -> LMResponse | RetryAfter | Raise:
        """Return what an ask came to; one that was killed by others is to be made again."""
        process = runner.process
        if isinstance(process.exit_reason, Normal) and process.returned:
            answer: LMResponse | RetryAfter | Raise = process.result
            return answer
        self._write_off(runner, "killed")
        if isinstance(process.exit_reason, Crashed):
            raise process.exit_reason.error
        return RetryAfter(0.0)

    async def break_off(self, why: BaseException | None = None) -> None:
        """
        Kill what still runs, wait for the sockets to be closed, and settle: sent and unknown is charged.

        Cancellation: changes nothing; it is over within twice the runtime's kill budget.
        """
        runners, self._runners = self._runners, []
        for runner in runners:
            runner.call.on_delta, runner.call.claim = runner.on_delta, None
        await self._runtime.kill_tasks([runner.process for runner in runners])
        for runner in runners:
            if not runner.process.returned:
                self._write_off(runner, "killed" if isinstance(why, asyncio.CancelledError) else "cancelled")

    def _write_off(self, runner: _Runner, outcome: str) -> None:
        """Write down an ask that will have no answer, and give its lease back without a verdict."""
        call, started = runner.call, runner.lease.sent_at
        if outcome == "cancelled":
            self._learn(runner.member, runner.lease)
        message = {"cancelled": "another model was faster", "killed": "killed while it was on the wire"}[outcome]
        if call.sending is not None:
            number, call.sending = call.sending, None
            self._log.on_wire -= 1
            call.note(number, outcome, started, None, message)
            call.emit("dspex.lm.unknown_charge", {"number": number}, {})
        call.client.cast(Settle(runner.lease.id, None, runner.number, call.deadline, cancelled=True))

    def _tell_winner(self, winner: _Runner) -> None:
        seconds = self._runtime.clock.now() - winner.lease.sent_at
        winner.call.emit("dspex.lm.hedge.won", {"duration": seconds}, {})
