"""
Every exception dspex raises at its users, in one tree.

A class exists where a caller would do something different on seeing it; what they need to decide is a typed
attribute, and the message says what to do next::

    DspexError
    ├── ActorError                  a process of the runtime did not do what was asked
    │   ├── ActorExited             it died; ``reason`` says why
    │   ├── AlreadyRegistered       the name or key is taken by ``owner``
    │   ├── CallCycle               answering would need the caller's own answer
    │   ├── CallTimeout             no answer in time (also a TimeoutError)
    │   ├── ChildError              a supervisor refused a management call; ``why`` says which rule
    │   ├── MailboxFull             a bounded mailbox has no room
    │   ├── NoSuchActor             nobody lives under this ref or name (also a LookupError)
    │   ├── NotRegistered           the process holds no such key and is in no such group (also a LookupError)
    │   ├── SpecError               a child spec or supervisor flag is not valid (also a ValueError)
    │   └── StartFailed             ``init`` failed; the reason is the cause
    ├── ServiceError
    │   ├── CacheError              the cache cannot be opened or read
    │   ├── LMError                 one provider call failed for good; ``attempts`` lists the tries
    │   │   ├── AuthFailed          the key is missing, wrong or lacks permission
    │   │   ├── CircuitOpen         the provider has failed too often lately; not sent
    │   │   ├── ContentRefused      the provider's policy refused the prompt or the answer
    │   │   ├── ContextTooLong      the prompt does not fit the model's window
    │   │   ├── QuotaExhausted      no money or no daily quota left; retrying cannot help
    │   │   ├── RateLimited         too many requests or tokens a minute
    │   │   ├── RequestRejected     the provider says the request itself is wrong
    │   │   ├── ResponseInvalid     an answer came that is not one
    │   │   ├── ServerFailed        the provider failed (5xx, overloaded)
    │   │   └── TransportFailed     no complete answer came over the network
    │   ├── RetrievalError          the index cannot be opened or searched
    │   └── ServiceUnavailable      a service cannot start; it keeps trying
    ├── RequestError
    │   ├── AppClosed               the App is closing or closed
    │   ├── DeadlineExceeded        the request ran out of time (also a TimeoutError)
    │   ├── NotInRequest            a program was awaited outside ``app.run``
    │   ├── Overloaded              too many requests are waiting; come back after ``retry_after``
    │   ├── RequestKilled           the request's process was killed; never run twice
    │   ├── ScopeClosed             a step was started after its request had ended
    │   └── StepCrashed             a step died and may not or could not be restarted
    ├── ProgramError
    │   ├── DepsError               ``options(deps=…)`` is not what a tool declared
    │   ├── MissingInput            a program's input is missing, or one was given that it lacks
    │   ├── OutputNotSet            an output was read that was never set (also an AttributeError)
    │   ├── ProgramFrozen           a module was assigned to after ``__init__`` (also an AttributeError)
    │   ├── ResponseUnparsable      the completion lacks fields or has values of the wrong type
    │   ├── SignatureError          a signature cannot be compiled (also a ValueError)
    │   └── StateError              a saved program cannot be loaded into this one (also a ValueError)
    ├── AppError
    │   ├── AppAlreadyRunning       the App was entered twice
    │   ├── AppNotRunning           the App was used before start or after close
    │   ├── ConfigError             an argument of the App or a setting is wrong (also a ValueError)
    │   ├── LeakedTasks             code swallowed its cancellation and still runs
    │   ├── MissingExtra            an optional dependency is not installed (also an ImportError)
    │   └── WrongLoop               the App was used from another loop or thread
    ├── EvaluationError             too many rows failed for a score to mean anything
    │   └── MetricFailed            the metric raised or returned no number
    ├── OptimizationError
    │   ├── JobBusy                 another process is running this job
    │   ├── JobCancelled            the job was cancelled before it had a result
    │   ├── JobMismatch             a job of this name exists for other inputs
    │   └── NoCandidate             no candidate could be built or scored
    └── InternalError               a bug in dspex; please report it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "ActorError",
    "ActorExited",
    "AlreadyRegistered",
    "AppAlreadyRunning",
    "AppClosed",
    "AppError",
    "AppNotRunning",
    "AuthFailed",
    "CacheError",
    "CallCycle",
    "CallTimeout",
    "ChildError",
    "CircuitOpen",
    "ConfigError",
    "ContentRefused",
    "ContextTooLong",
    "DeadlineExceeded",
    "DepsError",
    "DspexError",
    "EvaluationError",
    "InternalError",
    "JobBusy",
    "JobCancelled",
    "JobMismatch",
    "LMError",
    "LeakedTasks",
    "MailboxFull",
    "MetricFailed",
    "MissingExtra",
    "MissingInput",
    "NoCandidate",
    "NoSuchActor",
    "NotInRequest",
    "NotRegistered",
    "OptimizationError",
    "OutputNotSet",
    "Overloaded",
    "ProgramError",
    "ProgramFrozen",
    "QuotaExhausted",
    "RateLimited",
    "RequestError",
    "RequestKilled",
    "RequestRejected",
    "ResponseInvalid",
    "ResponseUnparsable",
    "RetrievalError",
    "ScopeClosed",
    "ServerFailed",
    "ServiceError",
    "ServiceUnavailable",
    "SignatureError",
    "SpecError",
    "StartFailed",
    "StateError",
    "StepCrashed",
    "TransportFailed",
    "WrongLoop",
]


class DspexError(Exception):
    """Base of everything dspex raises on purpose."""


class ActorError(DspexError):
    """A process of the runtime did not do what was asked of it."""


class CallTimeout(ActorError, TimeoutError):
    """No answer came in time; the work may still happen, its late reply is dropped."""

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        super().__init__(f"{target} did not answer within {timeout:g} s")


class NoSuchActor(ActorError, LookupError):
    """Nobody lives under this ref or name."""

    def __init__(self, target: str) -> None:
        self.target = target
        super().__init__(f"{target} is not alive")


class ActorExited(ActorError):
    """The process that was asked, awaited or joined died; ``reason`` is its exit reason."""

    def __init__(self, target: str, reason: object) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"{target} exited: {reason}")


class MailboxFull(ActorError):
    """A bounded mailbox has no room; wait with ``await ref.put(message)`` or slow down."""

    def __init__(self, target: str, limit: int) -> None:
        self.target = target
        self.limit = limit
        super().__init__(f"the mailbox of {target} is full ({limit} messages); use `await ref.put(...)` to wait")


class AlreadyRegistered(ActorError):
    """A name or a unique key is taken; ``owner`` is the ref that holds it."""

    def __init__(self, name: str, owner: object) -> None:
        self.name = name
        self.owner = owner
        super().__init__(f"{name!r} is already registered by {owner}")


class NotRegistered(ActorError, LookupError):
    """A process gives up or changes what it does not have: a key of a registry, its place in a group."""

    def __init__(self, name: str, process: object) -> None:
        self.name = name
        self.process = process
        super().__init__(f"{process} is not registered as {name}")


class StartFailed(ActorError):
    """A process's ``init`` failed; its reason is ``reason`` and, where it raised, the ``__cause__``."""

    def __init__(self, child_id: str, reason: object) -> None:
        self.child_id = child_id
        self.reason = reason
        super().__init__(f"{child_id} failed to start: {reason}")


