"""
The cost of limits and budgets of several processes: ``python -m benchmarks.sharing``.

Calls are taken out of a bucket of one's own, and out of slices of a shared one that is refilled by an exchange with a
real store every 500 calls. The two take turns in this one process; times are CPU times of it, minima over all rounds.
The servers of Redis and Postgres work beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.caches import POSTGRES, postgres, redis
from dspex._random import fresh_id
from dspex.protocols.money import Budget, Spending
from dspex.runtime import Backoff, Runtime, Supervisor, WorkerThread
from dspex.services.lm.buckets import Bucket
from dspex.services.lm.slices import ModelShare, SliceBucket
from dspex.services.money.purse import Purse, step_of
from dspex.services.shared.address import Shared
from dspex.services.shared.cells import Cells
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.postgres_cells import CELLS
from dspex.services.shared.sqlite_cells import FileCells, SqliteFile
from dspex.services.shared.store_cells import cells_of

SLICE = 500
SLICES = 20
LARGE = 1e12
"""A limit that nobody reaches."""


def main() -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Measure the cost of shared limits and budgets.")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dspex-") as folder:
        asyncio.run(compare(Path(folder), options.rounds))
    return 0


async def compare(folder: Path, rounds: int) -> None:
    """Print the CPU time of one call by store."""
    async with contextlib.AsyncExitStack() as stack:
        stores: dict[str, Cells] = {"a SQLite file": await stack.enter_async_context(file(folder))}
        if shutil.which("redis-server"):
            url = stack.enter_context(redis(folder))
            stores["Redis"] = await stack.enter_async_context(opened(url))
        if shutil.which("postgres", path=str(POSTGRES)):
            url = stack.enter_context(postgres(folder))
            stores["Postgres"] = await stack.enter_async_context(opened(url))
        own: list[float] = []
        shared: dict[str, list[float]] = {name: [] for name in stores}
        words: dict[str, list[float]] = {name: [] for name in stores}
        gc.disable()
        for _ in range(rounds):
            own.append(of_one())
            for name, cells in stores.items():
                shared[name].append(await of_several(cells))
                words[name].append(await of_a_budget(cells))
        base = min(own)
        print(
            f"| a call, {SLICE} in a slice | CPU time | more than a bucket of its own ({base * 1e6:.2f} µs) | a word |"
        )
        print("|---|---|---|---|")
        for name in stores:
            each, word = min(shared[name]), min(words[name])
            print(f"| {name} | {each * 1e6:.2f} µs | {(each - base) * 1e6:.2f} µs | {word * 1e6:.0f} µs |")


def of_one() -> float:
    """Return the seconds that one call takes of a bucket of its own."""
    bucket = Bucket(LARGE, now=0.0)
    began = time.process_time()
    for number in range(SLICE * SLICES):
        take(bucket, number / 1e4)
    return (time.process_time() - began) / (SLICE * SLICES)


async def of_several(cells: Cells) -> float:
    """Return the seconds that one call takes of a shared bucket, the exchanges included."""
    share = ModelShare("limits/benchmark", fresh_id("process"))
    bucket = share.bucket("requests", LARGE, 0.0)
    began = time.process_time()
    for turn in range(SLICES):
        now = turn * SLICE / 1e4
        bucket.wait(1.0, now)
        bucket.queued(SLICE)
        ask = share.ask(now)
        share.hear(ask, await cells.change(share.cell, share.step(ask, "origin"), 60.0), now)
        fill(bucket, now)
    seconds = (time.process_time() - began) / (SLICE * SLICES)
    await cells.change(share.cell, share.step(share.ask(1e9, leaves=True), "origin"), 60.0)
    return seconds


def fill(bucket: SliceBucket, now: float) -> None:
    for number in range(SLICE):
        take(bucket, now + number / 1e4)


def take(bucket: Bucket, now: float) -> None:
    if bucket.wait(1.0, now):
        raise RuntimeError("the bucket is empty")
    bucket.take(1.0, now)


async def of_a_budget(cells: Cells) -> float:
    """Return the seconds that one word to a shared budget takes."""
    purse = Purse("budget/app", Budget(calls=10**12), fresh_id("process"))
    began = time.process_time()
    for turn in range(SLICES):
        ask = purse.ask(float(turn), Spending(calls=1))
        answer, text = await cells.change(purse.cell, step_of(purse, ask, "origin"), 60.0)
        purse.hear(ask, answer, text, float(turn))
    seconds = (time.process_time() - began) / SLICES
    await cells.change(purse.cell, step_of(purse, purse.ask(1e9, leave=True), "origin"), 60.0)
    return seconds


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Cells]:
    async with Runtime() as runtime:
        gateway = SharedGateway(runtime, Shared(url, timeout=10.0), [CELLS])
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        yield cells_of(gateway)


@contextlib.asynccontextmanager
async def file(folder: Path) -> AsyncIterator[Cells]:
    worker, cells = WorkerThread("cells"), SqliteFile(folder / "cells.db")
    try:
        yield FileCells(worker, cells)
    finally:
        await worker.aclose(cells.close)


if __name__ == "__main__":
    sys.exit(main())
