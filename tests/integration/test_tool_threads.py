"""How many blocking tools are called at once, and what becomes of one that asks while the threads' owner restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import dspex
from dspex.protocols.scope import current_scope
from dspex.requests import ToolThreads
from dspex.requests._threads import TOOL_THREADS
from dspex.runtime import Actor, From, Next, NoReply, Runtime
from tests.support.programs import until


class Blocking(dspex.Module):
    """Calls functions that block, all at once."""

    def __init__(self, *functions: Callable[[], str]) -> None:
        self.functions = functions

    async def forward(self) -> list[str]:
        in_thread = current_scope.get().in_thread
        return await asyncio.gather(*(in_thread(each, "tool") for each in self.functions))


async def test_no_more_blocking_tools_are_called_at_once_than_the_app_allows() -> None:
    """Two of three are inside; the third gets the thread of the first that ends."""
    gates = [threading.Event() for _ in range(3)]
    inside = [threading.Event() for _ in range(3)]

    def entering(number: int) -> Callable[[], str]:
        def wait() -> str:
            inside[number].set()
            gates[number].wait(10)
            return str(number)

        return wait

    async with dspex.App(max_tool_threads=2) as app:
        request = app.start(Blocking(*map(entering, range(3))))
        pool = app.running_tree().threads.pool
        assert pool is not None
        await until(lambda: inside[0].is_set() and inside[1].is_set(), "two tools")
        assert not inside[2].is_set()
        assert app.running_tree().threads.limit == 2
        gates[1].set()
        await until(inside[2].is_set, "the third tool")
        gates[0].set()
        gates[2].set()
        assert await request == ["0", "1", "2"]


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "4"])
def test_a_number_of_threads_that_makes_no_sense_is_refused(given: object) -> None:
    """Before anything is started."""
    with pytest.raises(dspex.ConfigError, match=r"max_tool_threads=.* whole number from 1 on"):
        dspex.App(max_tool_threads=given)  # type: ignore[arg-type]  # what a careless user gives


async def test_who_asks_while_the_owner_of_the_threads_is_down_waits_for_its_successor() -> None:
    """No thread is there to call in: the call is parked with the owner's name, and made when it is back."""
    async with Runtime() as runtime:
        threads = ToolThreads(runtime, limit=1)
        answer = asyncio.ensure_future(threads.run(lambda: "called", "tool"))
        await asyncio.sleep(0)
        assert not answer.done()

        spec = threads.spec()
        await runtime.start(spec.start(*spec.args), name=spec.name)

        assert await answer == "called"


class Dying(Actor):
    """An owner that dies before it answers."""

    async def handle_call(self, message: object, sender: From) -> Next:
        """Keep the question."""
        return NoReply()


async def test_who_asked_an_owner_that_died_asks_its_successor() -> None:
    """Nothing was called yet: nothing is lost, and the function is called once."""
    calls: list[int] = []
    async with Runtime() as runtime:
        threads = ToolThreads(runtime)
        owner = await runtime.start(Dying(), name=TOOL_THREADS)
        asked = asyncio.ensure_future(threads.run(lambda: calls.append(1), "tool"))
        await asyncio.sleep(0)
        owner.kill()
        await owner.wait_exit()

        spec = threads.spec()
        await runtime.start(spec.start(*spec.args), name=spec.name)
        await asked
    assert calls == [1]


async def test_tools_are_called_again_after_the_owner_was_killed() -> None:
    """In the App its supervisor brings a successor, which has threads of its own."""
    async with dspex.App() as app:
        owner = app.runtime.whereis(TOOL_THREADS)
        assert owner is not None
        owner.kill()
        await until(lambda: app.running_tree().threads.pool is None, "the threads to be gone")

        assert await app.run(Blocking(lambda: "called")) == ["called"]
