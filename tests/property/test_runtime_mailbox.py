"""Mailbox, restart window and restart plans against models that are too simple to be wrong."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.runtime import KILLED, NORMAL, SHUTDOWN, AutoShutdown, Backoff, Other, Restart, RestartStrategy, Shutdown
from dspex.runtime._mailbox import Mailbox
from dspex.runtime._restart import BackoffState, RestartWindow, ends_supervisor, plan_restart, should_restart

LIMIT = 3


class MailboxMachine(RuleBasedStateMachine):
    """Two lists, a number, and people who wait for room in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.mailbox = Mailbox(LIMIT)
        self.items: list[object] = []
        self.urgent: list[object] = []
        self.high_water = 0
        self.waiter: asyncio.Future[None] | None = None
        self.putters: list[asyncio.Task[None]] = []
        self.offered = 0
        self.number = 0

    def teardown(self) -> None:
        for putter in self.putters:
            putter.cancel()
        self.turn()
        self.loop.close()

    def turn(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def item(self) -> object:
        self.number += 1
        return self.number

    def woken(self) -> None:
        if self.waiter is not None:
            assert self.waiter.done()
            assert self.mailbox.waiter is None
            self.waiter = None

    def done(self) -> int:
        return sum(putter.done() and not putter.cancelled() for putter in self.putters)

    @rule()
    def put(self) -> None:
        item = self.item()
        room = len(self.items) < LIMIT
        assert self.mailbox.full is not room
        assert self.mailbox.put(item) is room
        if room:
            self.items.append(item)
            self.woken()

    @rule()
    def put_always(self) -> None:
        item = self.item()
        self.mailbox.put_always(item)
        self.items.append(item)
        self.woken()
        assert self.mailbox.limit == LIMIT

    @rule()
    def put_urgent(self) -> None:
        item = self.item()
        self.mailbox.put_urgent(item)
        self.urgent.append(item)
        self.woken()

    @precondition(lambda self: self.items or self.urgent)
    @rule()
    def take(self) -> None:
        waiting = [putter for putter in self.putters if not putter.done()]
        expected = self.urgent.pop(0) if self.urgent else None
        if expected is None:
            expected = self.items.pop(0)
            self.offered += bool(waiting)
        assert self.mailbox.take() == expected
        self.turn()
        assert self.done() == self.offered
        assert not waiting or [putter for putter in waiting if putter.done()] in ([], [waiting[0]])

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.items))
        waiting = any(not putter.done() for putter in self.putters)
        self.items.remove(item)
        self.mailbox.remove(item)
        self.mailbox.remove("never there")
        self.offered += waiting
        self.turn()
        assert self.done() == self.offered

    @rule()
    def sleep(self) -> None:
        if not self.items and not self.urgent:
            self.waiter = self.mailbox.waiter = self.loop.create_future()

    @rule()
    def wait_for_room(self) -> None:
        self.putters.append(self.loop.create_task(self.mailbox.wait_room(self.loop)))
        self.turn()

    @rule(data=st.data(), also_offered=st.booleans())
    def cancel(self, data: st.DataObject, also_offered: bool) -> None:
        """Cancel one who waits, perhaps in the very tick in which a place is offered to them."""
        waiting = [putter for putter in self.putters if not putter.done()]
        if not waiting:
            return
        victim = data.draw(st.sampled_from(waiting))
        if also_offered:
            self.mailbox.wake_putter()
            self.offered += len(waiting) > 1
        victim.cancel()
        self.turn()
        assert victim.cancelled()
        assert self.done() == self.offered

    @rule()
    def drain(self) -> None:
        self.offered += sum(not putter.done() for putter in self.putters)
        assert self.mailbox.drain() == self.urgent + self.items
        self.items, self.urgent = [], []
        self.turn()
        assert all(putter.done() for putter in self.putters)

    @invariant()
    def agrees(self) -> None:
        self.high_water = max(self.high_water, len(self.items))
        assert len(self.mailbox) == len(self.items) + len(self.urgent)
        assert self.mailbox.high_water == self.high_water
        assert len(self.mailbox._room or ()) == sum(not putter.done() for putter in self.putters)


TestMailbox: Any = MailboxMachine.TestCase


@given(
    intensity=st.integers(0, 5),
    period=st.floats(0.5, 10),
    steps=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, 11.0]), max_size=60),
)
def test_the_window_allows_as_many_restarts_as_it_says(intensity: int, period: float, steps: list[float]) -> None:
    """Every restart, allowed or not, counts for exactly ``period`` seconds, its last instant included."""
    window, now, times = RestartWindow(intensity, period), 0.0, list[float]()
    for step in steps:
        now += step
        times.append(now)
        assert window.allow(now) == (sum(now - each <= period for each in times) <= intensity)


@given(ids=st.lists(st.text(min_size=1), min_size=1, unique=True), data=st.data())
def test_a_plan_stops_whom_it_starts_in_reverse(ids: list[str], data: st.DataObject) -> None:
    """All of the group but the dead one, which has stopped already."""
    dead = data.draw(st.sampled_from(ids))
    for strategy, group in (
        (RestartStrategy.ONE_FOR_ONE, [dead]),
        (RestartStrategy.ONE_FOR_ALL, ids),
        (RestartStrategy.REST_FOR_ONE, ids[ids.index(dead) :]),
    ):
        plan = plan_restart(strategy, ids, dead)
        assert list(plan.start) == group
        assert list(plan.stop) == [each for each in reversed(group) if each != dead]


@given(
    exits=st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=30),
    initial=st.floats(0.01, 2),
    factor=st.floats(1, 50),
)
def test_the_delay_doubles_for_those_who_live_no_longer_than_it(
    exits: list[tuple[bool, float]], initial: float, factor: float
) -> None:
    """A start that fails is not health, however long it takes; one that succeeds ends the row of failures."""
    backoff = Backoff(initial=initial, maximum=initial * factor, reset_after=5.0, unavailable_after=3)
    state, now, failures = BackoffState(backoff), 0.0, 0
    expected: float | None = None
    for started, seconds in exits:
        if started:
            state.started(now)
            failures = 0
            before, now = now, now + seconds
            health = now - before
            delay = state.next_delay(now)
        else:
            now += seconds
            failures += 1
            health = 0.0
            delay, unavailable = state.start_failed(now)
            assert unavailable == (failures >= 3)
        if expected is None or health >= 5.0:
            expected = initial
        elif health <= expected:
            expected = min(backoff.maximum, expected * 2.0)
        assert delay == expected


@given(st.sampled_from(Restart))
def test_only_transient_children_look_at_the_reason(restart: Restart) -> None:
    """Permanent and temporary have made up their minds."""
    for reason, abnormal in (
        (NORMAL, False),
        (SHUTDOWN, False),
        (Shutdown(1), False),
        (KILLED, True),
        (Other(1), True),
    ):
        expected = {Restart.PERMANENT: True, Restart.TRANSIENT: abnormal, Restart.TEMPORARY: False}[restart]
        assert should_restart(restart, reason) == expected


@given(flag=st.sampled_from(AutoShutdown), significant=st.booleans(), others=st.lists(st.booleans()))
def test_auto_shutdown_needs_a_significant_end(flag: AutoShutdown, significant: bool, others: list[bool]) -> None:
    """The first, or the last, as the flag says; the end of anybody else is not a reason."""
    ends = ends_supervisor(flag, significant=significant, others_active=others)
    allowed = {
        AutoShutdown.NEVER: False,
        AutoShutdown.ANY_SIGNIFICANT: True,
        AutoShutdown.ALL_SIGNIFICANT: not any(others),
    }
    assert ends == (significant and allowed[flag])
