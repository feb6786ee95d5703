"""The shared tier in Redis: aiocache reads the values, scripts claim, store and release."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from dspex.services.cache.shared_tier import MAX_BYTES, Claim, Granted, Held, Put, Stored
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.link import SchemaPart
from dspex.services.shared.redis_script import RedisScript, script

if TYPE_CHECKING:
    from aiocache.base import BaseCache
    from redis.asyncio import Redis

__all__ = ["RedisTier"]


# A value is an envelope: '{"fence":1234567890123456,…'. Its fence is read from its beginning, so that no script has to
# understand the rest; what does not begin so is of somebody else, and counts as older than everything.
_FENCE: Final = """
local function fence_of(key)
  return tonumber(string.match(redis.call('GETRANGE', key, 0, 40), '^{"fence":(%d+)')) or 0
end
local function now()
  local at = redis.call('TIME')
  return at[1] .. string.format('%06d', at[2])
end
"""

_CLAIM: Final = script(
    _FENCE
    + """
-- KEYS: value, lease. ARGV: owner, milliseconds, largest, read
if ARGV[4] == '1' then
  local size = redis.call('STRLEN', KEYS[1])
  if size > 0 and size <= tonumber(ARGV[3]) then
    return {'stored', redis.call('GET', KEYS[1])}
  end
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return {'held', left}
end
local fence = now()
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. fence, 'PX', ARGV[2])
return {'granted', fence}
"""
)

_PUT: Final = script(
    _FENCE
    + """
-- KEYS: value, lease. ARGV: owner, fence, rest of the envelope, milliseconds
local fence = ARGV[2]
if fence == '-1' then fence = now() end
if fence_of(KEYS[1]) <= tonumber(fence) then
  local envelope = '{"fence":' .. fence .. ARGV[3]
  if ARGV[4] == '0' then
    redis.call('SET', KEYS[1], envelope)
  else
    redis.call('SET', KEYS[1], envelope, 'PX', ARGV[4])
  end
end
if redis.call('GET', KEYS[2]) == ARGV[1] .. ' ' .. ARGV[2] then
  redis.call('DEL', KEYS[2])
end
return 1
"""
)

_RENEW: Final = script(
    """
-- KEYS: lease. ARGV: owner and fence, milliseconds
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
"""
)

_RELEASE: Final = script(
    """
-- KEYS: lease or value. ARGV: what must be there
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
)


class RedisTier:
    """Implements ``SharedTier``; its keys are ``<namespace>:a:<key>``, its leases ``<namespace>:l:<key>``."""

    parts: Sequence[SchemaPart] = ()

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway
        self._values = f"{gateway.shared.namespace}:a:"
        self._leases = f"{gateway.shared.namespace}:l:"

    async def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        """Return for each key its value, or a lease, or how long another has it."""
        until = _milliseconds(seconds)
        calls = [(self._both(each.key), [owner, until, MAX_BYTES, int(each.read)]) for each in claims]
        return [_claimed(each) for each in await self._each(_CLAIM, calls)]

    async def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        """Let leases last so many seconds from now."""
        until = _milliseconds(seconds)
        await self._each(_RENEW, [([self._leases + key], [f"{owner} {fence}", until]) for key, fence in leases])

    async def put(self, values: Sequence[Put], owner: str) -> None:
        """Store values, and give back the leases under which they were made."""
        calls = [
            (
                self._both(each.key),
                [owner, each.fence, f",{each.envelope[1:]}", _milliseconds(each.ttl) if each.ttl is not None else 0],
            )
            for each in values
        ]
        await self._each(_PUT, calls)

    async def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        """Give back leases that nothing came of."""
        await self._each(_RELEASE, [([self._leases + key], [f"{owner} {fence}"]) for key, fence in leases])

    async def get(self, keys: Sequence[str]) -> list[str | None]:
        """Return the envelopes of keys."""

        async def read(client: Redis) -> list[str | None]:
            backend = _backend()(client)
            return cast("list[str | None]", await backend.multi_get([self._values + key for key in keys]))

        return await self._gateway.run(read)

    async def remove(self, key: str, envelope: str) -> None:
        """Remove a value if it still is this very one."""
        await self._each(_RELEASE, [([self._values + key], [envelope])])

    async def sweep(self) -> int:
        """Do nothing: Redis removes what has expired."""
        return 0

    def _both(self, key: str) -> list[str]:
        return [self._values + key, self._leases + key]

    async def _each(self, of: RedisScript, calls: Sequence[tuple[list[str], list[object]]]) -> list[object]:
        """Run a script for each of the keys and arguments, in one round trip."""
        from redis.exceptions import NoScriptError

        commands = [("EVALSHA", of.sha, len(keys), *keys, *arguments) for keys, arguments in calls]

        async def work(client: Redis) -> list[object]:
            try:
                return await _all(client, commands)
            except NoScriptError:  # a server that was started since: it has carried out none of them
                await _all(client, [("SCRIPT", "LOAD", of.text)])
                return await _all(client, commands)

        return await self._gateway.run(work)


async def _all(client: Redis, commands: Sequence[tuple[object, ...]]) -> list[object]:
    """Send commands together, and return their answers; the first that is an error is raised."""
    if len(commands) == 1:
        return [await _send(client, *commands[0])]
    async with client.pipeline(transaction=False) as pipe:
        for command in commands:
            _send(pipe, *command)
        return await pipe.execute()


def _send(client: Redis, *command: object) -> Awaitable[object]:
    send = cast("Callable[..., Awaitable[object]]", client.execute_command)
    return send(*command)


@cache
def _backend() -> Callable[[Redis], BaseCache]:
    """Return what makes aiocache's own backend over a connection that we have opened."""
    from aiocache.backends.redis import RedisCache  # it loads the package redis, which few need
    from aiocache.serializers import BaseSerializer

    class Envelopes(BaseSerializer):  # type: ignore[misc]  # aiocache ships no types
        """Text as UTF-8 and nothing else: what is in it is our own codec's affair. Other bytes are absent."""

        DEFAULT_ENCODING = None

        def dumps(self, value: str) -> bytes:
            """Return the bytes of an envelope."""
            return value.encode()

        def loads(self, value: bytes | None) -> str | None:
            """Return the text, or None."""
            return value.decode(errors="replace") if value is not None and len(value) <= MAX_BYTES else None

    class Backend(RedisCache):  # type: ignore[misc]  # aiocache ships no types
        def __init__(self, client: Redis) -> None:
            super().__init__(serializer=Envelopes(), timeout=None)
            self.client = client

    return Backend


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _claimed(said: object) -> Stored | Granted | Held:
    what, value = cast("tuple[bytes, bytes | int]", said)
    if what == b"stored" and isinstance(value, bytes):
        return Stored(value.decode(errors="replace"))
    if what == b"granted":
        return Granted(int(value))
    return Held(max(0.0, int(value) / 1000))
