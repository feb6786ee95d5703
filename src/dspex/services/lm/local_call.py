"""One logical call at a model that answers by itself: its attempts, made in the task of the step that asks."""

from __future__ import annotations

from dspex.errors import LMError
from dspex.protocols.lm import AttemptLog, LMRequest, LMResponse
from dspex.protocols.local import LocalLM
from dspex.protocols.scope import OnDelta
from dspex.runtime import Runtime
from dspex.services.lm._call_log import CallLog
from dspex.services.lm.estimate import TokenEstimate, counted, prompt_tokens
from dspex.services.lm.retry import Raise, RetryAfter, RetryPolicy

__all__ = ["LocalCall"]


class LocalCall(CallLog):
    """
    The attempts of one call: no lease, no network, the retry policy of every call.

    Args:
        runtime: The runtime whose clock is used.
        lm: The model that answers.
        request: The question.
        log: The history of earlier attempts of this call.
        deadline: When the caller's time is over.
        policy: The policy for a failed attempt.
        on_delta: Awaited with each piece of the answer.
    """

    __slots__ = ("_deadline", "_local", "_policy", "_request")

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
        super().__init__(runtime, lm, log, lm.model, on_delta)
        self._local = lm
        self._request = request
        self._deadline = deadline
        self._policy = policy

    async def run(self) -> LMResponse:
        """Make attempts until one answers or none may follow; raises and is cancelled as ``LMService.complete``."""
        self.note_lost_attempts()
        clock, random = self.runtime.clock, self.runtime.random
        while True:
            try:
                return await self._attempt()
            except LMError as error:
                if self.log.delivered:
                    self.give_up(error)
                verdict = self._policy.judge(
                    error, self.number, now=clock.now(), deadline=self._deadline, rand=random.random
                )
                if isinstance(verdict, RetryAfter):
                    await self.allow_soon(error)
            if isinstance(verdict, Raise):
                self.give_up(verdict.error)
            self.note_retry(self.number, verdict.delay)
            await self.runtime.sleep(verdict.delay if self._local.waits else 0.0)

    async def _attempt(self) -> LMResponse:
        """Ask once, and write it down in the tick it ends."""
        log = self.log
        self.allow()
        log.on_wire += 1
        self.begin()
        on_delta = self.deliver if self.on_delta is not None else None
        try:
            response = await self._local.respond(self._request, path=log.path, attempt=self.number, on_delta=on_delta)
        except Exception as error:  # noted here, then raised on
            status, usage = (error.status, error.usage) if isinstance(error, LMError) else (None, None)
            log.on_wire -= 1
            self.note(self.number, type(error).__name__, self.started, status, str(error), usage=usage)
            raise
        response = counted(response, TokenEstimate(prompt_tokens(self._request), None))
        if log.response is None:
            log.response = response
        log.on_wire -= 1
        self.note(self.number, "ok", self.started, first_byte=self.first_piece)
        if on_delta is not None:
            for delta in log.rest():
                await on_delta(delta)
        return response
