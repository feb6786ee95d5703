"""``dspex probe``."""

from __future__ import annotations

import asyncio
import sys

from dspex.app._app import App
from dspex.app.cli._model import named_model
from dspex.app.probe import probe
from dspex.protocols.model import LM
from dspex.services.lm.model_at import is_address, model_at
from dspex.services.lm.transport import Timeouts

__all__ = ["run"]

_PATIENCE = 600.0
"""Seconds for a call: a model on this machine may be slow."""


def run(model: str, *, api_base: str | None) -> int:
    """Ask the model and print the findings; returns the exit code."""
    lm = None if is_address(model) else named_model(model, api_base=api_base)
    sys.stdout.write(f"{asyncio.run(_probe(lm, model))}\n")
    return 0


async def _probe(lm: LM | None, address: str) -> str:
    lm = await model_at(address) if lm is None else lm
    async with App(lm, cache=None, deadline=_PATIENCE, timeouts=Timeouts(read=_PATIENCE)) as app:
        return (await probe(app, lm)).render()
