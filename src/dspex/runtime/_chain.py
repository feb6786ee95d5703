"""Chains of callers and callees: a call that would come back to a waiting process is refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container
from itertools import islice
from typing import Final

from dspex.errors import ActorExited, CallCycle
from dspex.runtime._awaited import waits_for
from dspex.runtime._context import HOME, current_process
from dspex.runtime._exit import NO_PROCESS
from dspex.runtime._here import task_of
from dspex.runtime._messages import CallEnvelope
from dspex.runtime._process import Process

__all__ = ["ExitWaits", "chain_into", "chain_of", "refuse_cycle", "refuse_wait"]

_LOOKED_AT: Final = 1000
"""Queued messages that are looked through before a wait without end."""


def chain_of(home: Process) -> tuple[Process, ...]:
    """
    Return the processes that wait for the code that runs now and comes from ``home``, the nearest last.

    They are the chain of ``home`` if that is at work. Otherwise nobody waits: what runs goes its own way, whatever
    ``home`` is doing by now.

    Raises:
        ActorExited: The code that runs is that of a dead process.
    """
    if current_process() is not home:
        return ()
    if home.dead_to_the_world:
        raise ActorExited(home.label, home.exit_reason or NO_PROCESS)
    return home.chain()


def chain_into(home: Process, target: Process) -> tuple[Process, ...]:
    """Return the chain of waiting processes that a call from ``home``'s code to ``target`` makes, or refuse it."""
    chain = chain_of(home)
    if chain:
        refuse_cycle(chain, target)
    return chain


def refuse_cycle(chain: tuple[Process, ...], target: Process) -> None:
    """Raise CallCycle if ``target`` waits for one of ``chain``: for its answer, or for its exit."""
    if target in chain or target.runtime.exit_waits.holds_up(target, chain):
        raise CallCycle([*(each.label for each in chain), target.label])


def refuse_wait(awaited: Collection[Process]) -> None:
    """
    Raise CallCycle if one of ``awaited`` waits for an answer of the process at work, which is about to wait for it.

    The call came before the wait, so that nobody could refuse the call.
    """
    process = current_process()
    if process is None:
        return
    if process in awaited:
        raise CallCycle((process.label, process.label))
    for each in process.runtime.exit_waits.waiting_for(process, awaited):
        raise CallCycle((process.label, each.label, process.label))
    mailbox = getattr(process, "mailbox", None)
    if mailbox is None or not mailbox.items:
        return
    for item in islice(mailbox.items, _LOOKED_AT):
        if type(item) is CallEnvelope and item.waiting:
            for each in item.chain:
                if each in awaited:
                    raise CallCycle((process.label, *(one.label for one in item.chain), process.label))


class ExitWaits(dict[Process, Container[Process]]):
    """
    Processes that wait for another's exit, in one runtime: a task that calls back to such an actor waits for ever.

    ``of_tasks`` are the waits of plain tasks, and the process each comes from.
    """

    __slots__ = ("of_tasks",)

    def __init__(self) -> None:
        super().__init__()
        self.of_tasks: dict[asyncio.Task[object], tuple[Process, Container[Process]]] = {}

    def begin(self, awaited: Container[Process]) -> object:
        """Note that the code that runs now waits for one of ``awaited`` to exit; return what ``end`` wants."""
        home = HOME.get()
        if home is None:
            return None
        task = task_of(home.runtime.loop)
        if home._task is task:
            self[home] = awaited
            return home
        if task is not None:  # a plain task of that process, which may wait for it in turn
            self.of_tasks[task] = (home, awaited)
        return task

    def end(self, noted: object) -> None:
        """Note that the wait is over; once for each ``begin``."""
        # It is in one of the two.
        if noted is not None and self.pop(noted, None) is None:  # type: ignore[call-overload]
            self.of_tasks.pop(noted, None)  # type: ignore[call-overload]

    def waiting_for(self, process: Process, among: Collection[Process]) -> list[Process]:
        """Return those of ``among`` that wait for the exit of ``process``."""
        fewer = among if len(among) <= len(self) else self
        return [each for each in fewer if each in among and process in self.get(each, ())]

    def holds_up(self, target: Process, chain: tuple[Process, ...]) -> bool:
        """Say whether ``target`` waits for the exit of one of ``chain``."""
        awaited = self.get(target)
        if awaited is not None and any(each in awaited for each in chain):
            return True
        for task, (home, theirs) in self.of_tasks.items():
            if home is target and any(each in theirs for each in chain) and waits_for(target, task):
                return True
        return False
