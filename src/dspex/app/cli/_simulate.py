"""``dspex simulate``."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from dspex.app.cli._boundary import need_simulator

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """Be ``python -m dspex.simulator``; returns its exit code."""
    need_simulator("dspex simulate")
    sys.argv = ["dspex simulate", *arguments]
    try:
        runpy.run_module("dspex.simulator", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
