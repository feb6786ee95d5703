"""What models can do: one table by provider and name; what it does not know is taken to do little."""

from __future__ import annotations

from dspex.protocols.lm import Capabilities
from dspex.protocols.model import LM

__all__ = ["capabilities_of"]


def capabilities_of(lm: LM) -> Capabilities:
    """Return what ``lm`` can do."""
    return Capabilities()
