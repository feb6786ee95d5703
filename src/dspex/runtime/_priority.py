"""Messages before others, from those the receiver has allowed to send such (EEP 76)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.runtime._context import current_process
from dspex.runtime._here import here
from dspex.runtime._messages import CAST, as_info
from dspex.runtime._ref import ActorRef, Handle

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess

__all__ = ["PriorityRef"]


class PriorityRef(Handle):
    """
    A handle whose messages the actor handles before ordinary ones, in the order they were sent.

    Only the actor itself makes one (``Actor.priority_ref``), for whom it likes, and may close it. An exit notice or
    the end of a call can thereby be overtaken, which is why it is not for everybody.
    """

    __slots__ = ("_open", "_process")

    def __init__(self, process: ActorProcess) -> None:
        self._process = process
        self._open = True

    @property
    def ref(self) -> ActorRef:
        """The ordinary handle on the same actor."""
        return self._process.ref

    def send(self, message: object) -> bool:
        """Send to ``handle_info``; False when the actor is dead, this is closed or too many such messages wait."""
        return self._put(as_info(message))

    def cast(self, message: object) -> bool:
        """Send to ``handle_cast``; False as for ``send``."""
        return self._put((CAST, message))

    def close(self) -> None:
        """Send nothing that comes this way any more; what is queued stays."""
        self._open = False

    def _put(self, item: object) -> bool:
        process, sender = self._process, current_process()
        if process.exit_reason is None and here() != process.runtime.here:
            process.runtime.refuse_other_loops()
        if not self._open or process.exit_reason is not None or (sender is not None and sender.dead_to_the_world):
            return False
        mailbox = process.mailbox
        if mailbox.limit is not None and mailbox.urgent is not None and len(mailbox.urgent) >= mailbox.limit:
            return False
        mailbox.put_urgent(item)
        return True

    def __repr__(self) -> str:
        return f"<{self._process.label} first>"
