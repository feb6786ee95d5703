"""The stocks of Redis and Postgres; each opens a link of its own, for a command has no actors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dspex._clock import wall_time
from dspex.errors import SharedError
from dspex.services.cache.envelope import CacheEntry, Unreadable, decode_entry, encode_entry, model_of
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.shared_tier import MAX_BYTES
from dspex.services.cache.sqlite_stock import SqliteStock
from dspex.services.cache.stock import Stock, StockChoice, StockItem, StockStats
from dspex.services.shared.address import Shared
from dspex.services.shared.server import open_link

if TYPE_CHECKING:
    from asyncpg import Connection
    from redis.asyncio import Redis

__all__ = ["open_shared_stock"]

R = TypeVar("R")

_PAGE: Final = 500
_HEAD: Final = 2_000
"""Characters at the beginning of an envelope in which all stands but its value."""


async def open_shared_stock(shared: Shared) -> Stock:
    """Connect to a store; SharedError when that cannot be done."""
    if shared.kind == "sqlite":
        return SqliteStock(shared.path)
    door = _Door(shared)
    await door.open()
    return RedisStock(door) if shared.kind == "redis" else PostgresStock(door)


class _Door:
    """A link whose errors are told without the password."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._link = open_link(shared)

    async def open(self) -> None:
        try:
            await self._link.open(PostgresTier.parts)
        except Exception as error:  # noqa: BLE001 - whatever a client's package raises is told as one error
            await self._link.close()
            raise self._told(error) from None

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        try:
            return await self._link.run(work)
        except Exception as error:  # noqa: BLE001 - whatever a client's package raises is told as one error
            raise self._told(error) from None

    async def close(self) -> None:
        await self._link.close()

    def _told(self, error: Exception) -> SharedError:
        return SharedError(f"{self._shared.address}: {self._shared.told(error)}")


