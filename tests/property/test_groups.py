"""Groups against a list of pairs, with members that die at any moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dspex.errors import NotRegistered
from dspex.runtime import Actor, ActorRef, From, GroupChange, Groups, Next, Reply, Runtime

names = st.sampled_from(["g", 1, 1.0, True])
picks = st.lists(st.integers(0, 3), min_size=1, max_size=4)


class Member(Actor):
    """Runs what it is called with, and counts from what it is told who is in which group."""

    def __init__(self) -> None:
        self.believed: Counter[tuple[type, object, ActorRef]] = Counter()

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message())

    async def handle_info(self, message: Any) -> Next:
        assert isinstance(message, GroupChange)
        for ref in message.refs:
            self.believed[type(message.group), message.group, ref] += 1 if message.kind == "join" else -1
        return None


class GroupsMachine(RuleBasedStateMachine):
    """The model is the multiset of (group, member)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.runtime = Runtime()
        self.groups = Groups()
        self.model: Counter[tuple[type, object, ActorRef]] = Counter()
        self.run(self._open())

    async def _open(self) -> None:
        self.runtime.open()
        self.watcher = Member()
        watching = await self.runtime.start(self.watcher)
        await watching.call(self.groups.monitor_all)
        self.actors = [await self.runtime.start(Member()) for _ in range(4)]

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        self.run(self.runtime.close())
        assert [self.groups._members, self.groups._joined, self.groups._monitors] == [{}, {}, {}]
        self.loop.close()

    @rule(group=names, who=picks)
    def join(self, group: object, who: list[int]) -> None:
        refs = [self.actors[number] for number in who]
        self.groups.join(group, *refs)
        self.model.update((type(group), group, ref) for ref in refs)

    @rule(group=names, who=picks)
    def leave(self, group: object, who: list[int]) -> None:
        left = 0
        for number in who:
            key = (type(group), group, self.actors[number])
            if self.model[key] > 0:
                self.model[key] -= 1
                left += 1
        try:
            self.groups.leave(group, *(self.actors[number] for number in who))
        except NotRegistered:
            assert left == 0
        else:
            assert left > 0

    @rule(who=st.integers(0, 3), kill=st.booleans())
    def die(self, who: int, kill: bool) -> None:
        self.run(self._die(self.actors[who], kill))
        self.model = Counter({key: n for key, n in self.model.items() if key[2] != self.actors[who]})
        self.actors[who] = self.run(self._start())

    async def _die(self, ref: ActorRef, kill: bool) -> None:
        if kill:
            ref.kill()
            await ref.wait_exit()
        else:
            await ref.stop()

    async def _start(self) -> ActorRef:
        return await self.runtime.start(Member())

    @invariant()
    def the_tables_agree_with_the_model(self) -> None:
        self.run(asyncio.sleep(0))
        self.run(asyncio.sleep(0))
        assert +self.watcher.believed == +self.model
        for group in ("g", 1, 1.0, True):
            expected = {key[2]: n for key, n in (+self.model).items() if key[:2] == (type(group), group)}
            assert Counter(self.groups.members(group)) == Counter(expected)
        assert {(type(each), each) for each in self.groups.which_groups()} == {key[:2] for key in +self.model}


TestGroups = GroupsMachine.TestCase
