"""
A process of its own that asks questions through a cache: ``python -m tests.support.cache_process`` with JSON.

It prints ``started`` when its App runs, waits for a line, asks everything at once, and prints where each answer came
from. It is what tests of several processes start.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import dspex
from dspex.services.shared.address import Shared

__all__ = ["main"]


async def main(told: dict[str, Any]) -> None:  # JSON
    """Ask what was told, and print ``{question: [where from, answer]}``."""
    lm = dspex.LM("openai/rules", api_base=told["provider"], api_key="key")
    shared = Shared(told["store"], namespace=told["namespace"], timeout=10.0, lease=told.get("lease", 5.0))
    app = dspex.App(lm, cache=shared)
    ask = dspex.Predict("question -> answer", repair_turns=0)

    async def one(question: str) -> tuple[str, str]:
        prediction = await app.run(ask, question=question)
        return str(dspex.details(prediction).cached), str(prediction.answer)

    async with app:
        print("started", flush=True)  # noqa: T201 - the parent reads it
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        questions = told["questions"]
        answers = await asyncio.gather(*map(one, questions))
        print(json.dumps(list(answers)), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
