"""One cell of ours: a program, an optimizer, a job, and the held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dspex
from benchmarks.learning.rows import Lesson
from benchmarks.real.signatures import make_signature
from benchmarks.real.tasks import Row
from dspex.evaluation import Scored
from dspex.optimizers import GEPA, Algorithm, BootstrapFewShot, BootstrapFewShotWithRandomSearch, MIPROv2
from dspex.services.lm.retry import RetryPolicy

__all__ = ["OURS", "learn_ours"]

_LIMITS = dspex.ClientLimits(max_in_flight=8, follow_latency=False, retry=RetryPolicy(max_attempts=3))
_PATIENCE = 1800.0

OURS: dict[str, Callable[[Any], Algorithm[Any]] | None] = {
    "student": None,
    "BootstrapFewShot": lambda metric: BootstrapFewShot(metric, max_bootstrapped_demos=4, max_labeled_demos=8),
    "RandomSearch": lambda metric: BootstrapFewShotWithRandomSearch(
        metric, num_candidate_programs=6, max_bootstrapped_demos=4, max_labeled_demos=8
    ),
    "MIPROv2": lambda metric: MIPROv2(
        metric, num_candidates=6, num_trials=10, minibatch_size=25, max_bootstrapped_demos=4, max_labeled_demos=8
    ),
    "GEPA": lambda metric: GEPA(metric, max_children=12),
}
"""Optimizers by name; the student is asked as it is."""


async def learn_ours(lesson: Lesson, name: str, url: str, home: Path) -> dict[str, Any]:
    """
    Run one job to its end, and the program that it hands out on the held-out rows.

    A job that was stopped goes on from its journal below ``home``; its rows are not paid again.

    Returns:
        ``right``, a digit for each held-out row, and the verdict of the job.
    """
    signature = make_signature(lesson.name, dspex)
    program: Any = (dspex.ChainOfThought if lesson.reasons else dspex.Predict)(signature)
    lm = dspex.LM("llamacpp/local", api_base=url, temperature=0.0, max_tokens=lesson.max_tokens)

    def metric(example: Any, prediction: Any) -> bool:
        return lesson.is_right(example[lesson.answer], getattr(prediction, lesson.answer))

    app = dspex.App(
        adapter="chat",  # as the other side asks
        lm=lm,
        cache=home / "cache.db",
        home=home,
        limits=_LIMITS,
        timeouts=dspex.Timeouts(read=_PATIENCE),
        deadline=2 * _PATIENCE,
    )
    async with app:
        verdict = None
        make = OURS[name]
        if make is not None:
            job = await app.compile(
                program,
                make(metric),
                trainset=_examples(lesson.learn),
                valset=_examples(lesson.choose),
                holdset=_examples(lesson.hold),
                job=f"{lesson.name}-{name}",
                metric_version="exact",
                progress=False,
            )
            program = await job.result()
            verdict = str(job.verdict)
        report = await app.evaluate(program, _examples(lesson.hold), metric, max_failed=1.0, progress=False)
    right = "".join("1" if isinstance(each, Scored) and each.score.value == 1 else "0" for each in report.outcomes)
    return {"right": right, "verdict": verdict}


def _examples(rows: Sequence[Row]) -> list[dspex.Example]:
    return [dspex.Example({**row.inputs, **row.truth}, inputs=tuple(row.inputs)) for row in rows]
