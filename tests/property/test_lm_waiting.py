"""Who is next: against a list of everyone, and no priority starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.services.lm.waiting import WaitingRoom, stride_of

priorities = st.integers(-1, 12)


class Waiter:
    def __init__(self, number: int, priority: int) -> None:
        self.number = number
        self.priority = priority
        self.gone = False

    def __repr__(self) -> str:
        return f"{self.number}@{self.priority}"


class RoomMachine(RuleBasedStateMachine):
    """Classes as lists, passes as numbers, recomputed the slow way."""

    def __init__(self) -> None:
        super().__init__()
        self.room: WaitingRoom[Waiter] = WaitingRoom(lambda each: each.gone)
        self.inside: list[Waiter] = []
        self.passes: dict[int, int] = {}
        self.turn = 0
        self.number = 0

    @rule(priority=priorities)
    def enter(self, priority: int) -> None:
        self.number += 1
        waiter = Waiter(self.number, priority)
        if not any(each.priority == priority for each in self.inside):
            self.passes[priority] = self.turn + stride_of(priority)
        self.inside.append(waiter)
        self.room.enter(priority, waiter)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.inside)).gone = True

    @rule()
    def serve(self) -> None:
        expected = self.expected()
        assert self.room.first() is expected
        if expected is not None:
            self.turn = max(self.turn, self.passes[expected.priority])
            self.passes[expected.priority] += stride_of(expected.priority)
            assert self.room.serve() is expected
            self.inside.remove(expected)

    def expected(self) -> Waiter | None:
        """Pass over those who left, from the class that is furthest behind."""
        while self.inside:
            priority = min({each.priority for each in self.inside}, key=lambda each: (self.passes[each], each))
            first = next(each for each in self.inside if each.priority == priority)
            if not first.gone:
                return first
            self.inside.remove(first)
        return None

    @rule(modulo=st.integers(2, 5))
    def sweep(self, modulo: int) -> None:
        leaving = [each for each in self.inside if not each.gone and each.number % modulo == 0]
        left = self.room.sweep(lambda each: each.number % modulo == 0)
        assert sorted(each.number for each in left) == [each.number for each in leaving]
        self.inside = [each for each in self.inside if not each.gone and each not in leaving]

    @rule()
    def count(self) -> None:
        self.inside = [each for each in self.inside if not each.gone]
        counts: dict[int, int] = {}
        for each in self.inside:
            counts[each.priority] = counts.get(each.priority, 0) + 1
        assert self.room.counts() == counts

    @invariant()
    def agrees(self) -> None:
        assert self.room.size == len(self.inside)


TestRoomMachine = RoomMachine.TestCase


@given(st.lists(priorities, min_size=1, max_size=4, unique=True), st.data())
def test_nobody_starves_however_many_others_keep_coming(classes: list[int], data: st.DataObject) -> None:
    """Every class is served again within a bound that depends on the weights alone."""
    room: WaitingRoom[int] = WaitingRoom(lambda _: False)
    for priority in classes:
        room.enter(priority, priority)
        room.enter(priority, priority)
    hungry = data.draw(st.sampled_from(classes))
    bound = sum(stride_of(hungry) // stride_of(each) + 1 for each in classes)
    since = 0
    for _ in range(3 * bound):
        assert room.first() is not None
        served = room.serve()
        room.enter(served, served)  # whoever was served comes again at once
        since = 0 if served == hungry else since + 1
        assert since <= bound


@given(st.integers(0, 10), st.integers(0, 10))
def test_grants_are_shared_by_weight(low: int, high: int) -> None:
    """Two classes that always wait get grants in the inverse proportion of their strides."""
    room: WaitingRoom[int] = WaitingRoom(lambda _: False)
    if low == high:
        return
    for priority in (low, high) * 2:
        room.enter(priority, priority)
    grants = {low: 0, high: 0}
    for _ in range(500):
        room.first()
        served = room.serve()
        grants[served] += 1
        room.enter(served, served)
    fair = 500 * stride_of(high) / (stride_of(low) + stride_of(high))
    assert abs(grants[low] - fair) <= 2


def test_those_who_left_do_not_gather() -> None:
    """Callers that time out in a long pause cost no memory for long."""
    room: WaitingRoom[list[bool]] = WaitingRoom(lambda each: each[0])
    for number in range(10_000):
        waiter = [False]
        room.enter(number % 3, waiter)
        waiter[0] = True
        assert room.size <= 128