class RedisStock:
    """Implements ``Stock``; keys are looked through with SCAN, which blocks the server for none of them."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    async def stats(self) -> Sequence[StockStats]:
        """Count the entries by namespace and model."""
        found: dict[tuple[str, str], StockStats] = {}
        async for page in self._pages(None):
            sizes = await self._door.run(lambda client: _many(client, "STRLEN", page))  # noqa: B023 - awaited here
            heads = await self._heads(page)
            for key, size, (model, created) in zip(page, sizes, heads, strict=True):
                namespace = _namespace_of(key)
                place = (namespace, model)
                found.setdefault(place, StockStats(namespace, model)).count(int(size), created)
        return [found[place] for place in sorted(found)]

    async def items(self, choice: StockChoice) -> AsyncIterator[StockItem | Unreadable]:
        """Yield the entries in no order."""
        async for page in self._pages(choice.namespace):
            texts = await self._door.run(lambda client: client.mget(page))  # noqa: B023 - awaited here
            for key, text in zip(page, texts, strict=True):
                if text is None:
                    continue
                entry = decode_entry(text.decode(errors="replace"), wall_time())
                if not isinstance(entry, CacheEntry):
                    yield entry
                elif choice.fits(_namespace_of(key), model_of(entry.value), entry.created):
                    yield StockItem(_namespace_of(key), _key_of(key), entry)

    async def add(self, items: Sequence[StockItem]) -> int:
        """Store entries that are not there, or are older there."""
        keys = [f"{each.namespace}:a:{each.key}".encode() for each in items]
        heads = await self._heads(keys)
        new = [(key, each) for key, each, (_, at) in zip(keys, items, heads, strict=True) if at < each.entry.created]

        async def work(client: Redis) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for key, each in new:
                    left = each.entry.left(wall_time())
                    envelope = f'{{"fence":0,{encode_entry(each.entry)[1:]}'
                    pipe.set(key, envelope, px=None if left is None else max(1, round(left * 1000)))
                await pipe.execute()

        if new:
            await self._door.run(work)
        return len(new)

    async def clear(self, choice: StockChoice) -> int:
        """Remove entries, a page at a time."""
        gone = 0
        async for page in self._pages(choice.namespace):
            heads = await self._heads(page)
            out = [k for k, (model, at) in zip(page, heads, strict=True) if choice.fits(_namespace_of(k), model, at)]
            if out:
                gone += await self._door.run(lambda client: client.unlink(*out))  # noqa: B023 - awaited here
        return gone

    async def aclose(self) -> None:
        """Close the connection."""
        await self._door.close()

    async def _pages(self, namespace: str | None) -> AsyncIterator[list[bytes]]:
        cursor, pattern = 0, f"{namespace or '*'}:a:{'?' * 64}"
        while True:
            cursor, keys = await self._door.run(
                lambda client: client.scan(cursor, match=pattern, count=_PAGE)  # noqa: B023 - awaited here
            )
            if keys:
                yield keys
            if cursor == 0:
                return

    async def _heads(self, keys: Sequence[bytes]) -> list[tuple[str, float]]:
        texts = await self._door.run(lambda client: _many(client, "GETRANGE", keys, 0, _HEAD))
        return [_head(text.decode(errors="replace")) for text in texts]


class PostgresStock:
    """Implements ``Stock`` on the table of the shared tier."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    async def stats(self) -> Sequence[StockStats]:
        """Count the entries by namespace and model."""
        rows = await self._door.run(
            lambda each: each.fetch(
                "SELECT namespace, model, count(*) AS entries, sum(bytes)::bigint AS bytes, "
                "extract(epoch FROM min(created))::float8 AS oldest, "
                "extract(epoch FROM max(created))::float8 AS newest "
                "FROM dspex.answers GROUP BY namespace, model ORDER BY namespace, model"
            )
        )
        return [StockStats(**row) for row in rows]

    async def items(self, choice: StockChoice) -> AsyncIterator[StockItem | Unreadable]:
        """Yield the entries by namespace and key."""
        place = ("", "")
        while True:
            rows = await self._door.run(
                lambda each: each.fetch(
                    "SELECT namespace, key, value FROM dspex.answers "  # noqa: S608 - of constants
                    "WHERE (namespace, key) > ($4, $5) "
                    f"AND {_FITS} AND bytes <= $6 ORDER BY namespace, key LIMIT {_PAGE}",
                    *_arguments(choice),
                    *place,  # noqa: B023 - awaited here
                    MAX_BYTES,
                )
            )
            if not rows:
                return
            place = (rows[-1]["namespace"], rows[-1]["key"])
            for row in rows:
                entry = decode_entry(row["value"], wall_time())
                yield StockItem(row["namespace"], row["key"], entry) if isinstance(entry, CacheEntry) else entry

    async def add(self, items: Sequence[StockItem]) -> int:
        """Store entries that are not there, or are older there."""
        rows = [
            (
                each.namespace,
                each.key,
                model_of(each.entry.value).encode(errors="replace").decode().replace("\0", ""),
                f'{{"fence":0,{encode_entry(each.entry)[1:]}',
                each.entry.created,
                each.entry.until,
            )
            for each in items
        ]

        async def work(connection: Connection) -> int:
            added = await connection.fetch(
                "INSERT INTO dspex.answers AS a (namespace, key, fence, model, value, bytes, created, expires) "
                "SELECT k.namespace, k.key, 0, k.model, k.value, octet_length(k.value), to_timestamp(k.created), "
                "to_timestamp(k.until) FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::float8[], "
                "$6::float8[]) AS k (namespace, key, model, value, created, until) ORDER BY k.namespace, k.key "
                "ON CONFLICT (namespace, key) DO UPDATE SET model = excluded.model, value = excluded.value, "
                "bytes = excluded.bytes, created = excluded.created, expires = excluded.expires "
                "WHERE a.created < excluded.created RETURNING 1",
                *map(list, zip(*rows, strict=True)),
            )
            return len(added)

        return await self._door.run(work) if rows else 0

    async def clear(self, choice: StockChoice) -> int:
        """Remove entries, a page at a time."""
        gone = 0
        while True:
            count: int = await self._door.run(
                lambda each: each.fetchval(
                    "WITH out AS (DELETE FROM dspex.answers "  # noqa: S608 - of constants
                    "WHERE ctid = ANY (ARRAY(SELECT ctid FROM dspex.answers "
                    f"WHERE {_FITS} LIMIT {_PAGE} FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM out",
                    *_arguments(choice),
                )
            )
            gone += count
            if count < _PAGE:
                return gone

    async def aclose(self) -> None:
        """Close the connection."""
        await self._door.close()


_FITS: Final = (
    "($1::text IS NULL OR namespace = $1) AND ($2::text IS NULL OR strpos(model, $2) > 0) "
    "AND ($3::float8 IS NULL OR created < to_timestamp($3))"
)


def _arguments(choice: StockChoice) -> tuple[str | None, str | None, float | None]:
    return choice.namespace, choice.model, choice.before


async def _many(client: Redis, command: str, keys: Sequence[bytes], *more: object) -> list[Any]:  # of any command
    async with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.execute_command(command, key, *more)
        return await pipe.execute()


def _head(text: str) -> tuple[str, float]:
    """Return the model and the age that the beginning of an envelope tells; nothing where it is none."""
    about, found, _ = text.partition(',"value":')
    try:
        fields: object = json.loads(f"{about}}}") if found else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return "", 0.0
    model, created = fields.get("model"), fields.get("at")
    is_time = isinstance(created, (int, float)) and not isinstance(created, bool)
    return model if isinstance(model, str) else "", float(created) if is_time and created is not None else 0.0


def _namespace_of(key: bytes) -> str:
    return key.decode(errors="replace").rpartition(":a:")[0]


def _key_of(key: bytes) -> str:
    return key.decode(errors="replace").rpartition(":a:")[2]
