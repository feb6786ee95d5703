"""The cache's actor: tiers, and single-flight with leaders that are watched."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from dspex._clock import wall_time
from dspex._random import fresh_id
from dspex.errors import CacheError
from dspex.protocols.cache import CacheStore, Hit, Lead, OpenCacheStore
from dspex.protocols.lm import LMResponse
from dspex.runtime import Down, From, LibraryActor, Next, NoReply, ProcessRef, Reply, WorkerThread, get_logger
from dspex.services.cache.across import Across
from dspex.services.cache.envelope import CacheEntry, EntryStore, Unreadable
from dspex.services.cache.memory import MemoryTier
from dspex.services.cache.refused import Refused, Removal
from dspex.services.cache.shared_tier import NEWEST, NO_LEASE, Granted, Held, SharedTier

__all__ = ["Abandon", "CacheServer", "CacheTable", "Fill", "Lookup", "Remove"]

_log = get_logger("cache")


@dataclass(frozen=True, slots=True)
class Lookup:
    """Ask for the answer of ``key``; answered by ``Hit`` or ``Lead``, possibly much later."""

    key: str
    holder: ProcessRef
    read: bool


@dataclass(frozen=True, slots=True)
class Fill:
    """The leader's answer."""

    lead: Lead
    response: LMResponse


@dataclass(frozen=True, slots=True)
class Abandon:
    """The leader gives up; ``error`` is for everybody, None hands the lead on."""

    lead: Lead
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Remove:
    """An answer is unwanted; the table refuses it already."""

    removal: Removal


@dataclass(slots=True)
class Flight:
    """One computation that many wait for."""

    leader: ProcessRef
    token: int
    fence: int = NO_LEASE
    """That of the lease under which its answer is made, where other processes must not make it."""
    waiters: deque[tuple[Lookup, From]] = field(default_factory=deque)
    monitor: int = 0


@dataclass(slots=True, eq=False)
class Inquiry:
    """One search of the tiers below memory for a key, and who waits for it; what an earlier one brings is not its."""

    key: str
    waiters: deque[tuple[Lookup, From]] = field(default_factory=deque)


class CacheTable:
    """
    The data that outlives the actor: the memory tier, the leaders of flights, answers that the tiers are to forget.

    Attributes:
        owner: The name under which this process holds leases, which a restarted actor goes on to renew.
        ttl: Seconds for which an answer is served; None where it does not grow old.
    """

    __slots__ = ("flights", "hits", "memory", "misses", "owner", "refused", "tokens", "ttl")

    def __init__(self, memory: MemoryTier, ttl: float | None = None) -> None:
        self.memory = memory
        self.ttl = ttl
        self.owner = fresh_id("cache")
        self.flights: dict[str, Flight] = {}
        self.tokens = 0
        self.hits = {"memory": 0, "disk": 0, "shared": 0, "coalesced": 0}
        self.misses = 0
        self.refused = Refused()

    def until(self) -> float | None:
        """Return when an answer made now stops being served, in seconds since the epoch."""
        return None if self.ttl is None else wall_time() + self.ttl


