"""Locks by key that no dead process holds."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable

from dspex._guard import shown
from dspex.errors import ActorExited, CallCycle
from dspex.runtime._chain import chain_of
from dspex.runtime._context import HOME, current_process
from dspex.runtime._process import Process

__all__ = ["KeyLocks"]


class _Ticket:
    """A place in the queue of one key; the first place is the lock itself."""

    __slots__ = ("key", "process", "task", "turn")

    def __init__(self, key: Hashable, process: Process | None, task: asyncio.Task[object] | None) -> None:
        self.key = key
        self.process = process
        self.task = task
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class KeyLocks:
    """
    One lock for each key, first come, first served.

    A ticket is given back when its block ends, and when its process is dead, be its code still running (fenced).
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, OrderedDict[_Ticket, None]] = {}
        self._held: dict[Process, dict[_Ticket, None]] = {}
        self._waiting: dict[asyncio.Task[object], _Ticket] = {}

    async def run(self, key: Hashable, function: Callable[[], object]) -> object:
        """Run ``function`` while nobody else runs one for ``key``; await what it returns, if need be."""
        ticket = self._draw(key)
        try:
            if not ticket.turn.done():
                await self._wait(ticket)
            outcome = function()
            return await outcome if inspect.isawaitable(outcome) else outcome
        finally:
            self._give_back(ticket)

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _draw(self, key: Hashable) -> _Ticket:
        process, task = current_process(), asyncio.current_task()
        if process is not None and process.dead_to_the_world:
            raise ActorExited(process.label, process.exit_reason)
        queue = self._queues.get(key)
        if queue and task is not None:
            self._refuse_cycle(key, task)
        if queue is None:
            queue = self._queues[key] = OrderedDict()
        ticket = _Ticket(key, process, task)
        queue[ticket] = None
        if process is not None:
            if process not in self._held:
                self._held[process] = {}
                process.own(process, self._release_all)
            self._held[process][ticket] = None
        self._call_next(queue)
        return ticket

    async def _wait(self, ticket: _Ticket) -> None:
        if ticket.task is not None:
            self._waiting[ticket.task] = ticket
        try:
            await ticket.turn
        finally:
            if ticket.task is not None:
                self._waiting.pop(ticket.task, None)

    def _refuse_cycle(self, key: Hashable, task: asyncio.Task[object]) -> None:
        """Follow who holds the lock, the lock that one waits for, and so on: nobody may wait for us."""
        home, path = HOME.get(), [_label(HOME.get(), task)]
        chain = chain_of(home) if home is not None else ()
        ticket: _Ticket | None = next(iter(self._queues[key]))
        while ticket is not None:
            path += [f"the lock {shown(ticket.key)}", _label(ticket.process, ticket.task)]
            if ticket.task is task or (ticket.process is not None and ticket.process in chain):
                raise CallCycle(path)
            wanted = self._waiting.get(ticket.task) if ticket.task is not None else None
            ticket = next(iter(self._queues[wanted.key])) if wanted is not None else None

    def _give_back(self, ticket: _Ticket) -> None:
        """Leave the queue, from whatever place; doing it twice is fine."""
        queue = self._queues.get(ticket.key)
        if queue is None or ticket not in queue:
            return
        del queue[ticket]
        if ticket.process is not None:
            self._held.get(ticket.process, {}).pop(ticket, None)
        ticket.turn.cancel()  # somebody fenced may still wait for it
        if queue:
            self._call_next(queue)
        else:
            del self._queues[ticket.key]

    @staticmethod
    def _call_next(queue: OrderedDict[_Ticket, None]) -> None:
        first = next(iter(queue))
        if not first.turn.done():
            first.turn.set_result(None)

    def _release_all(self, process: Process) -> None:
        for ticket in self._held.pop(process, ()):
            self._give_back(ticket)


def _label(process: Process | None, task: asyncio.Task[object] | None) -> str:
    if process is not None:
        return process.label
    return task.get_name() if task is not None else "a callback"
