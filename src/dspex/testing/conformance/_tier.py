"""The contract of a tier that processes share: one leader for each key, and no late value in place of a newer one."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from dspex._clock import wall_time
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.services.cache.envelope import CacheEntry, decode_entry, encode_entry
from dspex.services.cache.shared_tier import NEWEST, NO_LEASE, Claim, Granted, Held, Put, Stored

if TYPE_CHECKING:
    from dspex.services.cache.shared_tier import SharedTier

__all__ = ["SharedTierContract"]

_LONG = 30.0
_SHORT = 0.05
_PATIENCE = 20.0


class SharedTierContract(ABC):
    """The contract of every ``SharedTier``; the subclass opens one in which nobody has used a key yet."""

    @abstractmethod
    def open_tier(self) -> AbstractAsyncContextManager[SharedTier]:
        """Open the tier; what is opened a second time within a test has the same keys."""

    def test_one_leads_and_the_others_find_its_value(self) -> None:
        """They are told how long the leader has it; when it has stored the value, they are given that."""
        asyncio.run(self._one_leads_and_the_others_find_its_value())

    async def _one_leads_and_the_others_find_its_value(self) -> None:
        async with self.open_tier() as tier, self.open_tier() as other:
            fence = await _lead(tier, "a")
            held = await _one(other, "b")
            assert isinstance(held, Held), "two lead the same key"
            assert 0 < held.seconds <= _LONG, "it is not told how long the lease lasts"
            await tier.put([Put("k", _envelope("one"), fence)], "a")
            assert _text_of(await _one(other, "b")) == "one", "the value is not found"
            assert (await other.get(["k", "other"]))[1] is None, "a key that nobody has stored has a value"

    def test_a_lease_is_not_of_the_same_owner_twice(self) -> None:
        """An owner that asks again waits, too: its own flight has the key."""
        asyncio.run(self._a_lease_is_not_of_the_same_owner_twice())

    async def _a_lease_is_not_of_the_same_owner_twice(self) -> None:
        async with self.open_tier() as tier:
            await _lead(tier, "a")
            assert isinstance(await _one(tier, "a"), Held), "one owner leads twice"

    def test_a_dead_leaders_late_value_replaces_nothing(self) -> None:
        """Its lease passes on when it ends, with a larger fence."""
        asyncio.run(self._a_dead_leaders_late_value_replaces_nothing())

    async def _a_dead_leaders_late_value_replaces_nothing(self) -> None:
        async with self.open_tier() as tier:
            late = await _lead(tier, "dead", seconds=_SHORT)
            fence = await _lead_when_it_ends(tier, "b")
            assert fence > late, "a fence does not grow"
            await tier.put([Put("k", _envelope("new"), fence)], "b")
            await tier.put([Put("k", _envelope("late"), late)], "dead")
            assert _text_of(await _one(tier, "c")) == "new", "a late value took the place of a newer one"

    def test_a_late_value_does_not_end_the_lease_of_another(self) -> None:
        """Nobody has stored anything yet: the late answer is one, too, but whoever leads now still leads."""
        asyncio.run(self._a_late_value_does_not_end_the_lease_of_another())

    async def _a_late_value_does_not_end_the_lease_of_another(self) -> None:
        async with self.open_tier() as tier:
            late = await _lead(tier, "dead", seconds=_SHORT)
            fence = await _lead_when_it_ends(tier, "b")
            await tier.put([Put("k", _envelope("late"), late)], "dead")
            assert _text_of(await _one(tier, "c")) == "late", "an answer that fills a gap was dropped"
            assert isinstance(await _one(tier, "c", read=False), Held), "the lease of another was ended"
            await tier.put([Put("k", _envelope("new"), fence)], "b")
            assert _text_of(await _one(tier, "c")) == "new"

    def test_a_renewed_lease_outlasts_its_first_end(self) -> None:
        """One that the store has lost is there again; an older one of the same owner renews nothing."""
        asyncio.run(self._a_renewed_lease_outlasts_its_first_end())

    async def _a_renewed_lease_outlasts_its_first_end(self) -> None:
        async with self.open_tier() as tier:
            fence = await _lead(tier, "a", seconds=_SHORT)
            await tier.renew([("k", fence), ("forgotten", 7)], "a", _LONG)
            other = await _lead(tier, "a", "clock", seconds=2 * _SHORT)
            assert await _lead_when_it_ends(tier, "b", "clock") > other  # so long has passed
            assert isinstance(await _one(tier, "b"), Held), "it was not renewed"
            assert isinstance(await _one(tier, "b", "forgotten"), Held), "a lost lease was not made again"
            await tier.renew([("k", fence - 1)], "a", _LONG)
            await tier.release([("k", fence)], "a")
            assert isinstance(await _one(tier, "b"), Granted), "an older lease was renewed"

    def test_only_the_holder_gives_a_lease_back(self) -> None:
        """With its own fence."""
        asyncio.run(self._only_the_holder_gives_a_lease_back())

    async def _only_the_holder_gives_a_lease_back(self) -> None:
        async with self.open_tier() as tier:
            fence = await _lead(tier, "a")
            await tier.release([("k", fence)], "b")
            await tier.release([("k", fence + 1)], "a")
            assert isinstance(await _one(tier, "b"), Held), "somebody else gave the lease back"
            await tier.release([("k", fence)], "a")
            assert isinstance(await _one(tier, "b"), Granted), "the lease is still held"

    def test_a_refresh_replaces_and_a_value_without_a_lease_does_not(self) -> None:
        """Unless what is there has no lease either."""
        asyncio.run(self._a_refresh_replaces_and_a_value_without_a_lease_does_not())

    async def _a_refresh_replaces_and_a_value_without_a_lease_does_not(self) -> None:
        async with self.open_tier() as tier:
            for text, fence, wanted in (
                ("first", NO_LEASE, "first"),
                ("again", NO_LEASE, "again"),
                ("refreshed", NEWEST, "refreshed"),
                ("without", NO_LEASE, "refreshed"),
                ("twice", NEWEST, "twice"),
            ):
                await tier.put([Put("k", _envelope(text), fence)], "a")
                assert _text_of(await _one(tier, "b")) == wanted, f"after {text!r}"

    def test_many_keys_in_one_operation_keep_their_places(self) -> None:
        """Values and leases, in the order that was asked for."""
        asyncio.run(self._many_keys_in_one_operation_keep_their_places())

    async def _many_keys_in_one_operation_keep_their_places(self) -> None:
        async with self.open_tier() as tier:
            await tier.put([Put(f"k{number}", _envelope(str(number))) for number in (3, 1, 2)], "a")
            claims = [Claim("k2"), Claim("new"), Claim("k1"), Claim("k3", read=False)]
            found = await tier.claim(claims, "a", _LONG)
            assert [type(each) for each in found] == [Stored, Granted, Stored, Granted]
            assert [_text_of(found[0]), _text_of(found[2])] == ["2", "1"], "places are mixed up"

    def test_many_claimers_never_share_a_key(self) -> None:
        """Twelve at once, in either order, through two openings: each key has one leader."""
        asyncio.run(self._many_claimers_never_share_a_key())

    async def _many_claimers_never_share_a_key(self) -> None:
        keys = [f"k{number}" for number in range(20)]
        async with self.open_tier() as tier, self.open_tier() as other:
            claims = [[Claim(key) for key in (keys if number % 2 else reversed(keys))] for number in range(12)]
            found = await asyncio.gather(
                *((tier, other)[number // 6].claim(each, f"o{number}", _LONG) for number, each in enumerate(claims))
            )
            leaders = [
                claim.key
                for asked, said in zip(claims, found, strict=True)
                for claim, each in zip(asked, said, strict=True)
                if isinstance(each, Granted)
            ]
            assert sorted(leaders) == sorted(keys), "a key has two leaders, or none"

    def test_a_value_ends_with_its_time_to_live(self) -> None:
        """And no other with it; sweeping is allowed at any time."""
        asyncio.run(self._a_value_ends_with_its_time_to_live())

    async def _a_value_ends_with_its_time_to_live(self) -> None:
        async with self.open_tier() as tier:
            long = Put("long", _envelope("long"), NO_LEASE, ttl=60.0)
            await tier.put([Put("k", _envelope("short"), NO_LEASE, ttl=_SHORT), long], "a")
            async with asyncio.timeout(_PATIENCE):
                while isinstance(await _one(tier, "a"), Stored):
                    pass
            await tier.sweep()
            assert _text_of(await _one(tier, "a", "long")) == "long", "another one ended, too"
            assert await tier.get(["k"]) == [None], "it is still there"

    def test_only_the_very_value_is_removed(self) -> None:
        """Somebody may have stored a better one meanwhile."""
        asyncio.run(self._only_the_very_value_is_removed())

    async def _only_the_very_value_is_removed(self) -> None:
        async with self.open_tier() as tier:
            await tier.put([Put("k", _envelope("one"))], "a")
            (stored,) = await tier.get(["k"])
            assert stored is not None
            await tier.remove("k", _envelope("another"))
            assert await tier.get(["k"]) == [stored], "another value than the stored one removed it"
            await tier.remove("k", stored)
            assert await tier.get(["k"]) == [None], "it is still there"

    def test_an_answer_comes_back_as_it_was(self) -> None:
        """Letter by letter, with its age and its end."""
        asyncio.run(self._an_answer_comes_back_as_it_was())

    async def _an_answer_comes_back_as_it_was(self) -> None:
        value = LMResponse((Completion("Grüße 😀 \x00 \ud800"),), Usage(3, 1), "m")
        entry = CacheEntry(value, 12.5, wall_time() + 1_000.0)
        async with self.open_tier() as tier:
            await tier.put([Put("k", encode_entry(entry), ttl=1_000.0, model="m")], "a")
            stored = await _one(tier, "b")
            assert isinstance(stored, Stored)
            assert decode_entry(stored.envelope, 50.0) == entry, "it came back as another"


def _envelope(text: str) -> str:
    return encode_entry(CacheEntry(LMResponse((Completion(text),), Usage(1, 2), "rules-1"), 1.0))


def _text_of(stored: object) -> str:
    assert isinstance(stored, Stored), f"{stored} instead of a value"
    entry = decode_entry(stored.envelope, 0.0)
    assert isinstance(entry, CacheEntry), f"a value that is {entry}"
    return entry.value.completions[0].text


async def _one(tier: SharedTier, owner: str, key: str = "k", seconds: float = _LONG, *, read: bool = True) -> object:
    (found,) = await tier.claim([Claim(key, read)], owner, seconds)
    return found


async def _lead(tier: SharedTier, owner: str, key: str = "k", seconds: float = _LONG) -> int:
    found = await _one(tier, owner, key, seconds)
    assert isinstance(found, Granted), f"{found} instead of a lease"
    return found.fence


async def _lead_when_it_ends(tier: SharedTier, owner: str, key: str = "k") -> int:
    async with asyncio.timeout(_PATIENCE):
        while not isinstance(found := await _one(tier, owner, key), Granted):
            assert isinstance(found, Held), f"{found} instead of a lease that is held"
        return found.fence
