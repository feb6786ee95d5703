"""``dspex simulate``."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.app.cli._boundary import need_simulator

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """Be ``python -m dspex.simulator``; returns its exit code."""
    need_simulator("dspex simulate")
    from dspex.simulator.__main__ import main  # needs the extra that was just asked for

    return main(arguments, "dspex simulate")
