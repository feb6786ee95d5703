"""A program that asks for a stream at the LM level, without an adapter between."""

from __future__ import annotations

import asyncio

import dspex
from dspex.protocols.lm import LMDelta, LMRequest, Message
from dspex.protocols.model import LMParams
from dspex.protocols.scope import LMResult, OnDelta, current_scope

__all__ = ["Talk"]


class Talk(dspex.Module):
    """
    One streamed LM call; ``deltas`` and ``texts`` are what came.

    Args:
        hold: After its first piece the reader waits for this.
        read: Reads instead.
        params: Of the call.
    """

    def __init__(
        self, *, hold: asyncio.Event | None = None, read: OnDelta | None = None, params: LMParams | None = None
    ) -> None:
        self.hold = hold
        self.read = read
        self.params = params or LMParams()
        self.deltas: list[LMDelta] = []

    @property
    def texts(self) -> list[str]:
        """The pieces of text."""
        return [delta.text for delta in self.deltas if delta.text]

    async def forward(self, text: str) -> LMResult:
        async def keep(delta: LMDelta) -> None:
            self.deltas.append(delta)
            if self.hold is not None and delta.text:
                await self.hold.wait()

        request = LMRequest((Message("user", text),), self.params)
        scope = current_scope.get()
        return await scope.complete(request, lm=None, step="talk", on_delta=self.read or keep)
