"""``dspex version``."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

__all__ = ["run"]


def run() -> int:
    """Print the versions; returns the exit code."""
    sys.stdout.write(f"dspex {importlib.metadata.version('dspex')} on Python {platform.python_version()}\n")
    return 0
