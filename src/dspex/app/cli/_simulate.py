"""``dspex simulate``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """Be ``python -m dspex.simulator``; returns its exit code."""
    main = importlib.import_module("dspex.simulator.__main__").main  # only when it is used

    code: int = main(arguments, "dspex simulate")
    return code
