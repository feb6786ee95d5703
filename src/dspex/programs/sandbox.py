"""Where code that a model wrote is run: never in this process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, runtime_checkable

from pydantic_core import to_json

from dspex.errors import MissingExtra

__all__ = ["CodeRun", "Interpreter", "MontyInterpreter"]

_SHOWN = 10_000
_PRINTED = 1_000_000
_GRACE = 5.0
"""Seconds beyond its own limit after which the worker process is killed."""
_SLACK = 0.5
"""Seconds beyond the limit after which code is stopped that neither computes nor sleeps in one piece."""
_NODES = 100_000
"""The number of values in a result, and in one another, beyond which it is not shown."""
_DEEP = 100
"""How deep they may be nested."""
_BITS = 30_000
"""The longest whole number that is shown: writing one takes time by the square of its length."""


@dataclass(frozen=True, slots=True)
class CodeRun:
    """
    The result of a piece of code.

    Attributes:
        output: Its output, and the value of its last line.
        error: Its failure in words; None where there was none.
    """

    output: str
    error: str | None = None


@runtime_checkable
class Interpreter(Protocol):
    """Runs code in isolation; a frozen value, so one serves everybody."""

    async def run(self, code: str, variables: Mapping[str, object]) -> CodeRun:
        """
        Run ``code`` from a fresh state, with ``variables`` (JSON values) by name.

        Errors of the code are the error of the ``CodeRun``; no other exception may come of it.
        Cancellation: the code is stopped.
        """
        ...


@dataclass(frozen=True, slots=True)
class MontyInterpreter:
    """
    Runs Python in Monty, an interpreter without files, network, environment or clock, in a process of its own.

    A run ends with an error when its time is over, slept or computed, and when its result is too much to be shown. Each
    run has a fresh worker process, which ends with the run or its cancellation. Needs the extra ``sandbox``.

    Attributes:
        seconds: The seconds that the code may run.
        memory: Bytes it may hold.

    Raises:
        MissingExtra: The extra is not installed.
        ValueError: A limit is not positive.
    """

    seconds: float = 10.0
    memory: int = 128 * 2**20

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.memory > 0):
            raise ValueError(f"seconds={self.seconds!r}, memory={self.memory!r}: expected positive limits")
        _monty()

    async def run(self, code: str, variables: Mapping[str, object]) -> CodeRun:
        """Run code, as ``Interpreter.run`` says; cancellation: the worker process is killed."""
        monty = _monty()
        printed = monty.CollectString(_PRINTED)
        limits = {
            "max_feed_duration_secs": self.seconds,
            "max_total_sleep_secs": self.seconds,
            "max_memory": self.memory,
        }
        policy = {"datetime": "call_host", "sleep": "system", "sleep_system_max": math.inf}  # no host: no clock
        workers = monty.AsyncMonty(min_processes=0, max_processes=1, request_timeout=self.seconds + _GRACE)
        async with workers:
            try:
                async with workers.checkout(limits=limits, os_policy=policy) as session:
                    # Sleeping and computing have a limit each; this one is for both together.
                    async with asyncio.timeout(self.seconds + _SLACK):
                        value = await session.feed_run(code, inputs=dict(variables), print_callback=printed)
            except monty.MontyError as error:
                return CodeRun(_cut(printed.output), _cut(str(error)))
            except TimeoutError:
                return CodeRun(_cut(printed.output), f"TimeoutError: it ran for more than {self.seconds:g} s")
        problem = _unshowable(value)
        if problem:
            return CodeRun(_cut(printed.output), f"the value of the last line cannot be shown: {problem}")
        return CodeRun(_cut(printed.output + ("" if value is None else _shown(value))))


def _unshowable(value: object) -> str:
    """Return why a value cannot be written down in little time and memory; nothing where it can."""
    seen = 0
    level: list[object] = [value]
    for _ in range(_DEEP):
        below: list[object] = []
        for each in level:
            seen += 1
            if isinstance(each, int) and each.bit_length() > _BITS:
                return f"a whole number of some {each.bit_length() * 3 // 10:,} digits"
            if isinstance(each, Mapping):
                below += (*each, *each.values())
            elif isinstance(each, (list, tuple, set, frozenset)):
                below += each
            if seen + len(below) > _NODES:
                return f"it has more than {_NODES:,} parts"
        if not below:
            return ""
        level = below
    return f"it is nested more than {_DEEP} deep"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return to_json(value, fallback=repr, inf_nan_mode="constants").decode()
    except (ValueError, RecursionError):
        return repr(value)  # within the bounds of _unshowable


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n(cut off after {_SHOWN:,} of {len(text):,} letters)"


def _monty() -> ModuleType:
    try:
        import pydantic_monty  # an extra, and 0.1 s to import
    except ImportError as error:
        raise MissingExtra("sandbox", "running code that a model wrote") from error
    return pydantic_monty
