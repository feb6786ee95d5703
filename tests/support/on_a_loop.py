"""A base for state machines about the runtime: a runtime on a loop that runs only while a rule does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from dspex.runtime import Runtime
from dspex.testing import VirtualClock

__all__ = ["OnALoop"]


class OnALoop(RuleBasedStateMachine):
    """A state machine with a runtime on virtual time; at the end nothing may be left of it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.runtime = Runtime(clock=self.clock)
        self.do(self._open())

    async def _open(self) -> None:
        self.runtime.open()

    def do(self, awaitable: Awaitable[Any]) -> Any:
        """Await something, then let everything that it has set in motion come to rest."""

        async def doing() -> Any:
            try:
                return await awaitable
            finally:
                await self.clock.settle()

        return self.loop.run_until_complete(doing())

    def settle(self) -> None:
        """Let everything come to rest."""
        self.loop.run_until_complete(self.clock.settle())

    def teardown(self) -> None:
        """Close the runtime; no process, task or timer may be left."""

        async def close() -> None:
            async with self.clock.autojump():
                await self.runtime.close()

        self.loop.run_until_complete(close())
        assert not self.runtime.processes
        assert not asyncio.all_tasks(self.loop)
        assert self.clock.pending == 0
        self.loop.close()
