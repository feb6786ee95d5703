"""Imports, each in a fresh interpreter whose own start is not counted."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks._contender import Measured, Run, Setup

__all__ = ["dspex", "dspex_first", "dspex_rooms", "dspy", "dspy_first"]

_TIMED = """
import time
cpu, wall = time.process_time(), time.perf_counter()
{}
print("spent", time.process_time() - cpu, time.perf_counter() - wall)
"""

_DSPEX_FIRST = """
import asyncio, dspex
async def main():
    async with dspex.App(dspex.LM("openai/benchmark", api_base={url!r}, api_key="key"), adapter="chat") as app:
        assert (await app.run(dspex.Predict("question -> answer"), question="Where is Paris?")).answer
asyncio.run(main())
"""

_DSPY_FIRST = """
import dspy
dspy.configure(lm=dspy.LM("openai/benchmark", api_base={url!r}, api_key="key"))
dspy.configure_cache(enable_disk_cache=False)
assert dspy.Predict("question -> answer")(question="Where is Paris?").answer
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


async def dspex_first(setup: Setup) -> Run:
    """The first answer: import, App, one question."""
    return _fresh(_DSPEX_FIRST.format(url=setup.url))


async def dspy_first(setup: Setup) -> Run:
    """The first answer: import, configure, one question."""
    return _fresh(_DSPY_FIRST.format(url=setup.url))
