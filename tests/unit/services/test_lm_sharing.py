"""The LM client as an actor that shares its limits: how much it asks of the others, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest

from dspex.runtime import Actor, ChildSpec, Runtime, Supervisor, current_process
from dspex.services.lm.client import LMClient
from dspex.services.lm.lease_book import Acquire
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.slices import SOONEST, ModelShare
from dspex.services.shared.cells import Step
from dspex.services.shared.rate_cell import RateCell
from dspex.testing import VirtualClock

R = TypeVar("R")


class Memory:
    """Implements ``Cells`` for one cell, and counts the words."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.words = 0
        self.text: str | None = None

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        self.words += 1
        self.text, answer = step(self.text, self.clock.now())
        return answer


@pytest.mark.parametrize(("room", "granted"), [(256, 40), (10, 10)])
async def test_one_slice_is_for_all_who_wait_and_have_room(room: int, granted: int) -> None:
    """The first call asks for itself, before the others have come; the second word is for all of them."""
    clock = VirtualClock(5000.0)
    runtime, table, store = Runtime(clock=clock, seed=1), LeaseTable(), Memory(clock)
    table.shares["m"] = ModelShare("limits/m", "p1")
    leases: list[Lease] = []

    async def work() -> None:
        process = current_process()
        assert process is not None
        lease = await runtime.named("m").call(Acquire(process.ref, 1, deadline=1e6), timeout=None)
        assert isinstance(lease, Lease)
        leases.append(lease)
        await asyncio.get_running_loop().create_future()

    runtime.open()
    try:
        arguments = ("m", table, ClientLimits(rpm=60, max_in_flight=room), False, store)
        await runtime.start(Supervisor([ChildSpec("m", LMClient, arguments, name="m")]))
        owner = runtime.processes[(await runtime.start(Actor())).pid]
        for _ in range(40):
            runtime.spawn_task(owner, work)
        await clock.settle()
        assert (store.words, len(leases)) == (1, 1)
        await clock.advance(SOONEST)
        assert (store.words, len(leases)) == (2, granted)
        assert store.text is not None
        assert RateCell.decode(store.text).buckets["requests"].level == 60 - granted
    finally:
        await runtime.close()
