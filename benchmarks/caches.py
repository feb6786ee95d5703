"""
The tiers of the cache: ``python -m benchmarks.caches`` (``--entries 1000000`` for a large file).

Everything is measured in this one process, in turns: a busy machine slows all sides alike. CPU times are of this
process alone; the servers of Redis and Postgres work beside it. DSPy is asked for hits of its own disk cache, with its
memory cache off, and of both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import dspex
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.cache.sqlite import SqliteCache
from dspex.testing import ScriptedLM

QUESTIONS = [f"What is the capital of France? (asked for the {number}th time)" for number in range(64)]
POSTGRES = Path("/usr/lib/postgresql/15/bin")
Call = Callable[[str], Awaitable[object]]


def main() -> int:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description="Measure the tiers of the cache.")
    parser.add_argument("--entries", type=int, default=100_000, help="entries in the SQLite file")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dspex-") as folder:
        asyncio.run(hits(Path(folder), options.rounds))
        asyncio.run(waiters(options.rounds))
        percentiles(Path(folder), options.entries)
    return 0


# --- hits ---------------------------------------------------------------------------------------------------


async def hits(folder: Path, rounds: int) -> None:
    """Print the CPU time of one cached Predict by tier, each an ``app.run`` of its own, beside DSPy's."""
    async with contextlib.AsyncExitStack() as stack:
        calls: dict[str, Call] = {"memory": await stack.enter_async_context(ours("memory", beneath=False))}
        calls["SQLite"] = await stack.enter_async_context(ours(str(folder / "cache.db")))
        calls["a shared file"] = await stack.enter_async_context(ours(f"sqlite:///{folder}/shared.db"))
        if shutil.which("redis-server"):
            calls["Redis"] = await stack.enter_async_context(ours(stack.enter_context(redis(folder))))
        if shutil.which("postgres", path=str(POSTGRES)):
            calls["Postgres"] = await stack.enter_async_context(ours(stack.enter_context(postgres(folder))))
        calls |= dspys(folder)
        spent: dict[str, list[float]] = {name: [] for name in calls}
        elapsed: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                gc.collect()
                began, clock = time.process_time(), time.perf_counter()
                for question in QUESTIONS:
                    await call(question)
                spent[name].append((time.process_time() - began) / len(QUESTIONS))
                elapsed[name].append((time.perf_counter() - clock) / len(QUESTIONS))
    print("| a cached Predict, from | CPU | elapsed | DSPy's CPU, memory | DSPy's CPU, disk |\n|---|---|---|---|---|")
    for name in spent:
        peers = [ratio(spent, peer, name) for peer in ("DSPy, memory", "DSPy, disk")]
        shown = " | ".join(f"{min(each) * 1e6:,.0f} µs" for each in (spent[name], elapsed[name]))
        print(f"| {name} | {shown} | {' | '.join(peers)} |")


def ratio(spent: dict[str, list[float]], peer: str, name: str) -> str:
    if peer not in spent:
        return "not installed"
    return f"{statistics.median(a / b for a, b in zip(spent[peer], spent[name], strict=True)):.1f}x"


@contextlib.asynccontextmanager
async def ours(cache: str, *, beneath: bool = True) -> AsyncIterator[Call]:
    """An App whose answers are all there; ``beneath`` lets memory hold one, so that the tier below is asked."""
    program = dspex.Predict("question -> answer")
    given: Any = dspex.Shared(cache, timeout=10.0) if "://" in cache else cache
    async with dspex.App(ScriptedLM(lambda _: {"answer": "Paris"}, model="scripted/m"), cache=given) as app:

        async def call(question: str) -> object:
            return await app.run(program, question=question)

        for question in QUESTIONS:
            await call(question)
        gateway = app.running_tree().cache
        assert gateway is not None
        if beneath:
            gateway.table.memory.max_entries = 1
            gateway.table.memory.set_nowait("another", LMResponse((Completion(""),), Usage(), "m"))  # all others leave
        before = dict(gateway.table.hits)
        yield call
        tier = {"memory": "memory"}.get(cache, "shared" if "://" in cache else "disk")
        assert gateway.table.hits[tier] > before[tier], gateway.table.hits


