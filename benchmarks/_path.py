"""
The path of one call: how many calls, files and awaits a warm Predict over loopback HTTP takes, and what it leaves.

``python -m benchmarks --path`` prints it. With another ``PYTHONPATH`` it measures another version of the sources.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import CodeType, CoroutineType, FrameType
from typing import Any

import dspex
from benchmarks._contender import Setup
from benchmarks.contenders.http import MODEL, QUESTION, app_at, in_flight
from dspex.app import _tree
from dspex.services.lm._http import HttpReply
from dspex.services.lm.limits import ClientLimits

__all__ = ["null_app", "path_of_call", "work_above_nothing"]

_HERE = dspex.__file__.removesuffix("__init__.py")
_TURNS = 2_000


class _Trace:
    """The work of one call, as the interpreter's profile hook tells it."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.steps: list[str] = []
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


class _Nothing:
    """A transport without a network: each request is answered in the next turn of the loop."""

    needs_key = True
    open_connections = 0
    stale_retries = 0

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: object = None,
        on_resend: object = None,
        on_begin: Callable[[Mapping[str, str]], object] | None = None,
    ) -> HttpReply:
        await asyncio.sleep(0)
        reply = self._reply
        if on_begin is not None:
            on_begin(reply.headers)
        return reply

    async def aclose(self) -> None:
        """Close nothing."""


async def null_app(setup: Setup, at_once: int, **options: Any) -> dspex.App:
    """Return a running App whose transport answers at once, without a network."""
    from benchmarks._server import RESPONSE

    head, _, body = RESPONSE.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    nothing = _Nothing(HttpReply(200, headers, body))
    before, _tree.open_transport = _tree.open_transport, functools.partial(_give, nothing)
    try:
        lm = dspex.LM(MODEL, api_base="http://127.0.0.1:9/v1", api_key="benchmark")
        return await setup.stack.enter_async_context(
            dspex.App(lm=lm, cache=None, limits=ClientLimits(max_in_flight=at_once), **options)
        )
    finally:
        _tree.open_transport = before


def _give(nothing: _Nothing, **_: object) -> Any:
    return nothing


async def work_above_nothing(setup: Setup, at_once: int = 64, turns: int = _TURNS, rounds: int = 7) -> dict[str, float]:
    """Return the CPU cost of a Predict above a null transport, and the collector's share: the least of many rounds."""
    app = await null_app(setup, at_once)
    program = dspex.Predict("question -> answer")

    async def call(question: str) -> object:
        return (await app.run(program, question=question)).answer

    async def bare(_question: str) -> object:
        return await asyncio.sleep(0)

    ours, alone = in_flight(call, at_once), in_flight(bare, at_once)
    await ours(turns)  # type: ignore[misc]
    costs, floors, shares = [], [], []
    for _ in range(rounds):
        spent, collected = await _cost(ours, turns)
        costs.append(spent)
        shares.append(collected / spent)
        floors.append((await _cost(alone, turns))[0])
    return {
        "predict_us": 1e6 * min(costs),
        "floor_us": 1e6 * min(floors),
        "own_us": 1e6 * (min(costs) - min(floors)),
        "gc_share": sorted(shares)[rounds // 2],
    }


async def _cost(run: Any, turns: int) -> tuple[float, float]:
    """Return CPU seconds of one operation, and how much of them the garbage collector took."""
    collected = 0.0
    began = 0.0

    def hear(phase: str, _: Mapping[str, int]) -> None:
        nonlocal collected, began
        if phase == "start":
            began = time.thread_time()
        else:
            collected += time.thread_time() - began

    gc.collect()
    gc.callbacks.append(hear)
    start = time.thread_time()
    await run(turns)
    spent = time.thread_time() - start
    gc.callbacks.remove(hear)
    assert threading.current_thread() is threading.main_thread()
    return spent / turns, collected / turns
