"""Looks at the tiers that are heard late: what is older than a fill, or was removed, is not served after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from dspex.errors import SharedError
from dspex.protocols.cache import Hit, Lead
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.runtime import Actor, Backoff, ChildSpec, Process, Runtime, Supervisor
from dspex.services.cache.gateway import CACHE, CacheGateway
from dspex.services.cache.memory import MemoryTier
from dspex.services.cache.server import CacheServer
from dspex.services.cache.shared_tier import NEWEST, NO_LEASE, Claim, Granted, Held, Put, Stored
from dspex.services.shared.link import SchemaPart
from tests.support.on_a_loop import OnALoop
from tests.support.programs import until

KEYS = ("a", "b")


class SlowStore:
    """A shared tier in memory whose answers to claims may be held up on their way."""

    parts: Sequence[SchemaPart] = ()

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, str]] = {}
        self.leases: dict[str, int] = {}
        self.fences = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_down = False

    async def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        self.look()
        found = [self._claim(each) for each in claims]
        await self.may_answer.wait()
        return found

    def _claim(self, claim: Claim) -> Stored | Granted | Held:
        if claim.read and claim.key in self.kept:
            return Stored(self.kept[claim.key][1])
        if claim.key in self.leases:
            return Held(1.0)
        self.fences += 1
        self.leases[claim.key] = self.fences
        return Granted(self.fences)

    async def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        self.look()

    async def put(self, values: Sequence[Put], owner: str) -> None:
        self.look()
        for each in values:
            fence = each.fence
            if fence == NEWEST:
                self.fences += 1
                fence = self.fences
            there = self.kept.get(each.key)
            if there is None or (fence != NO_LEASE and fence >= there[0]):
                self.kept[each.key] = (fence, each.envelope)
            await self.release([(each.key, each.fence)], owner)

    async def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        self.look()
        for key, fence in leases:
            if self.leases.get(key) == fence:
                del self.leases[key]

    async def get(self, keys: Sequence[str]) -> list[str | None]:
        self.look()
        return [self.kept[key][1] if key in self.kept else None for key in keys]

    async def remove(self, key: str, envelope: str) -> None:
        self.look()
        if key in self.kept and self.kept[key][1] == envelope:
            del self.kept[key]

    async def sweep(self) -> int:
        return 0

    def look(self) -> None:
        if self.is_down:
            raise SharedError("it is down")


@dataclass
class Ask:
    """One question, with what was true when it was asked."""

    key: str
    newest: int
    removed: frozenset[int]
    lead: Lead | None = None
    told: asyncio.Future[int] | None = None
    found: list[int] = field(default_factory=list)


class Looks:
    """A cache over a slow store, and those who ask it; answers are numbered."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store = SlowStore()
        self.gateway = CacheGateway(runtime, memory=MemoryTier(max_entries=1), disk=None)
        self.asks: list[Ask] = []
        self.newest = dict.fromkeys((*KEYS, "c"), 0)
        self.removed: set[int] = set()
        self.owner: Process

    async def open(self, disk: SlowDisk | None = None) -> None:
        tiers = (None, self.store) if disk is None else (disk, None)
        spec = ChildSpec(CACHE, CacheServer, (self.gateway.table, *tiers, 5.0), name=CACHE)
        await self.runtime.start(Supervisor([spec], backoff=Backoff(initial=0.0, maximum=0.0)))
        self.owner = self.runtime.processes[(await self.runtime.start(Actor())).pid]

    async def ask(self, key: str, *, refresh: bool = False) -> Ask:
        ask = Ask(key, self.newest[key], frozenset(self.removed))
        self.asks.append(ask)
        found = None if refresh else self.gateway.peek(key)
        if found is not None:
            ask.found.append(number_of(found))
        else:
            self.runtime.spawn_task(self.owner, self._look, ask, refresh)
        return ask

    async def _look(self, ask: Ask, refresh: bool) -> None:
        found = await self.gateway.lookup(ask.key, 1e9, read=not refresh)
        if isinstance(found, Lead):
            ask.told = asyncio.get_running_loop().create_future()
            ask.lead = found
            self.gateway.fill(found, answer(await ask.told))
            ask.lead = None
        elif isinstance(found, Hit):
            ask.found.append(number_of(found.response))

    async def fill(self, ask: Ask) -> int:
        assert ask.told is not None
        number = max(self.newest.values()) + 1
        self.newest[ask.key] = number
        ask.told.set_result(number)
        return number

    async def remove(self, key: str, number: int) -> None:
        self.removed.add(number)
        self.gateway.remove(key, answer(number))

    def leaders(self) -> list[Ask]:
        return [each for each in self.asks if each.lead is not None and each.told is not None and not each.told.done()]

    def check(self) -> None:
        for each in self.asks:
            for number in each.found:
                assert number not in each.removed, f"{number} was removed before it was asked for"
                assert number >= each.newest, f"{number} is older than {each.newest}, which was there"


def answer(number: int) -> LMResponse:
    return LMResponse((Completion(str(number)),), Usage(1, 1), "rules-1")


def number_of(response: LMResponse) -> int:
    return int(response.completions[0].text)