class CallCycle(ActorError):
    """A call that would come back to a process already waiting in the same chain."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__("call cycle: " + " -> ".join(self.path) + "; reply later from a task, or cast instead")


class ChildError(ActorError):
    """A supervisor's answer to a management call that its rules refuse; ``why`` is OTP's word for it."""

    def __init__(self, child_id: str, why: str, child: object = None) -> None:
        self.child_id = child_id
        self.why = why
        self.child = child
        super().__init__(f"{child_id}: {why}")


class SpecError(ActorError, ValueError):
    """A child spec or a supervisor flag is not valid; ``field`` names it."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{field}={value!r} is not valid: expected {expected}")


# --- services -----------------------------------------------------------------------------------------------


class ServiceError(DspexError):
    """A service (LM, retriever, cache) could not do what was asked."""


class ServiceUnavailable(ServiceError):
    """A service has failed to start several times running; it keeps trying in the background."""

    def __init__(self, service: str, reason: object) -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"{service} is unavailable: {reason}")


class CacheError(ServiceError):
    """The cache cannot be opened, read or written."""


class RetrievalError(ServiceError):
    """The index cannot be opened or searched."""


class LMError(ServiceError):
    """
    One logical LM call failed for good.

    Attributes:
        status: The HTTP status, where one was received.
        code: The provider's own error code, where it gave one.
        request_id: The provider's id of the failed request, for its support desk.
        attempts: The ``Attempt`` records of every try, oldest first.
    """

    is_retryable: ClassVar[bool] = False
    """Whether the retry policy may try the same request again."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts: tuple[object, ...] = ()
        super().__init__(message)


class RateLimited(LMError):
    """Too many requests or tokens a minute; ``retry_after`` seconds is the provider's minimum wait, if given."""

    is_retryable = True


