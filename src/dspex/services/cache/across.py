"""The wishes of a cache to the tier that processes share: claims, renewals and values, many in one operation."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from dspex._clock import wall_time
from dspex.errors import SharedError
from dspex.protocols.lm import LMResponse
from dspex.protocols.printable import printable
from dspex.runtime import Runtime, get_logger
from dspex.services.cache.envelope import CacheEntry, decode_entry, encode_entry, model_of
from dspex.services.cache.shared_tier import MAX_BYTES, Claim, Granted, Held, Put, SharedTier, Stored

__all__ = ["Across"]

_log = get_logger("cache")

_CLAIMS_AT_ONCE: Final = 32
_PUTS_AT_ONCE: Final = 16
_BYTES_AT_ONCE: Final = 4 * 2**20
_MOST_WAITING: Final = 10_000
"""Values that wait to be stored; a store that is slower than that gets no more."""

_FIRST_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 0.1
"""Seconds between two looks at a key whose value another process makes."""
_LOOK_AFTER: Final = 0.1
"""The share of the time waited so far, after which to look again: an answer is found so much later, at the most."""

_SWEEP_EVERY: Final = 60.0


class Looks(Protocol):
    """Somebody's wish for a key; each wish is another one."""

    @property
    def key(self) -> str:
        """The key."""
        ...


L = TypeVar("L", bound=Looks)


@dataclass(slots=True, eq=False)
class _Wanted(Generic[L]):
    """A key that somebody waits for, and when it is to be asked for."""

    look: L
    at: float
    read: bool = True
    since: float | None = None
    """When another process was first seen to make it."""