class CacheServer(LibraryActor):
    """
    Owns the tiers. A leader that dies, is cancelled or gives up hands the lead to the next waiter.

    Flights are recorded in the table: a restarted server watches the same leaders again, and whoever was waiting
    asks again by name.
    """

    def __init__(
        self, table: CacheTable, disk: CacheStore | None, shared: SharedTier | None = None, lease: float = 5.0
    ) -> None:
        self._table = table
        self._disk_spec = disk
        self._shared = shared
        self._lease = lease
        self._across: Across[Inquiry] | None = None
        self._disk: OpenCacheStore | None = None
        self._entries: EntryStore | None = None
        """The disk tier, where it keeps the circumstances of answers, too."""
        self._worker: WorkerThread | None = None
        self._reader: WorkerThread | None = None
        self._leaders: dict[int, str] = {}
        self._asking: dict[str, Inquiry] = {}
        """Who waits for the disk, and behind it for the shared tier, to say whether they have a key."""

    async def init(self) -> None:
        """Open the disk tier, and watch the leaders that a predecessor left."""
        if self._disk_spec is not None:
            self._worker = self.own(WorkerThread("dspex-cache"), self._close_disk)
            self._disk = disk = await self._worker.run(self._disk_spec.open)
            self._entries = disk if isinstance(disk, EntryStore) else None
            # Resources are closed in reverse: nobody reads any more when the file is closed.
            self._reader = self.own(WorkerThread("dspex-cache-reader"), WorkerThread.aclose)
        if self._shared is not None:
            self._across = Across(
                self._shared,
                self.runtime,
                owner=self._table.owner,
                lease=self._lease,
                wanted=self._is_wanted,
                leases=self._leases,
                say=lambda look, found: self._dspex_process.mailbox.put_always(_SharedSaid(look, found)),
            )
            # Values that wait to be stored, and leases of flights that are over, outlive us by the time they need.
            self.own(self._across, Across.flush)
            self.spawn_task(self._across.run, label="shared tier")
        for removal in self._table.refused:
            self._remove(removal)
        for key, flight in list(self._table.flights.items()):
            flight.waiters.clear()
            if flight.leader.alive:
                self._watch(key, flight)
            else:
                del self._table.flights[key]
                self._give_back(key, flight)

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Answer a ``Lookup`` from memory, join it to a flight, ask the disk, or let it lead."""
        if not issubclass(type(message), Lookup):
            return self.refuse(message, sender)
        found = self._table.memory.get_nowait(message.key) if message.read else None
        if isinstance(found, LMResponse):
            return Reply(Hit(found, "memory"))
        flight = self._table.flights.get(message.key)
        if flight is not None:
            flight.waiters.append((message, sender))
            return NoReply()
        if (self._disk is None and self._across is None) or not message.read:
            return Reply(self._lead(message))
        asking = self._asking.get(message.key)
        if asking is not None:
            asking.waiters.append((message, sender))
            return NoReply()
        look = self._asking[message.key] = Inquiry(message.key, deque([(message, sender)]))
        if self._disk is not None:
            self._ask_disk(look)
        elif self._across is not None:
            self._across.want(look)
        return NoReply()

    async def handle_cast(self, message: Any) -> Next:
        """End a flight."""
        if issubclass(type(message), Fill):
            self._fill(message)
        elif issubclass(type(message), Abandon):
            self._abandon(message)
        elif issubclass(type(message), Remove):
            self._remove(message.removal)
        else:
            return await super().handle_cast(message)
        return None

    async def handle_info(self, message: Any) -> Next:
        """Hand on the lead of a leader that died, and take what the other tiers said."""
        if issubclass(type(message), Down):
            key = self._leaders.pop(message.monitor, None)
            flight = self._table.flights.get(key) if key is not None else None
            if key is not None and flight is not None and flight.monitor == message.monitor:
                self._hand_on(key, flight)
        elif issubclass(type(message), _DiskSaid):
            self._disk_said(message)
        elif issubclass(type(message), _SharedSaid):
            self._shared_said(message)
        elif issubclass(type(message), _Removed):
            self._table.refused.one_less(message.removal)
        else:
            return await super().handle_info(message)
        return None

    def describe(self) -> str:
        """Tell hits by tier, misses, and what memory holds."""
        hits = ", ".join(f"{count} {tier}" for tier, count in self._table.hits.items() if count)
        return f"hits: {hits or 'none'}; misses: {self._table.misses}; {len(self._table.memory)} kept"

    # --- flights --------------------------------------------------------------------------------------------

    def _lead(self, lookup: Lookup, fence: int = NO_LEASE) -> Lead:
        table = self._table
        table.tokens += 1
        if fence == NO_LEASE and not lookup.read:
            fence = NEWEST  # a refresh is to take the place of what is there
        flight = Flight(lookup.holder, table.tokens, fence)
        table.flights[lookup.key] = flight
        self._watch(lookup.key, flight)
        return Lead(lookup.key, flight.token, flight.fence)

    def _watch(self, key: str, flight: Flight) -> None:
        flight.monitor = flight.leader.monitor()
        self._leaders[flight.monitor] = key

    def _land(self, lead: Lead) -> Flight | None:
        """Remove and return the flight of ``lead``; None when the lead has been taken away meanwhile."""
        flight = self._table.flights.get(lead.key)
        if flight is None or flight.token != lead.token:
            return None
        del self._table.flights[lead.key]
        self._leaders.pop(flight.monitor, None)
        self._dspex_process.demonitor(flight.monitor)
        return flight

    def _fill(self, message: Fill) -> None:
        # Kept before the flight lands: who asks in between finds the one or the other, and never leads again.
        self._keep(message.lead.key, message.response)
        if self._across is not None:
            # Also that of a leader whose lead has been taken away: its fence says what it may replace.
            entry = CacheEntry(message.response, wall_time(), self._table.until())
            self._across.put(message.lead.key, entry, message.lead.fence)
        flight = self._land(message.lead)
        if flight is not None:
            for _, sender in flight.waiters:
                sender.reply(Hit(message.response, "coalesced"))

    def _abandon(self, message: Abandon) -> None:
        flight = self._table.flights.get(message.lead.key)
        if flight is None or flight.token != message.lead.token:
            return
        if message.error is None:
            self._leaders.pop(flight.monitor, None)
            self._dspex_process.demonitor(flight.monitor)
            self._hand_on(message.lead.key, flight)
            return
        self._land(message.lead)
        self._give_back(message.lead.key, flight)
        for _, sender in flight.waiters:
            sender.fail(message.error)

    def _hand_on(self, key: str, flight: Flight) -> None:
        """Make the first waiter that still lives the leader; without one the flight is over."""
        del self._table.flights[key]  # `_lead` makes a new one, under a new token: the old leader's fill is then late
        waiters = flight.waiters
        while waiters:
            lookup, sender = waiters.popleft()
            if not sender.waiting or not lookup.holder.alive:
                continue
            lead = self._lead(lookup, flight.fence)
            self._table.flights[key].waiters = waiters  # before the reply: the new leader may land in its own tick
            if sender.reply(lead):
                return
            self._land(lead)
        self._give_back(key, flight)

    def _give_back(self, key: str, flight: Flight) -> None:
        """Let other processes make the answer of a flight that brought none."""
        if self._across is not None:
            self._across.release(key, flight.fence)

    def _is_wanted(self, look: Inquiry) -> bool:
        """True while somebody waits for what the shared tier says to a look."""
        is_current = self._asking.get(look.key) is look
        return is_current and any(sender.waiting and lookup.holder.alive for lookup, sender in look.waiters)

    def _leases(self) -> list[tuple[str, int]]:
        """Return the keys and fences of the leases under which flights are under way."""
        return [(key, flight.fence) for key, flight in self._table.flights.items() if flight.fence > 0]

    # --- tiers ----------------------------------------------------------------------------------------------

    def _keep(self, key: str, response: LMResponse) -> None:
        if self._table.refused.holds(key, response):
            return  # its removal is behind this message
        self._table.refused.forget(key)
        look = self._asking.get(key)
        if look is not None:  # what it is about to find is older than this, as with a refresh that it began before
            self._answer(look, Hit(response, "coalesced"))
        before = self._table.memory.evicted
        self._table.memory.set_nowait(key, response, self._table.until())
        evicted = self._table.memory.evicted - before
        if evicted and self.runtime.telemetry.active:
            self.runtime.telemetry.emit("dspex.cache.evict", {"count": evicted}, {"tier": "memory"})
        if self._disk is not None and self._worker is not None:
            self._write_disk(self._worker, self._disk, key, response, self._table.until())

    def _ask_disk(self, look: Inquiry) -> None:
        """Have the reader's thread look; it says what it found in the loop, whatever happens to it."""
        assert self._reader is not None
        disk, entries = self._disk, self._entries
        assert disk is not None
        loop, context, put = self.runtime.loop, self.runtime.context, self._dspex_process.mailbox.put_always
        key, until = look.key, self._table.until()

        def find() -> None:
            found: CacheEntry | Unreadable | None = None
            try:
                if entries is not None:
                    found = entries.find(key)
                elif (value := disk.get(key)) is not None:
                    found = CacheEntry(value, wall_time(), until)
            except CacheError as error:
                say(_DiskSaid(look, None, str(error)))
            else:
                say(_DiskSaid(look, found))

        def say(said: _DiskSaid) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(put, said, context=context)

        self._reader.submit(find, failed=lambda error: say(_DiskSaid(look, None, repr(error))))

    def _note_used(self) -> None:
        entries = self._entries
        if entries is not None and self._worker is not None and entries.has_much_to_note:
            self._worker.submit(entries.note_used, failed=_cannot_note)

    def _write_disk(
        self, worker: WorkerThread, disk: OpenCacheStore, key: str, response: LMResponse, until: float | None
    ) -> None:
        """Queue the write in this tick: whatever happens to us, closing the worker runs behind it."""
        loop, telemetry, context = self.runtime.loop, self.runtime.telemetry, self.runtime.context
        made, entries = wall_time(), self._entries

        def write() -> None:
            if entries is not None:
                evicted = entries.keep(key, CacheEntry(response, made, until))
            else:
                evicted = disk.set(key, response)
            if evicted and telemetry.active and not loop.is_closed():
                event = ("dspex.cache.evict", {"count": float(evicted)}, {"tier": "disk"})
                loop.call_soon_threadsafe(telemetry.emit, *event, context=context)

        worker.submit(write, failed=_cannot_write)

    def _remove(self, removal: Removal) -> None:
        """Queue the removal behind the write of the answer, which came before it."""
        key, response = removal.key, removal.response
        self._table.memory.remove_nowait(key, response)
        loop, context, put = self.runtime.loop, self.runtime.context, self._dspex_process.mailbox.put_always
        removed = _Removed(removal)
        disk, reader, worker = self._disk, self._reader, self._worker
        removal.left = (self._across is not None) + (disk is not None)
        if not removal.left:
            self._table.refused.one_less(removal)
        if self._across is not None:
            self._across.remove(key, response, lambda: put(removed))
        if disk is None or reader is None or worker is None:
            return

        def say() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(put, removed, context=context)

        def remove() -> None:
            disk.remove(key, response)
            # Said by the reader's thread: a look that found the answer before it was gone is heard before this is.
            with suppress(RuntimeError):  # it has been closed before us: nobody looks any more
                reader.submit(say, failed=_cannot_remove)

        # Where it fails the answer stays refused, until another one takes its place.
        worker.submit(remove, failed=_cannot_remove)

    def _disk_said(self, said: _DiskSaid) -> None:
        self._tell_trouble(said)
        self._note_used()
        look, found = said.look, said.found
        if self._asking.get(look.key) is not look:
            return  # a leader's answer came first
        if isinstance(found, CacheEntry) and not self._table.refused.holds(look.key, found.value):
            self._found(look, found, "disk")
        elif self._across is not None and look.key not in self._table.flights:
            self._across.want(look)
        else:
            self._let_lead(look, NO_LEASE)

    def _tell_trouble(self, said: _DiskSaid) -> None:
        active, telemetry = self.runtime.telemetry.active, self.runtime.telemetry
        if said.trouble:
            says = "the cache could not read its disk tier and goes on without: {error}"
            _log.warning("disk tier failed, going on without", says=says, error=said.trouble)
            if active:
                telemetry.emit("dspex.cache.bypass", {}, {"reason": said.trouble, "tier": "disk"})
        elif active and isinstance(said.found, str) and said.found != "expired":
            telemetry.emit("dspex.cache.unreadable", {}, {"reason": said.found, "tier": "disk"})

    def _shared_said(self, said: _SharedSaid) -> None:
        look, found = said.look, said.found
        if self._asking.get(look.key) is not look:  # a leader's answer came first
            if isinstance(found, Granted) and self._across is not None:
                self._across.release(look.key, found.fence)
        elif isinstance(found, Held):
            if self._across is not None and self._is_wanted(look):
                self._across.want(look)
            else:
                del self._asking[look.key]
        elif isinstance(found, Granted):
            self._let_lead(look, found.fence)
        elif found is None:
            self._let_lead(look, NO_LEASE)
        elif self._table.refused.holds(look.key, found.value):
            assert self._across is not None
            self._across.want(look, read=False)  # its removal is under way
        else:
            self._found(look, found, "shared")

    def _found(self, look: Inquiry, entry: CacheEntry, tier: Literal["disk", "shared"]) -> None:
        """Keep what a tier has, in the tiers above it, and answer with it."""
        key = look.key
        newer = self._table.memory.get_nowait(key)
        if newer is not None:  # put there by a leader whose message is behind this one
            self._answer(look, Hit(newer, "memory"))
            return
        self._table.memory.set_nowait(key, entry.value, entry.until)
        if tier == "shared" and self._worker is not None and self._disk is not None:
            self._write_disk(self._worker, self._disk, key, entry.value, entry.until)
        self._answer(look, Hit(entry.value, tier))

    def _answer(self, look: Inquiry, hit: Hit) -> None:
        del self._asking[look.key]
        for _, sender in look.waiters:
            sender.reply(hit)

    def _let_lead(self, look: Inquiry, fence: int) -> None:
        """Have the first who waits for the tiers lead, and the others wait for it."""
        key, asking = look.key, look.waiters
        del self._asking[key]
        flight = self._table.flights.get(key)  # a refresh may have begun meanwhile
        if flight is not None:
            flight.waiters.extend(asking)
            if self._across is not None:
                self._across.release(key, fence)
            return
        while asking:
            lookup, sender = asking.popleft()
            if sender.waiting and lookup.holder.alive:
                lead = self._lead(lookup, fence)
                self._table.flights[key].waiters.extend(asking)
                sender.reply(lead)
                return
        if self._across is not None:
            self._across.release(key, fence)

    async def _close_disk(self, worker: WorkerThread) -> None:
        await worker.aclose(self._disk.close if self._disk is not None else None)


@dataclass(frozen=True, slots=True)
class _DiskSaid:
    """The disk tier's answer; ``trouble`` where it has none."""

    look: Inquiry
    found: CacheEntry | Unreadable | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _SharedSaid:
    """The shared tier's answer: a value, a lease, or None: it is down."""

    look: Inquiry
    found: CacheEntry | Granted | Held | None


@dataclass(frozen=True, slots=True)
class _Removed:
    """A tier has taken an unwanted answer out, and all that it had found before has been said."""

    removal: Removal


def _cannot_note(error: BaseException) -> None:
    says = "the cache could not note in its disk tier what was read: {error}"
    _log.debug("disk tier busy", says=says, error=str(error))


def _cannot_write(error: BaseException) -> None:
    says = "the cache could not write its disk tier and keeps the answer in memory only: {error}"
    _log.warning("disk tier failed, the answer is kept in memory only", says=says, error=str(error))


def _cannot_remove(error: BaseException) -> None:
    says = "the cache could not take an unreadable answer out of its disk tier; it is not served all the same: {error}"
    _log.warning("disk tier failed, an unreadable answer stays in it", says=says, error=str(error))