class LooksMachine(OnALoop):
    """Questions, refreshes, fills and removals while the store's answers are held up, and the server is killed."""

    @initialize()
    def start(self) -> None:
        self.do(self._start())

    async def _start(self) -> None:
        self.looks = Looks(self.runtime)
        await self.looks.open()

    @rule(key=st.sampled_from(KEYS), refresh=st.booleans())
    def ask_and_fill(self, key: str, refresh: bool) -> None:
        """Memory has room for one key: the other one is pushed out."""
        ask = self.do(self.looks.ask(key, refresh=refresh))
        if ask in self.looks.leaders():
            self.do(self.looks.fill(ask))

    @rule(refresh=st.booleans(), rest=st.booleans())
    def ask(self, refresh: bool, rest: bool) -> None:
        asking = self.looks.ask("a", refresh=refresh)
        if rest:
            self.do(asking)
        else:  # without time for anything else to happen
            self.loop.run_until_complete(asking)

    @rule(which=st.integers(0, 9))
    def fill(self, which: int) -> None:
        leaders = self.looks.leaders()
        if leaders:
            self.do(self.looks.fill(leaders[which % len(leaders)]))

    @rule(times=st.integers(1, 2))
    def remove(self, times: int) -> None:
        """The newest answer is unwanted; several may find so at once."""
        number = self.looks.newest["a"]
        if not number:
            return

        async def removing() -> None:
            for _ in range(times):
                await self.looks.remove("a", number)

        self.do(removing())

    @rule()
    def look_slowly(self) -> None:
        """Push the key out of memory, and hold up what the store says of it."""
        self.ask_and_fill("b", True)
        self.looks.store.may_answer.clear()
        self.do(self.looks.ask("a"))

    @rule()
    def let_through(self) -> None:
        self.looks.store.may_answer.set()
        self.settle()
        self.do(self.looks.ask("a"))

    @rule()
    def kill_the_server(self) -> None:
        ref = self.runtime.whereis(CACHE)
        if ref is not None:
            ref.kill()
            self.settle()

    @invariant()
    def nothing_stale_is_served(self) -> None:
        if hasattr(self, "looks"):
            self.looks.check()

    def teardown(self) -> None:
        if hasattr(self, "looks"):
            self.looks.store.may_answer.set()
        super().teardown()


TestLooks = LooksMachine.TestCase
TestLooks.settings = settings(stateful_step_count=30, max_examples=200, deadline=None)


async def _turns() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def test_an_answer_that_was_removed_while_the_store_was_down_stays_refused() -> None:
    """The store comes back with it: it is asked anew, and what is made then takes its place."""
    async with Runtime() as runtime:
        looks = Looks(runtime)
        await looks.open()
        first = await looks.ask("a")
        await _turns()
        number = await looks.fill(first)
        await _turns()
        looks.store.is_down = True
        await looks.remove("a", number)
        await _turns()
        looks.store.is_down = False
        second = await looks.ask("a")
        await _turns()
        assert second.lead is not None, "what was removed came back"
        newer = await looks.fill(second)
        await _turns()
        assert [number_of(_answer_in(envelope)) for _, envelope in looks.store.kept.values()] == [newer]


def _answer_in(envelope: str) -> LMResponse:
    from dspex.services.cache.envelope import CacheEntry, decode_entry

    entry = decode_entry(envelope, 0.0)
    assert isinstance(entry, CacheEntry)
    return entry.value


@pytest.mark.parametrize("again", [1, 2])
async def test_a_refresh_is_not_undone_by_a_look_that_began_before_it(again: int) -> None:
    async with Runtime() as runtime:
        looks = Looks(runtime)
        await looks.open()
        for key in KEYS:  # memory has room for one of them
            ask = await looks.ask(key)
            await _turns()
            await looks.fill(ask)
            await _turns()
        looks.store.may_answer.clear()
        slow = await looks.ask("a")
        await _turns()
        for _ in range(again):
            refresh = await looks.ask("a", refresh=True)
            await _turns()
            await looks.fill(refresh)
            await _turns()
        looks.store.may_answer.set()
        await _turns()
        late = await looks.ask("a")
        await _turns()
        assert slow.found == [3]
        assert late.found == [2 + again]


class SlowDisk:
    """A disk tier that holds up what it has found, in the thread that looks."""

    def __init__(self) -> None:
        self.kept: dict[str, LMResponse] = {}
        self.found = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def open(self) -> SlowDisk:
        return self

    def get(self, key: str) -> LMResponse | None:
        value = self.kept.get(key)
        if value is not None:
            self.found.set()
        assert self.may_answer.wait(10)
        return value

    def set(self, key: str, response: LMResponse) -> int:
        self.kept[key] = response
        return 0

    def remove(self, key: str, response: LMResponse) -> None:
        if self.kept.get(key) == response:
            del self.kept[key]

    def close(self) -> None:
        pass


async def test_a_refresh_is_not_undone_by_a_thread_that_looked_before_it() -> None:
    disk = SlowDisk()
    async with Runtime() as runtime:
        looks = Looks(runtime)
        await looks.open(disk)
        for key in KEYS:
            ask = await looks.ask(key)
            await until(lambda ask=ask: ask in looks.leaders(), "a lead")  # type: ignore[misc]  # bound at once
            await looks.fill(ask)
            await until(lambda key=key: key in disk.kept, "a write")  # type: ignore[misc]  # bound at once
        disk.may_answer.clear()
        slow = await looks.ask("a")
        assert await asyncio.to_thread(disk.found.wait, 10)
        refresh = await looks.ask("a", refresh=True)
        await until(lambda: refresh in looks.leaders(), "a lead")
        await looks.fill(refresh)
        await until(lambda: bool(slow.found), "an answer")
        disk.may_answer.set()
        behind = await looks.ask("c")
        await until(lambda: behind in looks.leaders(), "what the thread says after the slow look")
        late = await looks.ask("a")
        assert (slow.found, late.found) == ([3], [3])
