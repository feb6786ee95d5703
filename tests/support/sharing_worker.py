"""
One of several processes that share limits and budgets, for tests: ``python -m tests.support.sharing_worker '{…}'``.

It says ``ready``, begins at a line on its input, tells one line of JSON for each call that ends, and a last one when
all have. It closes its App when its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dspex
from dspex.services.lm.limits import ClientLimits
from tests.support.programs import Ask

__all__ = ["Worker", "workers"]

_ROOT = Path(__file__).parents[2]


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def main(given: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    lm = dspex.LM("openai/rules", api_base=given["url"], api_key="key", max_tokens=20)
    options: dict[str, Any] = {}
    if given.get("shared"):
        namespace, timeout = given.get("namespace", "dspex"), given.get("timeout", 5.0)
        options["shared"] = dspex.Shared(given["shared"], namespace=namespace, timeout=timeout)
    if given.get("budget"):
        options["budget"] = dspex.Budget(**given["budget"])
    limits = ClientLimits(**given.get("limits", {}))
    async with dspex.App(lm, home=given["home"], cache=None, limits=limits, deadline=60.0, **options) as app:
        say(ready=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        room = asyncio.Semaphore(given.get("at_once", 64))

        async def call(number: int) -> None:
            async with room:
                try:
                    await app.run(Ask(), question=f"{os.getpid()} {number}")
                except dspex.DspexError as error:
                    say(error=type(error).__name__, message=str(error)[:300])
                else:
                    say(ok=number)

        await asyncio.gather(*(call(number) for number in range(given["calls"])))
        say(done=True, health=json.loads(json.dumps(app.health(), default=str)), tree=app.tree().render())
        await loop.run_in_executor(None, sys.stdin.readline)


class Worker:
    """A worker process, and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    @property
    def answered(self) -> int:
        """Calls that have ended with an answer."""
        return sum("ok" in each for each in self.told)

    @property
    def errors(self) -> list[str]:
        """The errors of calls that have ended with one."""
        return [f"{each['error']}: {each['message']}" for each in self.told if "error" in each]

    @property
    def last(self) -> dict[str, Any]:
        """Its word when all calls had ended."""
        return next(each for each in self.told if "done" in each)

    async def hear(self) -> dict[str, Any] | None:
        """Return the next word; None when it has died."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            return None
        self.told.append(json.loads(line))
        return self.told[-1]

    async def hear_until(self, count: int) -> None:
        """Return when so many calls have ended."""
        while self.answered + len(self.errors) < count:
            assert await self.hear() is not None

    async def finished(self) -> None:
        """Return when all calls have ended."""
        while (said := await self.hear()) is not None and "done" not in said:
            pass
        assert said is not None, "the worker died"

    def go(self) -> None:
        """Let it begin; a second time, let it close."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")


@contextlib.asynccontextmanager
async def workers(count: int, **given: object) -> AsyncIterator[list[Worker]]:
    """Start so many, each of which is ready; they are ended, or killed, behind the block."""
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'src'}"}
    arguments = [sys.executable, "-m", "tests.support.sharing_worker", json.dumps(given, default=str)]
    pipe = asyncio.subprocess.PIPE
    started = []
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(*arguments, env=environment, stdin=pipe, stdout=pipe)
            started.append(Worker(process))
        for each in started:
            assert await each.hear() == {"ready": True}
        yield started
        for each in started:
            if each.process.returncode is None:
                each.go()
        for each in started:
            assert await asyncio.wait_for(each.process.wait(), 30) in (0, -9)
    finally:
        for each in started:
            if each.process.returncode is None:
                each.process.kill()
                await each.process.wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
