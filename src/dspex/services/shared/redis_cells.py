"""Cells in Redis: a text is read with the server's clock, and written if it is still the same."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from dspex.errors import SharedError
from dspex.services.shared.cells import TRIES, Step, contended
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.redis_script import RedisScript, script

__all__ = ["RedisCells"]

R = TypeVar("R")


_READ: Final = script("local t = redis.call('TIME') return {redis.call('GET', KEYS[1]), t[1], t[2]}")
_SWAP: Final = script(
    "local found, t = redis.call('GET', KEYS[1]), redis.call('TIME') "
    "if (found or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return {1} end "
    "return {found, t[1], t[2]}"
)


class RedisCells:
    """
    Implements ``Cells`` on a Redis.

    A change is two round trips: it is decided here, and the script writes it unless another process was faster.
    """

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        """Change one cell, as ``Cells.change`` says."""
        key = f"{self._gateway.shared.namespace}:cell:{name}"
        found, seconds, micros = await self._run(_READ, key)
        for _ in range(TRIES):
            before = None if found is None else found.decode(errors="replace")  # of others: no step can read it
            text, answer = step(before, int(seconds) + int(micros) / 1e6)
            told = await self._run(_SWAP, key, before or "", text, max(1, int(keep * 1000)))
            if told == [1]:
                return answer
            found, seconds, micros = told
        raise contended(name)

    async def _run(self, of: RedisScript, key: str, *arguments: str | int) -> Any:
        async def work(client: Any) -> Any:  # execute_command has no types
            from redis.exceptions import NoScriptError

            try:
                return await client.execute_command("EVALSHA", of.sha, 1, key, *arguments)
            except NoScriptError:  # it was started anew, and has forgotten
                return await client.execute_command("EVAL", of.text, 1, key, *arguments)

        answer = await self._gateway.run(work)
        if not isinstance(answer, list):
            raise SharedError(f"{self._gateway.shared.address} answered with something else than a script of ours does")
        return answer
