"""Ends of a request without its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspex.errors._base import DspexError

__all__ = [
    "AppClosed",
    "DeadlineExceeded",
    "NotInRequest",
    "Overloaded",
    "RecordedFailure",
    "RequestError",
    "RequestKilled",
    "ScopeClosed",
    "StepCrashed",
    "StreamInterrupted",
]


class RequestError(DspexError):
    """A request ended without its result."""


class DeadlineExceeded(RequestError, TimeoutError):
    """
    The request ran out of time; its steps are cancelled.

    The message ends with its last attempt at a provider: how it failed, or how long its answer was awaited.
    """

    def __init__(self, deadline: float, last_attempt: str = "") -> None:
        self.deadline = deadline
        last = f"; the last attempt: {last_attempt}" if last_attempt else ""
        super().__init__(f"the request did not finish within its deadline of {deadline:g} s{last}")


class RequestKilled(RequestError):
    """The request's process was killed after its program had begun; it is never run a second time."""

    def __init__(self, request_id: str, reason: object, attempts: Sequence[object] = ()) -> None:
        self.request_id = request_id
        self.reason = reason
        self.attempts = tuple(attempts)
        super().__init__(f"request {request_id} was killed ({reason}) after {len(self.attempts)} provider attempts")


class StepCrashed(RequestError):
    """A step (LM call, retrieval, tool call) died and may not, or could not, be restarted."""

    def __init__(self, step: str, reason: object, restarts: int) -> None:
        self.step = step
        self.reason = reason
        self.restarts = restarts
        super().__init__(f"step {step} crashed ({reason}) after {restarts} restarts")


class ScopeClosed(RequestError):
    """A step was started after its request had ended; await everything that ``forward`` starts."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"request {request_id} has ended: await everything that forward starts")


class NotInRequest(RequestError):
    """A program was awaited outside a request."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was awaited outside a request: use `await app.run(program, ...)`")


class Overloaded(RequestError):
    """The App's waiting room is full; nothing was started."""

    def __init__(self, running: int, waiting: int, retry_after: float) -> None:
        self.running = running
        self.waiting = waiting
        self.retry_after = retry_after
        super().__init__(f"{running} requests run and {waiting} wait; try again in {retry_after:g} s")


class StreamInterrupted(RequestError):
    """
    A streamed answer broke off after its first piece was handed on; it is not tried again behind the reader's back.

    Attributes:
        predictor: The predictor whose answer it was.
        partial: The fields as far as they came, by name.
        reason: The cause of the break, an error mostly.
        attempts: The ``Attempt`` records of the call, oldest first.
    """

    def __init__(
        self, predictor: str, partial: Mapping[str, object], reason: object, attempts: Sequence[object] = ()
    ) -> None:
        self.predictor = predictor
        self.partial = dict(partial)
        self.reason = reason
        self.attempts = tuple(attempts)
        super().__init__(f"the answer of {predictor} broke off ({reason}); options(on_interrupt='reset') starts again")


class RecordedFailure(RequestError):
    """A row of ``app.map`` failed in an earlier run; ``retry_failed=True`` runs it again."""

    def __init__(self, error: str, message: str) -> None:
        self.error = error
        super().__init__(f"failed in an earlier run: {error}: {message}")


class AppClosed(RequestError):
    """The App is closing or closed; the request was refused or ended with it."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        super().__init__(f"the App is closed: {why}" if why else "the App is closed")