class QuotaExhausted(LMError):
    """No money, credit or daily quota is left on this key; retrying cannot help."""


class AuthFailed(LMError):
    """The key is missing, wrong or lacks permission."""


class RequestRejected(LMError):
    """The provider says that the request itself is wrong."""


class ContextTooLong(RequestRejected):
    """The prompt and the answer's budget do not fit the model's window."""


class ContentRefused(LMError):
    """The provider's policy refused the prompt or withheld the answer."""


class ServerFailed(LMError):
    """The provider failed or is overloaded (5xx, 529)."""

    is_retryable = True


class TransportFailed(LMError):
    """No complete answer came over the network (refused, reset, timed out, cut short)."""

    is_retryable = True


class ResponseInvalid(LMError):
    """An answer with a success status that is not one: not JSON, no choices, an unknown shape."""

    is_retryable = True


class CircuitOpen(LMError):
    """The provider has failed too often lately; nothing was sent. ``retry_after`` says when a probe is due."""

    is_retryable = True


# --- requests -----------------------------------------------------------------------------------------------


class RequestError(DspexError):
    """A request ended without its result."""


class DeadlineExceeded(RequestError, TimeoutError):
    """The request ran out of time; its steps are cancelled."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        super().__init__(f"the request did not finish within its deadline of {deadline:g} s")


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


class AppClosed(RequestError):
    """The App is closing or closed; the request was refused or ended with it."""

    def __init__(self) -> None:
        super().__init__("the App is closed")


# --- programs -----------------------------------------------------------------------------------------------


class ProgramError(DspexError):
    """A program, its signature or its inputs are wrong, or the model's answer does not fit them."""


class SignatureError(ProgramError, ValueError):
    """A signature cannot be compiled; the message names the part and what was expected."""


class MissingInput(ProgramError, TypeError):
    """Inputs do not fit the program: ``missing`` are absent, ``unexpected`` unknown, ``invalid`` of a wrong type."""

    def __init__(
        self,
        program: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        invalid: Sequence[str] = (),
        where: str = "",
    ) -> None:
        self.program = program
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.invalid = tuple(invalid)
        parts = []
        if missing:
            parts.append("missing " + ", ".join(missing))
        if unexpected:
            parts.append("unexpected " + ", ".join(unexpected))
        if invalid:
            parts.append("; ".join(invalid))
        super().__init__(f"{where}{program}: " + "; ".join(parts))


class ResponseUnparsable(ProgramError):
    """
    The completion does not give the signature's outputs.

    Attributes:
        raw: The completion as it came.
        missing_fields: Outputs for which there was no value.
        invalid_fields: Field name to what was wrong with its value.
    """

    def __init__(
        self,
        signature: str,
        raw: str,
        missing_fields: Sequence[str] = (),
        invalid_fields: dict[str, str] | None = None,
    ) -> None:
        self.signature = signature
        self.raw = raw
        self.missing_fields = tuple(missing_fields)
        self.invalid_fields = dict(invalid_fields or {})
        wrong = [f"no value for {name}" for name in self.missing_fields]
        wrong += [f"{name}: {problem}" for name, problem in self.invalid_fields.items()]
        shown = raw if len(raw) <= 200 else raw[:200] + "…"
        super().__init__(f"the completion does not fit {signature} ({'; '.join(wrong)}); it was: {shown!r}")


