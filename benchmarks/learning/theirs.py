"""One cell of DSPy's: the same rows, the same model, the optimizer as it comes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.rows import Lesson
from benchmarks.real.signatures import make_signature
from benchmarks.real.tasks import Row

__all__ = ["THEIRS", "learn_theirs"]

_PATIENCE = 1800.0
_THREADS = 8

THEIRS = ("student", "BootstrapFewShot", "RandomSearch", "MIPROv2")


def learn_theirs(lesson: Lesson, name: str, url: str, home: Path) -> dict[str, Any]:
    """
    Compile, and run the result on the held-out rows.

    A compilation that was stopped begins anew; what the model answered is in DSPy's cache on disk.

    Returns:
        ``right``, a digit for each held-out row.
    """
    import dspy  # type: ignore[import-not-found,unused-ignore]  # only where benchmarks run

    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    dspy.configure_cache(disk_cache_dir=str(home / "dspy-cache"))
    lm = dspy.LM(
        "openai/local",
        api_base=url,
        api_key="none",
        temperature=0.0,
        max_tokens=lesson.max_tokens,
        num_retries=2,
        timeout=_PATIENCE,
    )
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    signature = make_signature(lesson.name, dspy)
    program = (dspy.ChainOfThought if lesson.reasons else dspy.Predict)(signature)

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001 - DSPy passes it
        return lesson.is_right(example[lesson.answer], getattr(prediction, lesson.answer, None))

    def examples(rows: Sequence[Row]) -> list[Any]:
        return [dspy.Example(**row.inputs, **row.truth).with_inputs(*row.inputs) for row in rows]

    learn, choose = examples(lesson.learn), examples(lesson.choose)
    demos = {"max_bootstrapped_demos": 4, "max_labeled_demos": 8}
    if name == "BootstrapFewShot":
        program = dspy.BootstrapFewShot(metric, **demos).compile(program, trainset=learn + choose)
    elif name == "RandomSearch":
        search = dspy.BootstrapFewShotWithRandomSearch(metric, num_candidate_programs=6, num_threads=_THREADS, **demos)
        program = search.compile(program, trainset=learn, valset=choose)
    elif name == "MIPROv2":
        search = dspy.MIPROv2(metric, auto=None, num_candidates=6, num_threads=_THREADS, **demos)
        program = search.compile(
            program, trainset=learn, valset=choose, num_trials=10, minibatch_size=min(25, len(choose)), minibatch=True
        )
    judge = dspy.Evaluate(
        devset=examples(lesson.hold), metric=metric, num_threads=_THREADS, display_progress=False, failure_score=0.0
    )
    found = judge(program)
    return {"right": "".join("1" if score else "0" for *_, score in found.results), "verdict": None}
