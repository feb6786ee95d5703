"""A registry against a list of (key, owner, value), with owners that die, locks included."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dspex.errors import AlreadyRegistered, NotRegistered
from dspex.runtime import (
    Actor,
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    From,
    Next,
    NoReply,
    NoSuchActor,
    Registered,
    Registration,
    Registry,
    Reply,
    Runtime,
)

keys = st.sampled_from(["k", 1, 1.0, True])
owners = st.integers(0, 2)


class Owner(Actor):
    """Runs what it is called with."""

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message())

    async def handle_cast(self, message: Any) -> Next:
        self.spawn_task(message)
        return NoReply()


class Listener(Owner):
    def __init__(self) -> None:
        self.heard: list[tuple[bool, object, ActorRef]] = []

    async def handle_info(self, message: Any) -> Next:
        self.heard.append((isinstance(message, Registered), message.key, message.ref))
        return None


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.runtime = Runtime()
        self.entries: list[tuple[tuple[type, object], ActorRef, int]] = []
        self.heard: list[tuple[bool, object, ActorRef]] = []
        self.queue: list[tuple[ActorRef, asyncio.Event]] = []
        self.inside: list[asyncio.Event] = []
        self.number = 0
        self.calls: list[asyncio.Task[Any]] = []
        """Of keys that a supervisor sees to: each was answered, or told that nobody is expected any more."""

    @initialize(unique=st.booleans())
    def open(self, unique: bool) -> None:
        self.unique = unique
        self.run(self._open())

    async def _open(self) -> None:
        self.runtime.open()
        self.listener = Listener()
        listening = await self.runtime.start(self.listener)
        self.registry = Registry("unique" if self.unique else "duplicate", listeners=[listening])
        self.owners = [await self.runtime.start(Owner()) for _ in range(3)]
        supervisor = await self.runtime.start(DynamicSupervisor(max_restarts=1_000_000))
        assert isinstance(supervisor, DynamicSupervisorRef)
        self.supervisor = supervisor

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.run(self.runtime.close())
            assert all(task.done() for task in self.calls)
            registry = self.registry
            parking = registry._parking
            assert (parking._parked, parking._expected, parking._waiting_for) == ({}, {}, {})
            assert [registry._entries, registry._owned, registry._locks._queues] == [{}, {}, {}]
            assert registry._locks._held == {}
        self.loop.close()

    def ask(self, who: int, action: Any) -> Any:
        return self.run(self.owners[who].call(action))

    @rule(key=keys, who=owners)
    def register(self, key: Any, who: int) -> None:
        self.number += 1
        strict = (type(key), key)
        holder = next((ref for each, ref, _ in self.entries if each == strict), None)
        number = self.number

        def do() -> object:
            try:
                self.registry.register(key, number)
            except AlreadyRegistered as error:
                return error.owner
            return None

        refused_for = self.ask(who, do)
        if self.unique and holder is not None:
            assert refused_for == holder
        else:
            assert refused_for is None
            self.entries.append((strict, self.owners[who], number))
            self.heard.append((True, key, self.owners[who]))

    @rule(key=keys, who=owners)
    def unregister(self, key: Any, who: int) -> None:
        self.ask(who, lambda: self.registry.unregister(key))
        left = [each for each in self.entries if each[:2] != ((type(key), key), self.owners[who])]
        if len(left) < len(self.entries):
            self.heard.append((False, key, self.owners[who]))
        self.entries = left

    @rule(key=keys, who=owners)
    def update(self, key: Any, who: int) -> None:
        if not self.unique:
            return
        strict, owner = (type(key), key), self.owners[who]

        def do() -> object:
            try:
                return self.registry.update_value(key, lambda value: value + 1000)
            except NotRegistered:
                return None

        mine = [value for each, ref, value in self.entries if (each, ref) == (strict, owner)]
        assert self.ask(who, do) == (mine[0] + 1000 if mine else None)
        self.entries = [
            (each, ref, value + 1000 if (each, ref) == (strict, owner) else value) for each, ref, value in self.entries
        ]

    @rule(who=owners)
    def lock(self, who: int) -> None:
        release = asyncio.Event()

        async def hold() -> None:
            self.inside.append(release)
            try:
                await release.wait()
            finally:
                self.inside.remove(release)

        async def work() -> None:
            await self.registry.lock("lock", hold)

        self.queue.append((self.owners[who], release))
        self.run(self._cast(who, work))

    async def _cast(self, who: int, work: Any) -> None:
        assert self.owners[who].cast(work)

    @rule()
    def unlock(self) -> None:
        if self.queue:
            self.queue.pop(0)[1].set()

    @rule(who=owners, kill=st.booleans())
    def die(self, who: int, kill: bool) -> None:
        dead = self.owners[who]
        self.run(self._die(dead, kill))
        self.entries = [each for each in self.entries if each[1] != dead]
        self.queue = [each for each in self.queue if each[0] != dead]
        self.owners[who] = self.run(self._start())

    async def _die(self, ref: ActorRef, kill: bool) -> None:
        if kill:
            ref.kill()
            await ref.wait_exit()
        else:
            await ref.stop()

    async def _start(self) -> ActorRef:
        return await self.runtime.start(Owner())

    # --- children of a supervisor, under keys -------------------------------------------------------------------

    def _holder(self, key: Any) -> ActorRef | None:
        return next((ref for each, ref, _ in self.entries if each == (type(key), key)), None)

    def _supervised(self) -> list[tuple[tuple[type, object], ActorRef, int]]:
        return [each for each in self.entries if each[1] not in self.owners]

    @rule(key=keys)
    def start_or_get(self, key: Any) -> None:
        """Two ask at once, and both get who holds the key, or one new child of the supervisor."""
        if not self.unique:
            return
        self.number += 1
        holder, number = self._holder(key), self.number
        spec = ChildSpec("child", Owner, via=self.registry.via(key, number))
        first, second = self.run(self._both(spec))
        assert first == second
        if holder is not None:
            assert first == holder
        else:
            self.entries.append(((type(key), key), first, number))
            self.heard.append((True, key, first))

    async def _both(self, spec: ChildSpec) -> list[ActorRef]:
        asking = [asyncio.ensure_future(self.supervisor.start_or_get(spec)) for _ in range(2)]
        return await asyncio.gather(*asking)

    @rule(key=keys)
    def call(self, key: Any) -> None:
        if self.unique:
            answer = self.run(self._answer(key))
            assert answer == self._holder(key)

    async def _answer(self, key: Any) -> ActorRef | None:
        via = self.registry.via(key)
        try:
            ref = await via.call(via.whereis, timeout=None)
        except NoSuchActor:
            return None
        assert isinstance(ref, ActorRef)
        return ref

    @rule(data=st.data(), terminate=st.booleans())
    def child_dies(self, data: st.DataObject, terminate: bool) -> None:
        """It comes back under its key, and whoever calls meanwhile is answered; or it is gone for good."""
        if not self._supervised():
            return
        strict, ref, value = data.draw(st.sampled_from(self._supervised()))
        key = strict[1]
        self.run(self._child_dies(ref, terminate, key))
        self.entries.remove((strict, ref, value))
        if not terminate:
            successor = self.registry.lookup(key)[0].ref
            assert isinstance(successor, ActorRef)
            assert successor != ref
            self.entries.append((strict, successor, value))
            self.heard.append((True, key, successor))

    async def _child_dies(self, ref: ActorRef, terminate: bool, key: Any) -> None:
        if terminate:
            await self.supervisor.terminate(ref)
            return
        ref.kill()
        await ref.wait_exit()
        call = asyncio.ensure_future(self.registry.via(key).call(lambda: "hello", timeout=None))
        self.calls.append(call)
        assert await call == "hello"

    async def _turns(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    @invariant()
    def the_tables_agree_with_the_model(self) -> None:
        if not hasattr(self, "registry"):
            return
        self.run(self._turns())
        for key in ("k", 1, 1.0, True):
            found = [(entry.ref, entry.value) for entry in self.registry.lookup(key)]
            assert found == [(ref, value) for each, ref, value in self.entries if each == (type(key), key)]
        assert len(self.registry) == len(self.entries) == self.registry.count()
        model = [Registration(key, ref, value) for (_, key), ref, value in self.entries]
        assert sorted(map(_strictly, self.registry.select())) == sorted(map(_strictly, model))
        listed = self.registry.keys()
        assert {(type(key), key) for key in listed} == {strict for strict, _, _ in self.entries}
        odd = self.registry.select(lambda key, ref, value: value % 2)
        assert sorted(map(_strictly, odd)) == sorted(_strictly(each) for each in model if each.value % 2)
        supervised = {strict for strict, _, _ in self._supervised()}
        assert set(self.registry._parking._expected) == supervised
        for owner in self.owners:
            mine = {each for each, ref, _ in self.entries if ref == owner}
            assert {(type(key), key) for key in self.registry.keys(owner)} == mine
        assert self.listener.heard == self.heard
        assert self.inside == [release for _, release in self.queue[:1]]


def _strictly(entry: Registration) -> tuple[str, str, int, Any]:
    return type(entry.key).__name__, repr(entry.key), entry.ref.pid, entry.value


TestRegistry = RegistryMachine.TestCase
