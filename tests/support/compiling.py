"""A program and rows that bootstrapping helps on, and a process that compiles it: what tests of jobs share."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspex
from dspex.optimizers import (
    COPRO,
    GEPA,
    Algorithm,
    BootstrapFewShotWithRandomSearch,
    BootstrapFinetune,
    Candidate,
    MIPROv2,
)

__all__ = ["OPTIMIZERS", "Titles", "child", "compiled", "optimizer", "rows", "same_title", "simulated", "tuner"]


class TitleOf(dspex.Signature):
    """Name the passage."""

    passages: list[str] = dspex.InputField()
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


class Titles(dspex.Module):
    """One LM call; counts how often it was asked what."""

    def __init__(self) -> None:
        self.answer = dspex.ChainOfThought(TitleOf)
        self.__asked: Counter[str] = Counter()

    @property
    def asked(self) -> Counter[str]:
        """Questions by how often ``forward`` was entered with them, changed copies of this program included."""
        return self.__asked

    async def forward(self, passages: list[str], question: str) -> TitleOf:
        self.__asked[question] += 1
        return await self.answer(passages=passages, question=question)


def rows(count: int) -> list[dspex.Example]:
    """Questions whose answers are the titles of passages."""
    return [
        dspex.Example(
            passages=[f"lib.mod{n} | The lever {n} opens gate {n}.", f"lib.other{n} | Nothing to see."],
            question=f"Which lever opens gate {n}?",
            answer=f"lib.mod{n}",
        )
        for n in range(count)
    ]


def same_title(example: dspex.Example, prediction: TitleOf) -> bool:
    """True when the answer is the title."""
    return bool(prediction.answer == example.answer)


def simulated(url: str, home: Path, **options: Any) -> dspex.App:
    """Return an App that asks a simulator and keeps no answers, so that whatever is asked again is paid again."""
    lm = dspex.LM("openai/rules", api_base=url, api_key="x", temperature=0.0)
    return dspex.App(lm, home=home, cache=None, **options)


def optimizer(count: int = 8) -> dspex.BootstrapFewShot:
    """Return an optimizer that runs all of ``count`` rows, three at a time."""
    return dspex.BootstrapFewShot(same_title, max_bootstrapped_demos=count, max_labeled_demos=4, width=3)


def tuner(**options: Any) -> BootstrapFinetune:
    """Return an optimizer that trains the program's model on what a program with demonstrations gets right."""
    shown = [{"reasoning": "It is said there.", "augmented": True, **row} for row in rows(40)[36:]]
    taught = Candidate(demos={"answer.predict": tuple(shown)}).applied(Titles())
    return BootstrapFinetune(same_title, teacher=taught, look_every=0.01, **options)


async def compiled(app: dspex.App, job: str = "titles", count: int = 8) -> Titles:
    """Compile with everything as it always is, and wait for the result."""
    return await (await app.compile(Titles(), optimizer(count), trainset=rows(count), job=job)).result()


OPTIMIZERS: dict[str, Callable[[], Algorithm[Any]]] = {
    "bootstrap": optimizer,
    "random search": lambda: BootstrapFewShotWithRandomSearch(
        same_title, num_candidate_programs=3, max_bootstrapped_demos=2, max_labeled_demos=2, width=3
    ),
    "copro": lambda: COPRO(same_title, breadth=3, depth=2),
    "mipro": lambda: MIPROv2(same_title, num_candidates=4, num_trials=4, minibatch_size=4, width=3),
    "gepa": lambda: GEPA(same_title, max_children=6, minibatch_size=2),
}
"""Optimizers for a job of some fifty calls, by name."""


async def _compile_and_tell(url: str, home: str, result: str, name: str, hold: int) -> str:
    async with simulated(url, Path(home)) as app:
        trains = name == "finetune"
        count = 12 if trains else 8  # a provider takes no file of fewer than ten
        held = rows(count + hold)[count:]
        algorithm = tuner() if trains else OPTIMIZERS[name]()
        job = await app.compile(
            Titles(), algorithm, trainset=rows(count), holdset=held or None, job="titles", max_concurrency=3
        )
        async with job.events() as events:
            async for event in events:
                sys.stdout.write(f"{event.kind}\n")
                sys.stdout.flush()
        (await job.result()).save(result)
        return str(job.verdict)


def child(url: str, home: str, result: str, name: str = "bootstrap", hold: int = 0) -> None:
    """Compile in this process, with a line of output for each event, and save the result."""
    verdict = asyncio.run(_compile_and_tell(url, home, result, name, hold))
    Path(f"{result}.verdict").write_text(verdict, encoding="utf-8")
