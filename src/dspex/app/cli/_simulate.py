"""``dspex simulate``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from dspex.app.cli._boundary import need_simulator

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """Be ``python -m dspex.simulator``; returns its exit code."""
    need_simulator("dspex simulate")
    main = importlib.import_module("dspex.simulator.__main__").main  # needs the extra that was just asked for

    code: int = main(arguments, "dspex simulate")
    return code
