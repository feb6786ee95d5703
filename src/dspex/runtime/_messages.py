"""The items in a mailbox: envelopes around users' messages, and the runtime's own notices."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dspex._guard import text_of
from dspex.errors import WrongLoop
from dspex.runtime._context import HOME, current_process
from dspex.runtime._exit import ExitReason

if TYPE_CHECKING:
    from dspex.runtime._process import Process
    from dspex.runtime._ref import ProcessRef

__all__ = [
    "CAST",
    "Call",
    "CallEnvelope",
    "Down",
    "Exit",
    "From",
    "IdleTimeout",
    "InfoEnvelope",
    "StopEnvelope",
    "SystemEnvelope",
    "as_answer",
    "as_info",
]

R = TypeVar("R")


class Call(Generic[R]):
    """
    Base for messages whose answer has a type: ``class GetUser(Call[User])``.

    ``await ref.call(GetUser(7))`` is then a ``User`` to the type checker. Other messages give ``Any``.
    """

    __slots__ = ()


class CallEnvelope:
    """A message that wants an answer; also the ``From`` by which a deferred answer is given."""

    __slots__ = ("chain", "deferred_by", "future", "message")

    future: asyncio.Future[object]
    """Where the answer goes; made when somebody asks for it, for most calls are answered in their caller's tick."""

    def __init__(self, message: object, chain: tuple[Process, ...]) -> None:
        self.message = message
        self.chain = chain
        self.deferred_by: dict[CallEnvelope, None] | None = None

    if not TYPE_CHECKING:  # pragma: no branch - type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> object:
            if name != "future":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            future = self.future = asyncio.get_running_loop().create_future()
            return future

    def reply(self, value: object) -> bool:
        """
        Answer the caller; from any code of the same loop, at any time, at most once.

        Returns:
            False when the caller has gone (timed out, was cancelled, was answered), or the replying process is
            dying itself: the value was dropped.
        """
        home = HOME.get()
        if home is not None and home.exit_reason is not None and current_process() is home:
            return False
        self._forget()
        future = self.future
        if future.done():
            return False
        if _get_running_loop() is not future.get_loop():
            _refuse_others(future.get_loop())
        future.set_result(value)
        return True

    def fail(self, error: Exception) -> bool:
        """
        Answer the caller with an exception, which its ``call`` raises; False when the caller has gone.

        A dying process may still do this: it is how a task that is killed tells whom it worked for. An exception
        that means something to Python itself (StopIteration, a cancellation, an interrupt) reaches the caller as the
        cause of a RuntimeError: as itself it would end the caller's loop, its task or the program.
        """
        home = HOME.get()
        if home is not None and home.dead and current_process() is home:
            return False
        self._forget()
        future = self.future
        if future.done():
            return False
        if _get_running_loop() is not future.get_loop():
            _refuse_others(future.get_loop())
        future.set_exception(as_answer(error))
        return True

    @property
    def waiting(self) -> bool:
        """True when the caller still waits."""
        return not self.future.done()

    def abandon(self) -> None:
        """
        Leave nothing behind when the caller stops waiting, be it in the very tick in which it was answered.

        The actor may go on working for long: until then it holds a future that says no more than that nobody waits,
        for the caller's own may hold an error, whose traceback holds the caller's frames.
        """
        self._forget()
        future = self.future
        if future.done() and not future.cancelled():
            future.exception()  # nobody else will look: asyncio must not complain about that
        self.future = future.get_loop().create_future()
        self.future.cancel()

    def __copy__(self) -> CallEnvelope:
        return self

    def __deepcopy__(self, memo: object) -> CallEnvelope:
        return self

    def _forget(self) -> None:
        if self.deferred_by is not None:
            self.deferred_by.pop(self, None)
            self.deferred_by = None


def _refuse_others(loop: asyncio.AbstractEventLoop) -> None:
    """Raise WrongLoop in another loop or thread; while the loop only rests, its thread may answer."""
    if _get_running_loop() is not None or loop.is_running() or loop.is_closed():
        raise WrongLoop


def as_answer(error: BaseException | type[BaseException]) -> Exception:
    """Return ``error`` as what an awaited future may raise in somebody else's task."""
    if isinstance(error, type) and issubclass(error, BaseException):
        error = error()
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    if not isinstance(error, BaseException):
        raise TypeError(f"a call fails with an exception, not with a {type(error).__name__}")
    answer = RuntimeError(f"the answer is {type(error).__name__}: {text_of(error)}")
    answer.__cause__ = error
    return answer


class SystemEnvelope(CallEnvelope):
    """A question that the loop itself answers; ``message`` is a function of the process."""

    __slots__ = ()


From = CallEnvelope
"""The second argument of ``handle_call``: keep it and call ``reply`` later."""


class _Cast:
    __slots__ = ()


CAST: Final = _Cast()
"""``(CAST, message)`` is a message that wants no answer: a plain tuple, for nothing is made faster."""


class InfoEnvelope:
    """A message to ``handle_info`` that would be taken for something else: a ``From`` that somebody sends on."""

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        self.message = message


def as_info(message: object) -> object:
    """Return ``message`` as what a mailbox takes for a message to ``handle_info``."""
    return InfoEnvelope(message) if type(message) in _NOT_INFO else message


class StopEnvelope:
    """A request to end with ``reason``, in mailbox order; ``terminate`` runs."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason


_NOT_INFO: Final = frozenset((CallEnvelope, SystemEnvelope, StopEnvelope, InfoEnvelope))


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored process has ended; delivered once per monitor, to ``handle_info``."""

    monitor: int
    ref: ProcessRef
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked process has ended; delivered to ``handle_info`` of actors with ``trap_exit = True``."""

    ref: ProcessRef | None
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """Nothing came for as long as ``Idle(seconds)`` said; delivered to ``handle_info``."""
