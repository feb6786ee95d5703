"""The shared tier in Postgres: two tables and the functions that look after them, each call one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from dspex.services.cache.shared_tier import MAX_BYTES, Claim, Granted, Held, Put, Stored
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.link import SchemaPart

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresTier"]

_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS dspex.answers (
    namespace text NOT NULL, key text NOT NULL, fence bigint NOT NULL, model text NOT NULL, value text NOT NULL,
    bytes integer NOT NULL, created timestamptz NOT NULL, expires timestamptz, PRIMARY KEY (namespace, key)
);
CREATE INDEX IF NOT EXISTS answers_expires ON dspex.answers (expires) WHERE expires IS NOT NULL;

-- Leases live for seconds: a crash of the server may forget them.
CREATE UNLOGGED TABLE IF NOT EXISTS dspex.leases (
    namespace text NOT NULL, key text NOT NULL, owner text NOT NULL, fence bigint NOT NULL,
    expires timestamptz NOT NULL, PRIMARY KEY (namespace, key)
);

CREATE OR REPLACE FUNCTION dspex.fence_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

CREATE OR REPLACE FUNCTION dspex.cache_claim(
    ns text, wanted text, who text, seconds float8, biggest integer, look boolean,
    OUT stored text, OUT granted bigint, OUT held float8
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF look THEN
        SELECT a.value INTO stored FROM dspex.answers a
            WHERE a.namespace = ns AND a.key = wanted AND a.bytes <= biggest
            AND (a.expires IS NULL OR a.expires > clock_timestamp());
        IF FOUND THEN RETURN; END IF;
    END IF;
    granted := dspex.fence_now();
    INSERT INTO dspex.leases AS l (namespace, key, owner, fence, expires)
        VALUES (ns, wanted, who, granted, clock_timestamp() + seconds * interval '1 second')
        ON CONFLICT (namespace, key) DO UPDATE SET owner = excluded.owner, fence = excluded.fence,
            expires = excluded.expires WHERE l.expires <= clock_timestamp();
    IF NOT FOUND THEN
        granted := NULL;
        SELECT extract(epoch FROM l.expires - clock_timestamp()) INTO held FROM dspex.leases l
            WHERE l.namespace = ns AND l.key = wanted;
        held := greatest(coalesce(held, 0), 0);
        RETURN;
    END IF;
    IF look THEN
        -- Between the look and the lease its holder may have stored the value: each statement sees what is there now.
        SELECT a.value INTO stored FROM dspex.answers a
            WHERE a.namespace = ns AND a.key = wanted AND a.bytes <= biggest
            AND (a.expires IS NULL OR a.expires > clock_timestamp());
        IF FOUND THEN
            DELETE FROM dspex.leases l WHERE l.namespace = ns AND l.key = wanted AND l.fence = granted;
            granted := NULL;
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION dspex.cache_put(
    ns text, wanted text, who text, mark bigint, whose text, content text, ttl float8
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO dspex.answers AS a (namespace, key, fence, model, value, bytes, created, expires)
        VALUES (ns, wanted, CASE WHEN mark = -1 THEN dspex.fence_now() ELSE mark END, whose, content,
            octet_length(content), clock_timestamp(), clock_timestamp() + ttl * interval '1 second')
        ON CONFLICT (namespace, key) DO UPDATE SET fence = excluded.fence, model = excluded.model,
            value = excluded.value, bytes = excluded.bytes, created = excluded.created, expires = excluded.expires
        WHERE a.fence <= excluded.fence OR a.expires <= clock_timestamp();
    DELETE FROM dspex.leases l WHERE l.namespace = ns AND l.key = wanted AND l.owner = who AND l.fence = mark;
END $$;

-- A few at a time, for no other writer is to wait long; rows that somebody has locked are left for the next time.
CREATE OR REPLACE FUNCTION dspex.cache_sweep(most integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE gone bigint;
BEGIN
    DELETE FROM dspex.leases WHERE ctid = ANY (ARRAY(
        SELECT l.ctid FROM dspex.leases l WHERE l.expires < clock_timestamp() - interval '1 minute'
        LIMIT most FOR UPDATE SKIP LOCKED));
    DELETE FROM dspex.answers WHERE ctid = ANY (ARRAY(
        SELECT a.ctid FROM dspex.answers a WHERE a.expires < clock_timestamp()
        LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
"""

