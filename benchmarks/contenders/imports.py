"""Imports, each in a fresh interpreter whose own start is not counted."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks._contender import Measured, Run, Setup

__all__ = ["dspex", "dspex_rooms", "dspy"]

_TIMED = """
import time
cpu, wall = time.process_time(), time.perf_counter()
{}
print("spent", time.process_time() - cpu, time.perf_counter() - wall)
"""


def _fresh(statement: str) -> Run:
    # Packages are compiled when they are installed, a source tree by its first import: that one is not counted.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True, capture_output=True)

    def run(operations: int) -> Measured:
        cpu = wall = 0.0
        for _ in range(operations):
            command = [sys.executable, "-c", _TIMED.format(statement)]
            output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            spent = output.rsplit("spent", 1)[1].split()
            cpu += float(spent[0])
            wall += float(spent[1])
        return Measured(cpu, wall)

    return run


async def dspex(_setup: Setup) -> Run:
    """``import dspex``, which loads no room yet."""
    return _fresh("import dspex")


async def dspex_rooms(_setup: Setup) -> Run:
    """Everything that an App and a Predict need."""
    return _fresh("import dspex; dspex.App; dspex.Predict")


async def dspy(_setup: Setup) -> Run:
    """``import dspy``."""
    return _fresh("import dspy")
