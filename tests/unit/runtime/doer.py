"""An actor that does what it is told, and code that does not stop when told."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from dspex.runtime import (
    Actor,
    From,
    Reply,
)

__all__ = ["Doer", "answer", "deaf", "forever"]


class Doer(Actor):
    """Calls the message: to answer with what it returns, or just to have it done."""

    trap_exit: ClassVar[bool] = False

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Any, sender: From) -> Any:
        return await message(self, sender)

    async def handle_cast(self, message: Any) -> Any:
        outcome = await message(self)
        return None if isinstance(outcome, Reply) else outcome

    async def handle_info(self, message: object) -> None:
        self.seen.append(message)


async def forever(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


async def answer(*_: object) -> Reply:
    return Reply("answer")


async def deaf(loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    """Ignore cancellations until told otherwise; not for ever, or a test that fails would hang."""
    for _ in range(20):
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue
        return
