"""The wishes of a cache to the tier that processes share: claims, renewals and values, many in one operation."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

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


@dataclass(slots=True)
class _Wanted:
    """A key that somebody waits for, and when it is to be asked for."""

    at: float
    read: bool = True
    since: float | None = None
    """When another process was first seen to make it."""


class Across:
    """
    Speaks with the shared tier for one cache actor; ``run`` is a task of the actor's.

    Args:
        tier: The store.
        runtime: The clock, the events and the jitter.
        owner: The name under which this process holds leases.
        lease: Seconds that one lasts; it is renewed three times as often.
        wanted: True while somebody waits for a key.
        leases: The keys and fences that this process leads.
        say: Told of each key what came of it: its entry, a lease, or None: the store is down, go on without. ``Held``
            says that nobody seems to wait any more.
    """

    def __init__(
        self,
        tier: SharedTier,
        runtime: Runtime,
        *,
        owner: str,
        lease: float,
        wanted: Callable[[str], bool],
        leases: Callable[[], Sequence[tuple[str, int]]],
        say: Callable[[str, CacheEntry | Granted | Held | None], None],
    ) -> None:
        self._tier = tier
        self._runtime = runtime
        self._owner = owner
        self._lease = lease
        self._is_wanted = wanted
        self._leases = leases
        self._say = say
        self._wanted: dict[str, _Wanted] = {}
        self._puts: deque[Put] = deque()
        self._releases: deque[tuple[str, int]] = deque()
        self._removals: deque[tuple[str, LMResponse, Callable[[], None]]] = deque()
        self._work = asyncio.Event()
        self._renew_at = runtime.clock.now() + lease / 3
        self._sweep_at = runtime.clock.now() + _SWEEP_EVERY * (0.5 + runtime.random.random())

    # --- wishes, each in the actor's own tick ---------------------------------------------------------------

    def want(self, key: str, *, read: bool = True) -> None:
        """Ask for a key until it is there, or may be made here."""
        self._wanted[key] = _Wanted(self._runtime.clock.now(), read)
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
        """Remove a value, if it still is this one; ``done`` is called behind what was found before, also on failure."""
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
                while self._removals:
                    self._removals.popleft()[2]()
                wanted, self._wanted = self._wanted, {}
                for key in wanted:
                    self._say(key, None)
            await self._rest()

    async def _do_what_is_due(self) -> None:
        await self.flush()
        now = self._runtime.clock.now()
        due = [key for key, each in self._wanted.items() if each.at <= now]
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
            self._removals.popleft()
            done()

    async def _claim(self, keys: Sequence[str]) -> None:
        claims = [Claim(key, self._wanted[key].read) for key in keys if key in self._wanted]
        if not claims:
            return
        try:
            found = await self._tier.claim(claims, self._owner, self._lease)
        except SharedError as error:
            self._tell_bypass(str(error))
            for claim in claims:
                self._wanted.pop(claim.key, None)
                self._say(claim.key, None)
            return
        for claim, each in zip(claims, found, strict=True):
            self._claimed(claim.key, each)

    def _claimed(self, key: str, found: Stored | Granted | Held) -> None:
        if isinstance(found, Held):
            wanted = self._wanted[key]
            if not self._is_wanted(key):
                del self._wanted[key]
                self._say(key, found)  # somebody may come to want it before this is heard
                return
            now = self._runtime.clock.now()
            wanted.since = now if wanted.since is None else wanted.since
            pause = min(max(_FIRST_LOOK, (now - wanted.since) * _LOOK_AFTER), _LONGEST_LOOK)
            jitter = 0.5 + self._runtime.random.random()
            wanted.read = True
            wanted.at = now + min(pause * jitter, found.seconds + _FIRST_LOOK)
            return
        if isinstance(found, Stored):
            entry = decode_entry(found.envelope, wall_time())
            if not isinstance(entry, CacheEntry):
                self._tell_unreadable(entry)
                self._wanted[key] = _Wanted(self._runtime.clock.now(), read=False)
                self._work.set()
                return
            del self._wanted[key]
            self._say(key, entry)
            return
        del self._wanted[key]
        self._say(key, found)

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