class ProgramFrozen(ProgramError, AttributeError):
    """A module was assigned to after ``__init__``; programs are values."""

    def __init__(self, program: str, name: str) -> None:
        super().__init__(
            f"{program}.{name} cannot be assigned: programs are frozen after __init__; "
            f"use with_lm(), with_demos(), with_config() or replace() to get a changed copy"
        )


class OutputNotSet(ProgramError, AttributeError):
    """An output was read that was never set."""

    def __init__(self, signature: str, field: str) -> None:
        self.signature = signature
        self.field = field
        super().__init__(f"{signature}.{field} is an output and has not been set")


class StateError(ProgramError, ValueError):
    """A saved program is damaged or belongs to another program; the program it was loaded into is untouched."""


class DepsError(ProgramError, TypeError):
    """``options(deps=…)`` is missing or not of the class that a tool declared."""


# --- apps ---------------------------------------------------------------------------------------------------


class AppError(DspexError):
    """The App was configured or used wrongly."""


class ConfigError(AppError, ValueError):
    """An argument of the App, of the command line or of the environment is wrong; the message says what to give."""


class MissingExtra(AppError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        super().__init__(f"{needed_for} needs an optional dependency: pip install 'dspex[{extra}]'")


class AppNotRunning(AppError, RuntimeError):
    """The App was used before it was started or after it was closed."""

    def __init__(self) -> None:
        super().__init__("the App is not running: use it inside `async with app:` (or after `await app.start()`)")


class AppAlreadyRunning(AppError, RuntimeError):
    """The App was entered while it runs."""

    def __init__(self) -> None:
        super().__init__("the App is already running; one App can be entered once at a time")


class WrongLoop(AppError, RuntimeError):
    """The App, or an actor, was used from another event loop or thread than its own."""

    def __init__(self) -> None:
        super().__init__("this belongs to another event loop; from another thread use call_from_thread()")


class LeakedTasks(AppError):
    """Code swallowed its cancellation and outlived its process; it is fenced, and listed here with its stacks."""

    def __init__(self, stacks: Sequence[str]) -> None:
        self.stacks = tuple(stacks)
        super().__init__(f"{len(self.stacks)} task(s) ignored cancellation:\n" + "\n".join(self.stacks))


class EvaluationError(DspexError):
    """Too many rows failed for a score to mean anything; ``partial`` is the report without one."""

    def __init__(self, message: str, partial: object = None) -> None:
        self.partial = partial
        super().__init__(message)


class MetricFailed(EvaluationError):
    """The metric raised, or returned something that is not a number; the cause is kept."""

    def __init__(self, example_id: str, problem: str) -> None:
        self.example_id = example_id
        super().__init__(f"the metric failed on {example_id}: {problem}")


class OptimizationError(DspexError):
    """An optimizer could not go on."""


class NoCandidate(OptimizationError):
    """No candidate program could be built or scored."""


class JobCancelled(OptimizationError):
    """The job was cancelled before it had a result."""

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"job {job} was cancelled; compile the same job again to continue it")


class JobMismatch(OptimizationError):
    """A job of this name exists for other inputs; ``changed`` names which."""

    def __init__(self, job: str, changed: Sequence[str]) -> None:
        self.job = job
        self.changed = tuple(changed)
        super().__init__(f"job {job} was started with other inputs (changed: {', '.join(changed)}); use another name")


class JobBusy(OptimizationError):
    """Another process is running this job; ``pid`` is its operating-system id."""

    def __init__(self, job: str, pid: int) -> None:
        self.job = job
        self.pid = pid
        super().__init__(f"job {job} is being run by process {pid}")


class InternalError(DspexError):
    """An invariant of dspex itself does not hold: this is a bug in dspex, please report it."""

    def __init__(self, message: str) -> None:
        super().__init__(f"this is a bug in dspex, please report it: {message}")
