"""Errors that the runtime raises or reports."""

from __future__ import annotations

from collections.abc import Sequence

from dspex._guard import shown, text_of
from dspex.errors._base import DspexError

__all__ = [
    "ActorError",
    "ActorExited",
    "AlreadyRegistered",
    "CallCycle",
    "CallTimeout",
    "ChildError",
    "MailboxFull",
    "NoSuchActor",
    "NotRegistered",
    "OsProcessFailed",
    "RuntimeClosed",
    "SpecError",
    "StartFailed",
    "UnknownMessage",
]


class ActorError(DspexError):
    """A process of the runtime did not do what was asked of it."""


class CallTimeout(ActorError, TimeoutError):
    """No answer came in time; the work may still happen, its late reply is dropped."""

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        super().__init__(f"{target} did not answer within {timeout:g} s")


class NoSuchActor(ActorError, LookupError):
    """
    Nobody lives under this ref, and nobody has or is about to have this name or key.

    Attributes:
        target: The one asked for: a label, a name or a key.
        nearest: The names (or keys that are texts) most like the one asked for, the likeliest first; at most three.
    """

    def __init__(self, target: str, *, place: str | None = None, nearest: Sequence[str] = ()) -> None:
        self.target = target
        self.nearest = tuple(nearest)
        if place is None:
            super().__init__(f"{target} is not alive")
            return
        hint = f"; the nearest: {', '.join(map(repr, self.nearest))}" if self.nearest else ""
        super().__init__(f"nobody has {place}, and no supervisor is about to start an actor under it{hint}")


class RuntimeClosed(ActorError):
    """The runtime is not open: nothing starts in it, and nobody in it can be called."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        super().__init__(f"{wanted}: the runtime is not open; use it inside `async with Runtime() as runtime:`")


class UnknownMessage(ActorError, TypeError):
    """An actor of the library was asked something that it does not understand; it goes on."""

    def __init__(self, target: str, message: object) -> None:
        self.target = target
        super().__init__(f"{target} does not understand {shown(message)}; use the methods of its ref")


class ActorExited(ActorError):
    """The process that was asked, awaited or joined died; ``reason`` is its exit reason."""

    def __init__(self, target: str, reason: object) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"{target} exited: {text_of(reason)}")


class MailboxFull(ActorError):
    """A bounded mailbox has no room; wait with ``await ref.put(message)`` or slow down."""

    def __init__(self, target: str, limit: int) -> None:
        self.target = target
        self.limit = limit
        super().__init__(f"the mailbox of {target} is full ({limit} messages); use `await ref.put(...)` to wait")


class AlreadyRegistered(ActorError):
    """A name, or a unique key (of any type), is taken; ``owner`` is the ref that holds it."""

    def __init__(self, name: object, owner: object) -> None:
        self.name = name
        self.owner = owner
        super().__init__(f"{shown(name)} is already registered by {owner}")


class NotRegistered(ActorError, LookupError):
    """A process gives up or changes what it does not have: a key of a registry, its place in a group."""

    def __init__(self, name: str, process: object) -> None:
        self.name = name
        self.process = process
        super().__init__(f"{process} is not registered as {name}")


class OsProcessFailed(ActorError):
    """
    A program could not be started, was not ready in time, or ended as it should not.

    Attributes:
        program: Its name, without its arguments.
        code: Its exit code; the negative number of the signal that ended it; None while it has not ended.
        lines: The last lines that it wrote.
    """

    def __init__(self, program: str, why: str, code: int | None = None, lines: Sequence[str] = ()) -> None:
        self.program = program
        self.code = code
        self.lines = tuple(lines)
        said = f"; it wrote: {' | '.join(self.lines)}" if self.lines else ""
        super().__init__(f"{program} {why}{said}")


class StartFailed(ActorError):
    """A process's ``init`` failed; its reason is ``reason`` and, where it raised, the ``__cause__``."""

    def __init__(self, child_id: str, reason: object) -> None:
        self.child_id = child_id
        self.reason = reason
        super().__init__(f"{child_id} failed to start: {text_of(reason)}")


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
        super().__init__(f"{field}={shown(value)} is not valid: expected {expected}")
