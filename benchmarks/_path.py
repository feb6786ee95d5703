"""
The path of one call: how many calls, files and awaits a warm Predict over loopback HTTP takes, and what it leaves.

``python -m benchmarks --path`` prints it. With another ``PYTHONPATH`` it traces another version of the sources.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import CodeType, CoroutineType, FrameType
from typing import Any

import dspex
from benchmarks._contender import Setup
from benchmarks.contenders import null
from benchmarks.contenders.http import QUESTION, app_at

__all__ = ["gc_share", "main", "path_of_call"]

_HERE = dspex.__file__.removesuffix("__init__.py")


class _Trace:
    """The work of one call, as the interpreter's profile hook tells it."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.hops: Counter[tuple[str, str]] = Counter()

    def hear(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call of one of our functions; a coroutine that goes on after an await is not called again."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_HERE) or frame.f_lasti > _FIRST:
            return
        self.calls[code] += 1
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(_HERE):
            caller = caller.f_back
        here, there = _short(code.co_filename), _short(caller.f_code.co_filename) if caller is not None else "loop"
        if here != there:
            self.hops[there, here] += 1


_FIRST = 8
"""Bytes of instructions before a generator's first yield point: a resumed frame is beyond them."""


def _short(path: str) -> str:
    return path.removeprefix(_HERE)


async def path_of_call(setup: Setup) -> dict[str, Any]:
    """Trace one warm Predict; return the figures by name."""
    app = await app_at(setup, "httptools", at_once=4)
    program = dspex.Predict("question -> answer")
    for _ in range(50):
        await app.run(program, question=QUESTION)
    trace = _Trace()
    sys.setprofile(trace.hear)
    try:
        await app.run(program, question=QUESTION)
    finally:
        sys.setprofile(None)
    files = {code.co_filename for code in trace.calls}
    found: dict[str, Any] = {
        "calls": sum(trace.calls.values()),
        "functions": len(trace.calls),
        "files": len(files),
        "hops": sum(trace.hops.values()),
        "awaits": await _awaits(app, program),
    }
    await _objects(app, program)  # the first time, tables of classes and names are filled
    found |= await _objects(app, program)
    found["busiest"] = [
        f"{count:3} {_short(code.co_filename)}:{code.co_qualname}" for code, count in trace.calls.most_common(400)
    ]
    found["between"] = [f"{count:3} {there} -> {here}" for (there, here), count in trace.hops.most_common(400)]
    return found


async def _awaits(app: dspex.App, program: Any) -> dict[str, list[str]]:
    """Return the coroutines on the stack of each task while the answer is waited for."""
    before = asyncio.all_tasks()
    asked = asyncio.ensure_future(app.run(program, question=QUESTION))
    loop = asyncio.get_running_loop()
    deepest: dict[str, list[str]] = {}
    while not asked.done():
        await asyncio.sleep(0)
        stacks = {}
        for task in asyncio.all_tasks(loop) - before:
            stack = _stack(task.get_coro())
            if stack:
                stacks[f"{stack[0]} {len(stacks)}"] = stack
        if sum(map(len, stacks.values())) > sum(map(len, deepest.values())):
            deepest = stacks
    await asked
    return deepest


def _stack(coroutine: Any) -> list[str]:
    found = []
    while isinstance(coroutine, CoroutineType) or hasattr(coroutine, "gi_yieldfrom"):
        found.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await if isinstance(coroutine, CoroutineType) else coroutine.gi_yieldfrom
    return found


async def _objects(app: dspex.App, program: Any) -> dict[str, Any]:
    """Count the objects the garbage collector has to look at: alive while a call waits, and left in cycles by it."""
    gc.collect()
    gc.disable()
    try:
        before = Counter(type(each).__qualname__ for each in gc.get_objects())
        asked = asyncio.ensure_future(app.run(program, question=QUESTION))
        most: Counter[str] = Counter()
        while not asked.done():
            await asyncio.sleep(0)
            now = Counter(type(each).__qualname__ for each in gc.get_objects())
            now.subtract(before)
            if sum(now.values()) > sum(most.values()):
                most = now
        prediction = await asked
        del asked, prediction
        gc.collect()
        for _ in range(100):
            await app.run(program, question=QUESTION)
        await asyncio.sleep(0)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(type(each).__qualname__ for each in gc.garbage)
        gc.set_debug(0)
        gc.garbage.clear()
    finally:
        gc.enable()
    alive = {kind: count for kind, count in most.most_common() if count > 0}
    return {
        "alive": sum(most.values()),
        "alive_kinds": alive,
        "in_cycles": sum(left.values()) / 100,
        "cycle_kinds": {kind: count / 100 for kind, count in left.most_common(20)},
    }


async def gc_share(setup: Setup, calls: int = 2_000, rounds: int = 5) -> float:
    """Return the share of the garbage collector in the CPU time of predictors above a null transport."""
    run: Any = await null.predict(setup)
    await run(calls)
    shares = []
    for _ in range(rounds):
        collected = began = 0.0

        def hear(phase: str, _: Mapping[str, int]) -> None:
            nonlocal collected, began
            if phase == "start":
                began = time.thread_time()
            else:
                collected += time.thread_time() - began

        gc.collect()
        gc.callbacks.append(hear)
        start = time.thread_time()
        await run(calls)
        shares.append(collected / (time.thread_time() - start))
        gc.callbacks.remove(hear)
    return sorted(shares)[rounds // 2]


async def _show(url: str) -> None:
    setup = Setup(url)
    async with setup.stack:
        for name, value in (await path_of_call(setup)).items():
            lines = value if isinstance(value, list) else []
            lines = [f"{key}: {each}" for key, each in value.items()] if isinstance(value, dict) else lines
            print("\n  ".join([f"{name}:" if lines else f"{name}: {value}", *lines]))
        print(f"share of the garbage collector: {await gc_share(setup):.3f}")


def main() -> None:
    """Trace a call against the server at the address given as the argument, and print all that is found."""
    asyncio.run(_show(sys.argv[1]))


if __name__ == "__main__":
    main()
