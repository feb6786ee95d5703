"""A process without mailbox: a supervised coroutine that dies with its owner."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

from dspex.runtime._chain import refuse_wait
from dspex.runtime._exit import KILL, Crashed, ExitReason
from dspex.runtime._process import Process, is_cancellation
from dspex.runtime._ref import ProcessRef

if TYPE_CHECKING:
    from dspex.runtime._messages import CallEnvelope
    from dspex.runtime._runtime import Runtime

__all__ = ["TaskProcess"]


class TaskProcess(Process):
    """
    One coroutine with an exit reason and a result.

    The link to its owner is one-way: the owner's death kills it, its own death is only seen by who awaits it.
    ``result`` is meaningful when ``returned`` is true; a task may also end normally by an exit signal to itself. The
    normal end of a ``quiet`` one sends no signal to those it is linked to.
    """

    __slots__ = ("callers", "quiet", "result", "returned", "serves")

    def __init__(
        self,
        runtime: Runtime,
        owner: Process,
        label: str,
        context: Context,
        serves: CallEnvelope | None,
        callers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(runtime, owner, label, context)
        self.serves = serves
        self.callers = callers
        self.quiet = False
        self.returned = False
        self.result: Any = None  # whatever the coroutine returned

    wait_newborn = Process.wait_exit
    """Returns the exit reason once dead: for who has started it in this tick, so that it cannot wait for them."""

    async def _main(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = await work(*args)
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would let them through and tear the loop down
            if self.exit_reason is None:
                self.exit_reason = Crashed(error)
            self.pass_interrupt(error)
            return
        except BaseExceptionGroup as error:
            if not is_cancellation(error):
                self.pass_interrupt(error)
            raise
        if self.exit_reason is None:
            self.result = result
            self.returned = True
            self._end_here()

    @property
    def ref(self) -> ProcessRef:
        """The handle others hold."""
        return ProcessRef(self)

    def chain(self) -> tuple[Process, ...]:
        """The processes that wait for this task, itself last; who has been answered waits no longer."""
        serves = self.serves
        return (*serves.chain, self) if serves is not None and serves.waiting else (self,)

    @property
    def serving(self) -> CallEnvelope | None:
        """The call whose answer this task is working on."""
        return self.serves

    def wait_exit(self, timeout: float | None = None) -> Coroutine[object, object, ExitReason | None]:
        """Return the exit reason once dead, or None after ``timeout`` seconds; CallCycle if it waits for the caller."""
        if timeout is None and not self.dead:
            refuse_wait((self,))
        return super().wait_exit(timeout)

    def owner_died(self, reason: ExitReason) -> None:
        """Die: a task has nobody left to work for."""
        self.receive_exit(KILL, self.parent)
