"""Asking by name until somebody answers."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from dspex.errors import CallTimeout, DeadlineExceeded, InternalError
from dspex.runtime import (
    ActorRef,
    Backoff,
    ChildSpec,
    From,
    NamedRef,
    NoReply,
    Reply,
    Runtime,
    Supervisor,
    calling_process,
)
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer

NAME = "service"


class Served:
    """A service under a supervisor that restarts it, and a patient handle on it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.handle: NamedRef = runtime.named(NAME, patient=True)
        self.asked: list[int] = []

    async def start(self) -> None:
        await self.runtime.start(Supervisor([ChildSpec(NAME, Doer, name=NAME)], backoff=Backoff()), label="family")

    def ref(self) -> ActorRef:
        found = self.runtime.whereis(NAME)
        assert found is not None
        return found

    async def never(self, doer: Doer, _: From) -> NoReply:
        """Keep the question; the first time whoever has it dies of it."""
        self.asked.append(doer.ref.pid)
        if len(self.asked) == 1:
            doer.ref.kill()
        return NoReply()

    async def at_last(self, doer: Doer, sender: From) -> Reply | NoReply:
        """Die the first time, answer the second."""
        await self.never(doer, sender)
        return Reply("answer") if len(self.asked) > 1 else NoReply()


@pytest.fixture
async def served(runtime: Runtime) -> Served:
    served = Served(runtime)
    await served.start()
    return served


async def test_answer_of_the_holder(served: Served, clock: VirtualClock) -> None:
    assert await served.handle.ask(answer, clock.now() + 1.0) == "answer"
    assert await served.handle.ask(answer) == "answer"


async def test_holder_that_dies_with_the_question_has_a_successor(served: Served, clock: VirtualClock) -> None:
    asking = asyncio.ensure_future(served.handle.ask(served.at_last, clock.now() + 60.0))
    await clock.advance(5.0)
    assert await asking == "answer"
    assert len(set(served.asked)) == 2


async def test_end_is_the_deadline(served: Served, clock: VirtualClock) -> None:
    """Within the second that follows: timeouts are shared by the second."""
    asking = asyncio.ensure_future(served.handle.ask(served.never, clock.now() + 9.5))
    await clock.advance(9.0)
    assert not asking.done()
    await clock.advance(1.5)
    with pytest.raises(DeadlineExceeded):
        await asking
    assert len(served.asked) == 2


async def test_nobody_is_asked_again_after_the_deadline(served: Served, clock: VirtualClock) -> None:
    asking = asyncio.ensure_future(served.handle.ask(served.never, clock.now() - 1.0))
    with pytest.raises(DeadlineExceeded):
        await asking
    assert len(served.asked) == 1


async def test_patience_is_for_the_name_alone(runtime: Runtime, clock: VirtualClock) -> None:
    served = Served(runtime)
    asking = asyncio.ensure_future(served.handle.ask(answer, inf, patience=0.1))
    await clock.advance(0.2)
    with pytest.raises(CallTimeout):
        await asking
    asking = asyncio.ensure_future(served.handle.ask(served.never, inf, patience=0.1))
    await served.start()
    await clock.advance(1_000.0)
    assert not asking.done()
    assert len(served.asked) == 2
    asking.cancel()


async def test_calling_process_is_one_that_must_be_there(runtime: Runtime) -> None:
    with pytest.raises(InternalError, match="outside of every process"):
        calling_process()
    ref = await runtime.start(Doer(), label="doer")

    async def ask(doer: Doer, _: From) -> Reply:
        return Reply(calling_process().ref == doer.ref)

    assert await ref.call(ask)
