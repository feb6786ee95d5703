"""One logical call at a model that answers by itself: its attempts, made in the task of the step that asks."""

from __future__ import annotations

from dspex.errors import LMError
from dspex.protocols.lm import AttemptLog, LMDelta, LMRequest, LMResponse
from dspex.protocols.local import LocalLM
from dspex.protocols.scope import OnDelta
from dspex.runtime import Runtime
from dspex.services.lm._call_log import CallLog
from dspex.services.lm.retry import Raise, RetryPolicy

__all__ = ["LocalCall"]


class LocalCall(CallLog):
    """
    The attempts of one call: no lease, no network, the retry policy of every call.

    Args:
        runtime: Whose clock is used.
        lm: Who answers.
        request: The question.
        log: What earlier attempts of this call have done.
        deadline: When the caller's time is over.
        policy: What follows a failed attempt.
        on_delta: Awaited with each piece of the answer.
    """

    __slots__ = ("_deadline", "_local", "_on_delta", "_policy", "_request")

    def __init__(
        self,
        runtime: Runtime,
        lm: LocalLM,
        request: LMRequest,
        log: AttemptLog,
        deadline: float,
        policy: RetryPolicy,
        on_delta: OnDelta | None,
    ) -> None:
        super().__init__(runtime, lm, log, lm.model)
        self._local = lm
        self._request = request
        self._deadline = deadline
        self._policy = policy
        self._on_delta = on_delta

    async def run(self) -> LMResponse:
        """Make attempts until one answers or none may follow; raises and is cancelled as ``LMService.complete``."""
        self.note_lost_attempts()
        clock, random = self.runtime.clock, self.runtime.random
        while True:
            attempt = len(self.log.attempts) + 1
            try:
                return await self._attempt(attempt)
            except LMError as error:
                if self.log.delivered:
                    self.give_up(error)
                verdict = self._policy.judge(
                    error, attempt, now=clock.now(), deadline=self._deadline, rand=random.random
                )
            if isinstance(verdict, Raise):
                self.give_up(verdict.error)
            self.note_retry(attempt, verdict.delay)
            await self.runtime.sleep(verdict.delay if self._local.waits else 0.0)

    async def _attempt(self, number: int) -> LMResponse:
        """Ask once, and write it down in the tick it ends."""
        log, started = self.log, self.runtime.clock.now()
        log.on_wire += 1
        log.sent += 1
        self.emit("dspex.lm.attempt.start", {"number": number}, {})
        relay = _DeltaRelay(self, self._on_delta, number, started) if self._on_delta is not None else None
        try:
            response = await self._local.respond(
                self._request, path=log.path, attempt=number, on_delta=relay.deliver if relay is not None else None
            )
        except Exception as error:  # noted here, then raised on
            status, usage = (error.status, error.usage) if isinstance(error, LMError) else (None, None)
            log.on_wire -= 1
            self.note(number, type(error).__name__, started, status, str(error), usage=usage)
            raise
        if log.response is None:
            log.response = response
        log.on_wire -= 1
        self.note(number, "ok", started, first_byte=relay.first if relay is not None else None)
        if relay is not None:
            for delta in log.rest():
                await relay.deliver(delta)
        return response


class _DeltaRelay:
    """Hands pieces on; from the first one on nothing is tried again."""

    __slots__ = ("_call", "_number", "_on_delta", "_started", "first")

    def __init__(self, call: LocalCall, on_delta: OnDelta, number: int, started: float) -> None:
        self._call = call
        self._on_delta = on_delta
        self._number = number
        self._started = started
        self.first: float | None = None

    async def deliver(self, delta: LMDelta) -> None:
        if self.first is None:
            self._call.log.delivered = True
            self.first = self._call.runtime.clock.now() - self._started
            self._call.emit("dspex.lm.first_token", {"seconds": self.first, "number": self._number}, {})
        await self._on_delta(delta)
