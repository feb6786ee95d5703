"""Signatures, prompts and answers."""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks._contender import Run, Setup

__all__ = ["dspy_from_string", "dspy_parse", "dspy_prompt", "from_string", "parse", "prompt", "prompt_of_call"]

SIGNATURE = "question: str, context: list[str] -> reasoning: str, answer: str, score: float, tags: list[str]"
NEW = "question{0}: str, context: list[str] -> reasoning: str, answer{0}: str, score: float, tags: list[str]"
"""A new name in each: dspex compiles the same text once only, and that is not what is measured."""

INPUTS = {"question": "Who wrote the first program?", "context": ["Ada Lovelace wrote notes.", "Babbage built."]}
OUTPUTS = {"reasoning": "Her notes hold it.", "answer": "Ada Lovelace", "score": 0.9, "tags": ["history", "people"]}
DEMOS = [{**INPUTS, **OUTPUTS, "question": f"Who wrote program number {number}?"} for number in range(4)]

COMPLETION = """[[ ## reasoning ## ]]
Her notes of 1843 hold the first published program.

[[ ## answer ## ]]
Ada Lovelace

[[ ## score ## ]]
0.9

[[ ## tags ## ]]
["history", "people"]

[[ ## completed ## ]]
"""


async def from_string(_setup: Setup) -> Run:
    """A signature class from a string never seen before."""
    import dspex

    numbers = itertools.count()

    def run(operations: int) -> None:
        for _ in range(operations):
            dspex.Signature.from_string(NEW.format(next(numbers)))

    return run


async def dspy_from_string(_setup: Setup) -> Run:
    """DSPy's signature class from the same strings."""
    import dspy

    numbers = itertools.count()

    def run(operations: int) -> None:
        for _ in range(operations):
            dspy.Signature(NEW.format(next(numbers)))

    return run


def _ours() -> tuple[Any, Any]:
    import dspex
    from dspex.programs.adapters.chat import ChatAdapter

    return ChatAdapter(), dspex.Signature.from_string(SIGNATURE)


def _theirs() -> tuple[Any, Any]:
    import dspy

    return dspy.ChatAdapter(), dspy.Signature(SIGNATURE)


async def prompt(_setup: Setup) -> Run:
    """The whole prompt, demonstrations included, each time."""
    adapter, signature = _ours()

    def run(operations: int) -> None:
        for _ in range(operations):
            adapter.format(signature, INPUTS, DEMOS)

    return run


async def prompt_of_call(_setup: Setup) -> Run:
    """The text that a call of a predictor with demonstrations formats: it was written when the predictor was made."""
    adapter, signature = _ours()
    prefix = adapter.prefix(signature, DEMOS)

    def run(operations: int) -> None:
        for _ in range(operations):
            (*prefix, adapter.turn(signature, INPUTS))

    return run


async def dspy_prompt(_setup: Setup) -> Run:
    """DSPy's whole prompt, which every call formats."""
    adapter, signature = _theirs()

    def run(operations: int) -> None:
        for _ in range(operations):
            adapter.format(signature, DEMOS, INPUTS)

    return run


async def parse(_setup: Setup) -> Run:
    """Four outputs of three types from a well-formed completion."""
    adapter, signature = _ours()

    def run(operations: int) -> None:
        for _ in range(operations):
            adapter.parse(signature, COMPLETION)

    return run


async def dspy_parse(_setup: Setup) -> Run:
    """The same with DSPy's adapter."""
    adapter, signature = _theirs()

    def run(operations: int) -> None:
        for _ in range(operations):
            adapter.parse(signature, COMPLETION)

    return run