# Keys are taken in their order, so that no two processes wait for each other's rows.
_CLAIM: Final = """
SELECT c.stored, c.granted, c.held FROM unnest($2::text[], $6::boolean[]) WITH ORDINALITY AS k (key, look, place),
    LATERAL dspex.cache_claim($1, k.key, $3, $4, $5, k.look) AS c ORDER BY k.place
"""
_RENEW: Final = """
INSERT INTO dspex.leases AS l (namespace, key, owner, fence, expires)
    SELECT $1, k.key, $3, k.fence, clock_timestamp() + $4 * interval '1 second'
    FROM unnest($2::text[], $5::bigint[]) AS k (key, fence)
    ON CONFLICT (namespace, key) DO UPDATE SET expires = excluded.expires
    WHERE l.owner = excluded.owner AND l.fence = excluded.fence
"""
_PUT: Final = """
SELECT dspex.cache_put($1, k.key, $3, k.fence, k.model, k.value, k.ttl)
    FROM unnest($2::text[], $4::bigint[], $5::text[], $6::text[], $7::float8[]) AS k (key, fence, model, value, ttl)
"""
_RELEASE: Final = """
DELETE FROM dspex.leases l USING unnest($2::text[], $4::bigint[]) AS k (key, fence)
    WHERE l.namespace = $1 AND l.key = k.key AND l.owner = $3 AND l.fence = k.fence
"""
_GET: Final = """
SELECT key, value FROM dspex.answers WHERE namespace = $1 AND key = ANY ($2::text[]) AND bytes <= $3
    AND (expires IS NULL OR expires > clock_timestamp())
"""
_REMOVE: Final = "DELETE FROM dspex.answers WHERE namespace = $1 AND key = $2 AND value = $3"

_SWEPT_AT_ONCE: Final = 500


class PostgresTier:
    """Implements ``SharedTier`` on ``dspex.answers`` and ``dspex.leases``; statements are prepared by asyncpg."""

    parts: Sequence[SchemaPart] = (SchemaPart("cache", 1, _SCRIPT),)

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway
        self._namespace = gateway.shared.namespace

    async def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        """Return for each key its value, or a lease, or how long another has it."""
        ordered = sorted(claims)
        keys, reads = [each.key for each in ordered], [each.read for each in ordered]

        async def work(connection: Connection) -> list[Stored | Granted | Held]:
            rows = await connection.fetch(_CLAIM, self._namespace, keys, owner, seconds, MAX_BYTES, reads)
            return [
                Stored(row["stored"])
                if row["stored"] is not None
                else Granted(row["granted"])
                if row["granted"] is not None
                else Held(row["held"])
                for row in rows
            ]

        found = dict(zip(keys, await self._gateway.run(work), strict=True))
        return [found[each.key] for each in claims]

    async def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        """Let leases last so many seconds from now."""
        keys, fences = _columns(leases)
        await self._gateway.run(lambda each: each.execute(_RENEW, self._namespace, keys, owner, seconds, fences))

    async def put(self, values: Sequence[Put], owner: str) -> None:
        """Store values, and give back the leases under which they were made."""
        ordered = sorted(values, key=lambda each: each.key)
        columns = (
            [each.key for each in ordered],
            owner,
            [each.fence for each in ordered],
            [each.model for each in ordered],
            [f'{{"fence":{max(each.fence, 0)},{each.envelope[1:]}' for each in ordered],
            [each.ttl for each in ordered],
        )
        await self._gateway.run(lambda each: each.fetch(_PUT, self._namespace, *columns))

    async def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        """Give back leases that nothing came of."""
        keys, fences = _columns(leases)
        await self._gateway.run(lambda each: each.execute(_RELEASE, self._namespace, keys, owner, fences))

    async def get(self, keys: Sequence[str]) -> list[str | None]:
        """Return the envelopes of keys."""
        rows = await self._gateway.run(lambda each: each.fetch(_GET, self._namespace, list(keys), MAX_BYTES))
        found = {row["key"]: row["value"] for row in rows}
        return [found.get(key) for key in keys]

    async def remove(self, key: str, envelope: str) -> None:
        """Remove a value if it still is this very one."""
        await self._gateway.run(lambda each: each.execute(_REMOVE, self._namespace, key, envelope))

    async def sweep(self) -> int:
        """Remove some of what has expired; return how many values that were."""
        gone: int = await self._gateway.run(lambda each: each.fetchval("SELECT dspex.cache_sweep($1)", _SWEPT_AT_ONCE))
        return gone


def _columns(leases: Sequence[tuple[str, int]]) -> tuple[list[str], list[int]]:
    ordered = sorted(leases)
    return [key for key, _ in ordered], [fence for _, fence in ordered]
