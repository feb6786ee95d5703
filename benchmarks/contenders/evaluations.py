"""Thousands of examples evaluated, with a provider that takes its time: ours, and DSPy's with 32 to 128 threads."""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import Any

import dspex
from benchmarks._contender import Figure, Run, Setup
from benchmarks.contenders.http import MODEL, QUESTION, app_at
from dspex.services.lm._parsers import ParserName

__all__ = ["EXAMPLES", "IN_FLIGHT", "THREADS", "dspy_tuned", "evaluate_core", "evaluate_fast", "evaluate_tuned"]

EXAMPLES = 4_000
IN_FLIGHT = 1_000
THREADS = (32, 64, 128)
"""Below the first DSPy waits for the provider; at the last it has long been waiting for its own CPU."""

THRESHOLDS = (10_000, 10, 10)
"""The interval of the garbage collector in a program tuned for throughput, as the how-to on load advises."""

WARM_UP = 1_000
"""Examples before the first turn: connections are opened, modules loaded, prompts planned."""

WANTED = "Paris is the capital of France."


def _late_url(setup: Setup) -> str:
    """Return the address where answers take their time."""
    return setup.url.removesuffix("/v1") + "/late/v1"


def _is_right(example: Any, prediction: Any, _trace: object = None) -> bool:
    """Compare as text: the same metric for both sides."""
    return bool(example.answer == prediction.answer)


def _fields(number: int) -> dict[str, str]:
    return {"question": QUESTION.format(number), "answer": WANTED}


def _rate(examples: int, seconds: float, **more: float) -> Figure:
    return Figure(seconds / examples, {"examples_per_second": examples / seconds, **more})


async def _ours(setup: Setup, parser: ParserName) -> Run:
    app = await app_at(Setup(_late_url(setup), setup.stack), parser, at_once=IN_FLIGHT)
    program = dspex.Predict("question -> answer")
    examples = [dspex.Example(_fields(number)) for number in range(EXAMPLES)]

    async def run(operations: int) -> Figure:
        began = time.perf_counter()
        report = await app.evaluate(program, examples[:operations], _is_right, max_concurrency=IN_FLIGHT)
        assert report.score == 1.0
        return _rate(operations, time.perf_counter() - began)

    await run(WARM_UP)
    return run


async def evaluate_core(setup: Setup) -> Run:
    """``app.evaluate`` with the parser of the core dependencies."""
    return await _ours(setup, "h11")


async def evaluate_fast(setup: Setup) -> Run:
    """``app.evaluate`` with the parser of the extra ``fast``."""
    return await _ours(setup, "httptools")


async def evaluate_tuned(setup: Setup) -> Run:
    """``app.evaluate`` on the core transport, in a program whose garbage collector looks seldom."""
    gc.set_threshold(*THRESHOLDS)
    return await _ours(setup, "slots")


async def _dspys(setup: Setup, threads: int) -> Run:
    """DSPy's Evaluate with so many threads, its caches off and everything else as it comes."""
    import dspy

    dspy.configure(lm=dspy.LM(MODEL, api_base=_late_url(setup), api_key="benchmark", cache=False))
    program = dspy.Predict("question -> answer")
    examples = [dspy.Example(**_fields(number)).with_inputs("question") for number in range(EXAMPLES)]

    def run(operations: int) -> Figure:
        evaluate = dspy.Evaluate(devset=examples[:operations], metric=_is_right, num_threads=threads)
        began = time.perf_counter()
        assert evaluate(program).score == 100.0
        return _rate(operations, time.perf_counter() - began, threads=threads)

    run(WARM_UP)
    return run


async def dspy_tuned(setup: Setup) -> Run:
    """DSPy's Evaluate in such a program."""
    gc.set_threshold(*THRESHOLDS)
    return await _dspys(setup, THREADS[-1])


dspy_32, dspy_64, dspy_128 = (partial(_dspys, threads=each) for each in THREADS)
