"""
Start many of something and say what one weighs: ``python -m benchmarks._idle actors|tasks|requests NUMBER [traced]``.

The answer is a line of JSON: bytes of each by resident memory (by tracemalloc when ``traced``, which itself needs
memory), microseconds of CPU time to start one, and the garbage collector's longest pause on the way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

__all__ = ["Pauses", "main"]


class Pauses:
    """The longest pause of the garbage collector; for ``gc.callbacks``."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _actors() -> AsyncIterator[None]:
    from dspex.runtime import Actor, ChildSpec, DynamicSupervisor, DynamicSupervisorRef, Runtime

    class Idle(Actor):
        """Does nothing."""

    async with Runtime() as runtime:
        supervisor = await runtime.start(DynamicSupervisor())
        assert isinstance(supervisor, DynamicSupervisorRef)
        spec = ChildSpec("idle", Idle)
        while True:
            await supervisor.start_child(spec)
            yield


async def _tasks() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    alive = []

    async def sleep() -> None:
        await loop.create_future()

    while True:
        alive.append(asyncio.create_task(sleep()))
        await asyncio.sleep(0)
        yield


async def _requests() -> AsyncIterator[None]:
    import httpx

    import dspex
    from dspex.services.lm.limits import ClientLimits

    class Silent(httpx.AsyncBaseTransport):
        """Never answers."""

        needs_key = False

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            """Wait for ever."""
            answer: httpx.Response = await asyncio.get_running_loop().create_future()
            return answer

    lm = dspex.LM("openai/benchmark", api_base="http://nowhere/v1")
    predict = dspex.Predict("question -> answer")
    requests: list[object] = []
    limits = ClientLimits(max_in_flight=1)
    async with dspex.App(
        lm, adapter="chat", cache=None, limits=limits, transport=Silent(), max_running=1_000_000
    ) as app:
        view = app.options(deadline=3_600.0)
        while True:
            requests.append(view.start(predict, question=f"the {len(requests)}th"))
            for _ in range(10):  # until it waits for its turn
                await asyncio.sleep(0)
            yield


async def main(what: str, number: int, *, traced: bool) -> None:
    """Start them, write the answer, leave: ending so many takes longer than starting them, and is not measured here."""
    each = {"actors": _actors, "tasks": _tasks, "requests": _requests}[what]()
    for _ in range(100):  # what the first ones load and cache is not weighed
        await anext(each)
    gc.collect()
    pauses = Pauses()
    gc.callbacks.append(pauses)
    if traced:
        tracemalloc.start()
    before, cpu = tracemalloc.get_traced_memory()[0] if traced else _resident(), time.process_time()
    for _ in range(number):
        await anext(each)
    cpu = time.process_time() - cpu
    longest = pauses.longest
    gc.collect()
    weight = (tracemalloc.get_traced_memory()[0] if traced else _resident()) - before
    answer = {
        "number": number,
        "bytes": weight / number,
        "start_us": cpu / number * 1e6,
        "longest_gc_pause_ms": longest * 1e3,
        "full_gc_ms": _full_collection() * 1e3,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _full_collection() -> float:
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), traced=sys.argv[3:] == ["traced"]))
