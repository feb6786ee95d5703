"""A crash seen from outside the process: nothing, unless somebody listens."""

from __future__ import annotations

import subprocess
import sys

CRASHES = """
import asyncio
import logging
from dspex.runtime import Actor, NoReply, Runtime, TaskSupervisor

class Crashing(Actor):
    async def handle_call(self, message, sender):
        if message == "later":
            self.spawn_task(self.crash)
            return NoReply()
        raise ValueError(message)

    async def crash(self):
        await asyncio.sleep(0)
        self.ref.kill()
        raise ValueError("in a task")

async def ask(ref, message):
    try:
        await ref.call(message)
    except Exception:
        return 1

async def main():
    async with Runtime() as runtime:
        refs = [await runtime.start(Crashing()) for _ in range(100)]
        calls = [ask(ref, "now" if number % 2 else "later") for number, ref in enumerate(refs)]
        cancelled = asyncio.ensure_future(refs[0].call("later"))
        asyncio.get_running_loop().call_soon(cancelled.cancel)
        assert sum(await asyncio.gather(*calls)) == 100
        tasks = await runtime.start(TaskSupervisor())
        for _ in range(10):
            tasks.start(ask)
    assert len(asyncio.all_tasks()) == 1

# Development mode tells of each turn of the loop over 0.1 s too, which on a machine under load is not news of ours.
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing %"))
{run}
"""


def crash(run: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", CRASHES.replace("{run}", run)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_hundred_crashes_print_nothing() -> None:
    """A library that nobody configured says nothing, not even by asyncio's or the interpreter's mouth."""
    assert crash("asyncio.run(main())") == ""


def test_a_hundred_crashes_print_nothing_on_uvloop() -> None:
    """The same where the loop is another."""
    assert crash("import uvloop; uvloop.run(main())") == ""
