"""Actors that others share: a message that they do not understand must not end them."""

from __future__ import annotations

from dspex.errors import UnknownMessage
from dspex.runtime._actor import Actor
from dspex.runtime._messages import From
from dspex.runtime._next import Next, NoReply

__all__ = ["LibraryActor"]


class LibraryActor(Actor):
    """
    Answers calls that it does not understand with UnknownMessage, logs other such messages, and goes on.

    Your own actor had better crash over a message that nobody thought of (let it crash). An actor that many share
    must not: one caller's mistake would be everybody's.
    """

    async def handle_call(self, message: object, sender: From) -> Next:
        """Refuse; subclasses answer what they understand, and ``refuse`` the rest."""
        return self.refuse(message, sender)

    async def handle_cast(self, message: object) -> Next:
        """Log the message and drop it."""
        self._dspex_process.report_unexpected(message)
        return None

    def refuse(self, message: object, sender: From) -> NoReply:
        """Answer ``sender`` with UnknownMessage, and log it."""
        self._dspex_process.report_unexpected(message)
        sender.fail(UnknownMessage(self._dspex_process.label, message))
        return NoReply()