class Across(Generic[L]):
    """
    Speaks with the shared tier for one cache actor; ``run`` is a task of the actor's.

    Args:
        tier: The store.
        runtime: The clock, the events and the jitter.
        owner: The name under which this process holds leases.
        lease: Seconds that one lasts; it is renewed three times as often.
        wanted: True while somebody waits for what is found for a look.
        leases: The keys and fences that this process leads.
        say: Told of each look what came of it: an entry, a lease, or None: the store is down, go on without. ``Held``
            says that nobody seems to wait any more.
    """

    def __init__(
        self,
        tier: SharedTier,
        runtime: Runtime,
        *,
        owner: str,
        lease: float,
        wanted: Callable[[L], bool],
        leases: Callable[[], Sequence[tuple[str, int]]],
        say: Callable[[L, CacheEntry | Granted | Held | None], None],
    ) -> None:
        self._tier = tier
        self._runtime = runtime
        self._owner = owner
        self._lease = lease
        self._is_wanted = wanted
        self._leases = leases
        self._say = say
        self._wanted: dict[str, _Wanted[L]] = {}
        self._puts: deque[Put] = deque()
        self._releases: deque[tuple[str, int]] = deque()
        self._removals: deque[tuple[str, LMResponse, Callable[[], None]]] = deque()
        self._work = asyncio.Event()
        self._renew_at = runtime.clock.now() + lease / 3
        self._sweep_at = runtime.clock.now() + _SWEEP_EVERY * (0.5 + runtime.random.random())

    # --- wishes, each in the actor's own tick ---------------------------------------------------------------

    def want(self, look: L, *, read: bool = True) -> None:
        """Ask for a key until it is there, or may be made here; an earlier look for the key is not answered."""
        self._wanted[look.key] = _Wanted(look, self._runtime.clock.now(), read)
        self._work.set()

    def put(self, key: str, entry: CacheEntry, fence: int) -> None:
        """Store a value, and give back its lease."""
        try:
            envelope = encode_entry(entry)
        except TypeError:  # what a provider's wire keeps for the next turn is not JSON
            envelope = ""
        if not envelope or len(envelope) > MAX_BYTES or len(self._puts) >= _MOST_WAITING:
            self._tell_bypass("the value is too large, is not JSON, or too many wait to be stored")
            self.release(key, fence)
            return
        model = printable(model_of(entry.value).encode(errors="replace").decode())[:200]
        self._puts.append(Put(key, envelope, fence, entry.left(wall_time()), model))
        self._work.set()

    def release(self, key: str, fence: int) -> None:
        """Give back a lease that nothing came of."""
        if fence > 0:
            self._releases.append((key, fence))
            self._work.set()

    def remove(self, key: str, value: LMResponse, done: Callable[[], None]) -> None:
        """Remove a value, if it still is this one; ``done`` is called when it is gone, behind what was found before."""
        self._removals.append((key, value, done))
        self._work.set()

    # --- the task -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is wanted, when it is due, until cancelled."""
        while True:
            self._work.clear()
            try:
                await self._do_what_is_due()
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody is to wait for ever
                _log.error("shared tier failed", says="the shared tier of the cache failed: {error}", exc_info=error)
                self._tell_bypass(f"{type(error).__name__}")
                self._puts.clear()
                self._releases.clear()
                self._removals.clear()
                wanted, self._wanted = self._wanted, {}
                for each in wanted.values():
                    self._say(each.look, None)
            await self._rest()

    async def _do_what_is_due(self) -> None:
        await self.flush()
        now = self._runtime.clock.now()
        due = [each for each in self._wanted.values() if each.at <= now]
        for first in range(0, len(due), _CLAIMS_AT_ONCE):
            await self._claim(due[first : first + _CLAIMS_AT_ONCE])
        if now >= self._renew_at:
            await self._renew()
        if now >= self._sweep_at:
            await self._sweep()

    async def flush(self) -> None:
        """Store, release and remove what waits for it. A value that cannot be stored is dropped: it is a copy."""
        while self._puts:
            size, count = 0, 0
            for each in islice(self._puts, _PUTS_AT_ONCE):
                size, count = size + len(each.envelope), count + 1
                if size > _BYTES_AT_ONCE:
                    break
            # Taken out only when they are stored: should we die meanwhile, they are stored once more.
            try:
                await self._tier.put(list(islice(self._puts, count)), self._owner)
            except SharedError as error:
                self._tell_bypass(str(error))
            for _ in range(count):
                self._puts.popleft()
        while self._releases:
            count = min(len(self._releases), 100)
            try:
                await self._tier.release(list(islice(self._releases, count)), self._owner)
            except SharedError as error:
                self._tell_bypass(str(error))
            for _ in range(count):
                self._releases.popleft()
        while self._removals:
            key, value, done = self._removals[0]
            try:
                await self._remove(key, value)
            except SharedError as error:
                self._tell_bypass(str(error))
            else:
                done()
            self._removals.popleft()

    async def _claim(self, wishes: Sequence[_Wanted[L]]) -> None:
        wishes = [each for each in wishes if self._is_current(each)]
        if not wishes:
            return
        claims = [Claim(each.look.key, each.read) for each in wishes]
        try:
            found = await self._tier.claim(claims, self._owner, self._lease)
        except SharedError as error:
            self._tell_bypass(str(error))
            for each in wishes:
                if self._is_current(each):
                    del self._wanted[each.look.key]
                self._say(each.look, None)
            return
        for wish, each_found in zip(wishes, found, strict=True):
            self._claimed(wish, each_found)

    def _is_current(self, wish: _Wanted[L]) -> bool:
        return self._wanted.get(wish.look.key) is wish

    def _claimed(self, wish: _Wanted[L], found: Stored | Granted | Held) -> None:
        key = wish.look.key
        if not self._is_current(wish):  # a later look has begun while we asked: it is to find what there is now
            if isinstance(found, Granted):
                self.release(key, found.fence)
            return
        if isinstance(found, Held):
            if not self._is_wanted(wish.look):
                del self._wanted[key]
                self._say(wish.look, found)  # somebody may come to want it before this is heard
                return
            now = self._runtime.clock.now()
            wish.since = now if wish.since is None else wish.since
            pause = min(max(_FIRST_LOOK, (now - wish.since) * _LOOK_AFTER), _LONGEST_LOOK)
            jitter = 0.5 + self._runtime.random.random()
            wish.read = True
            wish.at = now + min(pause * jitter, found.seconds + _FIRST_LOOK)
            return
        if isinstance(found, Stored):
            entry = decode_entry(found.envelope, wall_time())
            if not isinstance(entry, CacheEntry):
                self._tell_unreadable(entry)
                self.want(wish.look, read=False)
                return
            del self._wanted[key]
            self._say(wish.look, entry)
            return
        del self._wanted[key]
        self._say(wish.look, found)

    async def _renew(self) -> None:
        self._renew_at = self._runtime.clock.now() + self._lease / 3
        leases = self._leases()
        for first in range(0, len(leases), 500):
            try:
                await self._tier.renew(leases[first : first + 500], self._owner, self._lease)
            except SharedError as error:
                self._tell_bypass(str(error))
                return

    async def _sweep(self) -> None:
        try:
            gone = await self._tier.sweep()
        except SharedError:
            gone = 0
        again = 1.0 if gone else _SWEEP_EVERY * (0.5 + self._runtime.random.random())
        self._sweep_at = self._runtime.clock.now() + again
        if gone and self._runtime.telemetry.active:
            self._runtime.telemetry.emit("dspex.cache.evict", {"count": float(gone)}, {"tier": "shared"})

    async def _remove(self, key: str, value: LMResponse) -> None:
        (envelope,) = await self._tier.get([key])
        entry = decode_entry(envelope, wall_time()) if envelope is not None else None
        if envelope is not None and isinstance(entry, CacheEntry) and entry.value == value:
            await self._tier.remove(key, envelope)

    async def _rest(self) -> None:
        """Wait for a wish, or for the next thing that is due."""
        until = min((each.at for each in self._wanted.values()), default=self._sweep_at)
        until = min(until, self._renew_at, self._sweep_at)
        left = until - self._runtime.clock.now()
        if left > 0 and not self._work.is_set():
            try:
                async with asyncio.timeout(left):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _tell_bypass(self, reason: str) -> None:
        if self._runtime.telemetry.active:
            self._runtime.telemetry.emit("dspex.cache.bypass", {}, {"reason": reason, "tier": "shared"})

    def _tell_unreadable(self, reason: str) -> None:
        says = (
            "the shared tier of the cache holds something else than an answer ({reason}); the question is asked again"
        )
        _log.warning("unreadable entry", says=says, reason=reason)
        if self._runtime.telemetry.active:
            self._runtime.telemetry.emit("dspex.cache.unreadable", {}, {"reason": reason, "tier": "shared"})
