"""A process without mailbox: a supervised coroutine that dies with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from dspex.runtime._exit import KILL, NORMAL, ExitReason
from dspex.runtime._process import Process
from dspex.runtime._ref import ProcessRef

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = ["TaskProcess"]


class TaskProcess(Process):
    """
    One coroutine with an exit reason and a result.

    The link to its owner is one-way: the owner's death kills it, its own death is only seen by who awaits it.
    ``result`` is meaningful when ``exit_reason`` is normal.
    """

    __slots__ = ("_chain", "result")

    def __init__(
        self,
        runtime: Runtime,
        owner: Process,
        label: str,
        context: Context,
        chain: tuple[Process, ...],
    ) -> None:
        super().__init__(runtime, owner, label, context)
        self._chain = chain
        self.result: Any = None  # whatever the coroutine returned

    def run(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Schedule ``work(*args)``; it begins in the next turn of the loop."""
        self._launch(work(*args))

    @property
    def ref(self) -> ProcessRef:
        """The handle others hold."""
        return ProcessRef(self)

    def chain(self) -> tuple[Process, ...]:
        """The processes that wait for this task, itself last."""
        return (*self._chain, self)

    @property
    def serving(self) -> tuple[Process, ...]:
        """The processes that wait for this task, itself left out."""
        return self._chain

    def owner_died(self, reason: ExitReason) -> None:
        """Die: a task has nobody left to work for."""
        self.receive_exit(KILL, self.parent)

    def _take_result(self, task: asyncio.Task[Any]) -> None:
        self.exit_reason = NORMAL
        self.result = task.result()