def dspys(folder: Path) -> dict[str, Call]:
    """Return DSPy's cached calls, where it is installed; its model answers by itself."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # nothing is fetched from anywhere
    try:
        import dspy
    except ImportError:
        return {}

    def call_with(*, memory: bool) -> Call:
        cache = {"enable_disk_cache": True, "disk_cache_dir": str(folder / "dspy"), "enable_memory_cache": memory}
        answer = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
        lm = dspy.LM("openai/m", api_key="k", mock_response=answer)
        predict = dspy.Predict("question -> answer")

        async def call(question: str) -> object:
            if current[0] is not call:
                dspy.configure_cache(**cache)
                current[0] = call
            with dspy.context(lm=lm):
                return await predict.acall(question=question)

        return call

    current: list[object] = [None]
    return {"DSPy, memory": call_with(memory=True), "DSPy, disk": call_with(memory=False)}


async def waiters(rounds: int) -> None:
    """Print the cost of 1,000 that ask the same at once, beside 1,000 that ask one after the other and find it."""
    program = dspex.Predict("question -> answer")
    asked = 0

    def answer(_: object) -> dict[str, str]:
        nonlocal asked
        asked += 1
        return {"answer": "Paris"}

    together, later = [], []
    async with dspex.App(ScriptedLM(answer, model="scripted/m"), adapter="chat") as app:
        for number in range(rounds):
            began = time.process_time()
            await asyncio.gather(*(app.run(program, question=f"{number}") for _ in range(1_000)))
            together.append((time.process_time() - began) / 1_000)
            began = time.process_time()
            for _ in range(1_000):
                await app.run(program, question=f"{number}")
            later.append((time.process_time() - began) / 1_000)
    assert asked == rounds, asked
    print(f"\n1,000 waiters on one key: {min(together) * 1e6:,.0f} µs of CPU each, one call; ", end="")
    print(f"found in memory one after the other: {min(later) * 1e6:,.0f} µs each")


# --- a large file -------------------------------------------------------------------------------------------


def percentiles(folder: Path, entries: int) -> None:
    """Print how long a get and a put take in a file of so many entries."""
    table = SqliteCache(folder / "large.db", max_bytes=2**40).open()
    answer = LMResponse((Completion("Paris is the capital of France. " * 8),), Usage(100, 20), "m")
    puts = []
    for number in range(entries):
        began = time.perf_counter()
        table.set(key_of(number), answer)
        puts.append(time.perf_counter() - began)
    gets = []
    for number in range(20_000):
        key = key_of(number * 7919 % entries)
        began = time.perf_counter()
        assert table.get(key) is not None
        gets.append(time.perf_counter() - began)
    table.close()
    size = (folder / "large.db").stat().st_size
    print(f"\n| SQLite, {entries:,} entries, {size / 1e6:,.0f} MB | p50 | p95 | p99 | p99.9 |\n|---|---|---|---|---|")
    for name, each in (("put, the last tenth", puts[-max(1, entries // 10) :]), ("get, at random", gets)):
        each.sort()
        shown = [each[min(len(each) - 1, int(len(each) * share))] * 1e6 for share in (0.5, 0.95, 0.99, 0.999)]
        print(f"| {name} | {' | '.join(f'{value:,.0f} µs' for value in shown)} |")


def key_of(number: int) -> str:
    import hashlib

    return hashlib.sha256(str(number).encode()).hexdigest()


# --- servers ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis and return its address."""
    command = ["redis-server", "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--save", ""]
    with server(command, b"eady to accept", folder):
        yield f"unix://{folder / 'redis.sock'}"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a Postgres and return its address."""
    home = folder / "postgres"
    home.mkdir()
    before: list[str] = []
    if os.geteuid() == 0:  # as whom it refuses to run
        user = pwd.getpwnam("postgres")
        folder.chmod(0o755)
        os.chown(home, user.pw_uid, user.pw_gid)
        before = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    init = [str(POSTGRES / "initdb"), "-D", str(home / "data"), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run([*before, *init], check=True, capture_output=True, cwd=home)
    run = [str(POSTGRES / "postgres"), "-D", str(home / "data"), "-c", "listen_addresses="]
    with server([*before, *run, "-c", f"unix_socket_directories={home}"], b"ready to accept connections", home):
        yield f"postgresql://postgres@/postgres?host={home}"


@contextlib.contextmanager
def server(command: list[str], ready: bytes, folder: Path) -> Iterator[None]:
    """Run a server from the moment it is ready."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        if not any(ready in line for line in process.stdout):
            raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
