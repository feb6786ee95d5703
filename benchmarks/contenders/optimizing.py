"""
Optimizers with a provider that takes its time: ours, and DSPy's with 64 threads.

Both make the calls that their search needs, which are not the same in number; the time of one call is compared. The
model answers each output that it is asked for, so that an instruction can be proposed as well.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import dspex
from benchmarks._contender import Measured, Run, Setup
from benchmarks.contenders.http import MODEL, QUESTION
from dspex.app import _tree
from dspex.optimizers import Algorithm, BootstrapFewShotWithRandomSearch, MIPROv2
from dspex.optimizers.journal import Journal
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.transport import open_transport

__all__ = ["AT_ONCE", "dspy_mipro", "dspy_random", "journal", "lines", "mipro", "random_search"]

AT_ONCE = 64
"""Requests in flight on our side, threads on DSPy's."""

CANDIDATES = 8
TRIALS = 12
MINIBATCH = 16
DEMOS = 4
LEARN = 16
"""Rows to learn from; those to choose by are the operations of a turn."""

WANTED = "Paris is the capital of France."


def _url(setup: Setup) -> str:
    return setup.url.removesuffix("/v1") + "/fields/v1"


def _is_right(example: Any, prediction: Any, _trace: object = None) -> bool:
    """Tell right from wrong by the question, the same for both sides: a search needs rows that differ."""
    return bool(example.answer == prediction.answer) and zlib.crc32(example.question.encode()) % 3 > 0


def _fields(number: int) -> dict[str, str]:
    return {"question": QUESTION.format(number), "answer": WANTED}


def _each(operations: int, calls: int, spent: Measured) -> Measured:
    """Return the time of as many calls as there are operations."""
    return Measured(spent.cpu * operations / calls, spent.wall * operations / calls)


async def _ours(setup: Setup, algorithm: Algorithm[Any]) -> Run:
    _tree.open_transport = functools.partial(open_transport, parser="h11")
    home = Path(setup.stack.enter_context(tempfile.TemporaryDirectory()))
    lm = dspex.LM(MODEL, api_base=_url(setup), api_key="benchmark")
    limits = ClientLimits(max_in_flight=AT_ONCE)
    app = await setup.stack.enter_async_context(dspex.App(lm, adapter="chat", cache=None, limits=limits, home=home))
    program = dspex.Predict("question -> answer")
    learn = [dspex.Example(_fields(number)) for number in range(LEARN)]
    turns = 0

    async def run(operations: int) -> Measured:
        nonlocal turns
        turns += 1
        choose = [dspex.Example(_fields(LEARN + number)) for number in range(operations)]
        cpu, wall = time.process_time(), time.perf_counter()
        job = await app.compile(
            program, algorithm, trainset=learn, valset=choose, job=f"turn-{turns}", max_concurrency=AT_ONCE
        )
        await job.result()
        spent = Measured(time.process_time() - cpu, time.perf_counter() - wall)
        async with job.events() as events:
            calls = sum([event.data["spent"]["calls"] async for event in events if "spent" in event.data])
        return _each(operations, calls, spent)

    return run


async def random_search(setup: Setup) -> Run:
    """Random search, every candidate on every row, on the core transport."""
    algorithm = BootstrapFewShotWithRandomSearch(
        _is_right,
        num_candidate_programs=CANDIDATES,
        max_bootstrapped_demos=DEMOS,
        max_labeled_demos=DEMOS,
        race=False,
    )
    return await _ours(setup, algorithm)


async def mipro(setup: Setup) -> Run:
    """MIPROv2, on the core transport."""
    algorithm = MIPROv2(
        _is_right,
        num_candidates=CANDIDATES,
        num_trials=TRIALS,
        minibatch_size=MINIBATCH,
        max_bootstrapped_demos=DEMOS,
        max_labeled_demos=DEMOS,
    )
    return await _ours(setup, algorithm)


def _theirs(setup: Setup, make: Any, compile_with: dict[str, Any]) -> Run:
    import dspy

    lm = dspy.LM(MODEL, api_base=_url(setup), api_key="benchmark", cache=False)
    dspy.configure(lm=lm)
    learn = [dspy.Example(**_fields(number)).with_inputs("question") for number in range(LEARN)]

    def run(operations: int) -> Measured:
        choose = [dspy.Example(**_fields(LEARN + number)).with_inputs("question") for number in range(operations)]
        lm.history.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # its bars and logs, which go on for pages
            make(dspy).compile(dspy.Predict("question -> answer"), trainset=learn, valset=choose, **compile_with)
        spent = Measured(time.process_time() - cpu, time.perf_counter() - wall)
        return _each(operations, len(lm.history), spent)

    return run


async def dspy_random(setup: Setup) -> Run:
    """DSPy's random search with the same candidates."""
    return _theirs(
        setup,
        lambda dspy: dspy.BootstrapFewShotWithRandomSearch(
            metric=_is_right,
            num_candidate_programs=CANDIDATES,
            max_bootstrapped_demos=DEMOS,
            max_labeled_demos=DEMOS,
            num_threads=AT_ONCE,
        ),
        {},
    )


async def dspy_mipro(setup: Setup) -> Run:
    """DSPy's MIPROv2 with as many candidates and trials."""
    return _theirs(
        setup,
        lambda dspy: dspy.MIPROv2(
            metric=_is_right,
            auto=None,
            num_candidates=CANDIDATES,
            max_bootstrapped_demos=DEMOS,
            max_labeled_demos=DEMOS,
            num_threads=AT_ONCE,
        ),
        {"num_trials": TRIALS, "minibatch_size": MINIBATCH},
    )


# --- the journal ----------------------------------------------------------------------------------------------

RECORD = {
    "candidate": "5f3a", "row": 7, "score": 1.0, "feedback": "", "error": "", "seconds": 0.05,
    "spent": {"usd": "0", "tokens": 170, "calls": 1, "unpriced": 0},
    "_trace": [["self", {"question": QUESTION, "answer": WANTED}]],
}  # fmt: skip


async def journal(setup: Setup) -> Run:
    """A row's result in a job's journal; each is committed by itself."""
    folder = Path(setup.stack.enter_context(tempfile.TemporaryDirectory()))
    kept = Journal(folder / "job.db", "job", {})
    setup.stack.callback(kept.close)
    kept.take()
    numbers = itertools.count()

    async def run(operations: int) -> None:
        for _ in range(operations):
            kept.append("evaluation", RECORD, f"run/5f3a/0/{next(numbers)}")
        kept.written.clear()

    return run


async def lines(setup: Setup) -> Run:
    """A line of JSON, flushed: the same data, and nobody who could find it by its key."""
    folder = Path(setup.stack.enter_context(tempfile.TemporaryDirectory()))
    file = setup.stack.enter_context((folder / "job.jsonl").open("w"))

    async def run(operations: int) -> None:
        for _ in range(operations):
            file.write(json.dumps(RECORD) + "\n")
            file.flush()

    return run
