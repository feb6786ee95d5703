"""Calls from other threads: the only way into a runtime from outside its loop."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from dspex._clock import monotonic
from dspex.errors import ActorError, ActorExited, CallTimeout, MailboxFull, NoSuchActor, WrongLoop
from dspex.runtime._awaited import waits_for, work_of_thread
from dspex.runtime._chain import refuse_cycle
from dspex.runtime._context import home_process
from dspex.runtime._deadlines import expire, finite_timeout
from dspex.runtime._exit import NO_PROCESS
from dspex.runtime._messages import CAST, CallEnvelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process
    from dspex.runtime._runtime import Runtime

__all__ = ["ThreadGate", "call_from_thread", "cast_from_thread"]

T = TypeVar("T")

_LOOK: Final = 1.0
"""Seconds after which a thread that waits looks whether the loop is still there."""


class ThreadGate:
    """Knows the threads that wait for a runtime, so that none waits for one that has closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None  # that of the loop; None while closed
        self._waiting: dict[Future[object], str] = {}

    def open(self) -> None:
        """Let threads in; called in the thread of the loop."""
        self._thread = threading.get_ident()

    def close(self) -> None:
        """Let nobody in any more, and send away who waits."""
        with self._lock:
            self._thread = None
            waiting, self._waiting = self._waiting, {}
        for answer, label in waiting.items():
            _settle(answer, error=NoSuchActor(label))

    def enter(self, answer: Future[object], label: str) -> None:
        """Note that a thread waits for ``answer``; NoSuchActor when the runtime is closed."""
        with self._lock:
            if self._thread is None:
                raise NoSuchActor(label)
            if self._thread == threading.get_ident():
                raise WrongLoop
            self._waiting[answer] = label

    def leave(self, answer: Future[object]) -> None:
        """Note that nobody waits for ``answer`` any more."""
        with self._lock:
            self._waiting.pop(answer, None)


def call_from_thread(process: ActorProcess, message: object, timeout: float | None) -> object:
    """Call ``process`` and block this thread until it has answered; the rules are those of ``ActorRef``'s method."""
    runtime, timeout = process.runtime, finite_timeout(timeout)
    answer: Future[object] = Future()
    runtime.gate.enter(answer, process.label)
    asking = _Asking(process, message, timeout, answer)
    try:
        if process.exit_reason is not None:
            raise NoSuchActor(process.label)
        _hand_over(runtime, process.label, asking.ask, home_process(), work_of_thread())
        return _wait(runtime, process.label, answer, timeout)
    finally:
        runtime.gate.leave(answer)
        if answer.cancel():  # we leave without an answer
            with suppress(NoSuchActor):
                _hand_over(runtime, process.label, asking.give_up)


def cast_from_thread(process: ActorProcess, message: object) -> bool:
    """Hand a cast to the loop of ``process``; False when it is known to be dead already."""
    home = home_process()
    if process.exit_reason is not None or (home is not None and home.dead_to_the_world):
        return False
    with suppress(NoSuchActor):
        _hand_over(process.runtime, process.label, _cast, process, message)
        return True
    return False


class _Asking:
    """One call on behalf of a thread: what happens of it on the loop."""

    def __init__(self, process: ActorProcess, message: object, timeout: float | None, answer: Future[object]) -> None:
        self.process = process
        self.message = message
        self.timeout = timeout
        self.answer = answer
        self.envelope: CallEnvelope | None = None

    def ask(self, home: Process | None, work: object) -> None:
        """
        Send the call, unless the thread has given up meanwhile.

        Args:
            home: The process that the thread's work comes from.
            work: The future that the thread works for: if ``home`` waits for that, it waits for this call.
        """
        process, answer = self.process, self.answer
        if answer.done():
            return
        try:
            if process.exit_reason is not None:
                raise NoSuchActor(process.label)
            chain: tuple[Process, ...] = ()
            if home is not None:
                if home.dead_to_the_world:
                    raise ActorExited(home.label, home.exit_reason or NO_PROCESS)
                if waits_for(home, work):
                    chain = home.chain()
                    refuse_cycle(chain, process)
            envelope = CallEnvelope(self.message, chain)
            if not process.mailbox.put(envelope):
                raise MailboxFull(process.label, process.mailbox.limit or 0)
        except ActorError as error:
            _settle(answer, error=error)
            return
        self.envelope = envelope
        future = envelope.future
        clock, context, timeout = process.runtime.clock, process.runtime.context, self.timeout
        timer = None
        if timeout is not None:
            timer = clock.call_later(timeout, expire, future, process, timeout, context=context)

        def answered(_: object) -> None:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                envelope.abandon()  # the thread's frames will be in the error's traceback
            _settle(answer, None if error is not None else future.result(), error)

        future.add_done_callback(answered, context=context)

    def give_up(self) -> None:
        """Leave nothing behind of a call whose thread has gone; queued after ``ask``, so that it sees what that did."""
        if self.envelope is not None:
            self.envelope.future.cancel()
            self.envelope.abandon()


def _cast(process: ActorProcess, message: object) -> None:
    if process.exit_reason is None:
        process.mailbox.put((CAST, message))


def _hand_over(runtime: Runtime, label: str, function: Callable[..., object], *args: object) -> None:
    try:
        runtime.loop.call_soon_threadsafe(function, *args, context=runtime.context)
    except RuntimeError as error:  # the loop is closed
        raise NoSuchActor(label) from error


def _wait(runtime: Runtime, label: str, answer: Future[T], timeout: float | None) -> T:
    """Wait for what the loop says; but not for ever for a loop that stands still or is gone."""
    until = None if timeout is None else monotonic() + timeout
    while True:
        try:
            return answer.result(_LOOK if until is None else min(_LOOK, max(0.0, until - monotonic())))
        except NotYet:
            if answer.done():  # in this very moment, or with this very error
                return answer.result()
            if runtime.loop.is_closed():
                raise NoSuchActor(label) from None
            if until is not None and monotonic() >= until:
                raise CallTimeout(label, timeout or 0.0) from None


def _settle(answer: Future[object], value: object = None, error: BaseException | None = None) -> None:
    if answer.done() or not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)
