"""Who waits for whom: a call that would come back to one of those who wait is refused at once."""

from __future__ import annotations

from dspex.errors import ActorExited, CallCycle
from dspex.runtime._exit import NO_PROCESS
from dspex.runtime._process import Process

__all__ = ["chain_into"]


def chain_into(caller: Process, target: Process) -> tuple[Process, ...]:
    """Return the chain of waiting processes that a call from ``caller`` to ``target`` makes, or refuse the call."""
    if caller.dead_to_the_world:
        raise ActorExited(caller.label, caller.exit_reason or NO_PROCESS)
    chain = caller.chain()
    if target in chain:
        raise CallCycle([*(each.label for each in chain), target.label])
    return chain
