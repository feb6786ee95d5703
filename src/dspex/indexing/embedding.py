"""Texts to vectors, as a request of its own: with the limits, the budget and the retries of every other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dspex.programs import Module
from dspex.protocols.retrieval import Embedder, Vector
from dspex.protocols.scope import current_scope
from dspex.services.retrieval.embedding import embed, embed_blocking, is_embedded_outside

__all__ = ["EmbedTexts"]


class EmbedTexts(Module):
    """
    Embed some texts.

    Args:
        embedder: A model or a function.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    async def forward(self, texts: Sequence[str]) -> list[Vector]:
        """
        Return a vector for each text; a function that blocks is called in a thread.

        Raises:
            VectorInvalid: The function returned something else.
            LMError: The provider's last word.
        Cancellation: the running call is cancelled.
        """
        if is_embedded_outside(self.embedder):
            return await embed(self.embedder, texts)
        scope = current_scope.get()
        work = partial(embed_blocking, self.embedder, texts)
        return await scope.call("embed", partial(scope.in_thread, work, "embed"), idempotent=True, timeout=None)
