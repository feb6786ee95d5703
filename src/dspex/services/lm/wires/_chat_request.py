"""The old address of ``chat.request``, kept for one release as the deprecation policy says."""

from dspex.services.lm.wires.chat.request import chat_messages

__all__ = ["chat_messages"]
