"""The contract of an executor: every row ends in a value or an error as a value, and a cancelled one ends at once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import anyio

from dspex.errors import DeadlineExceeded, MissingInput
from dspex.protocols.executor import Executor, Failed, Ok, RunOptions

__all__ = ["ExecutorContract"]


class _Double:
    async def forward(self, number: int) -> int:
        return 2 * number


class _Refuse:
    async def forward(self, number: int) -> int:
        raise LookupError(f"no {number}")


class _Wait:
    async def forward(self) -> None:
        await asyncio.get_running_loop().create_future()


class ExecutorContract(ABC):
    """The contract of every ``Executor``; programs are plain objects, so that they may be sent elsewhere."""

    @abstractmethod
    def open_executor(self) -> AbstractAsyncContextManager[Executor]:
        """Return a block in which there is an executor."""

    def test_a_value_is_an_outcome(self) -> None:
        """``Ok``, with what ``forward`` returned."""

        async def main() -> None:
            async with self.open_executor() as executor:
                outcome = await executor.run(_Double(), {"number": 21}, RunOptions())
                assert isinstance(outcome, Ok), f"a program that worked is {outcome!r}"
                assert outcome.value == 42, f"the value is {outcome.value!r}"

        asyncio.run(main())

    def test_an_exception_is_an_outcome(self) -> None:
        """``Failed``, with the exception itself; the executor raises nothing."""

        async def main() -> None:
            async with self.open_executor() as executor:
                outcome = await executor.run(_Refuse(), {"number": 7}, RunOptions())
                assert isinstance(outcome, Failed), f"a program that failed is {outcome!r}"
                assert type(outcome.reason) is LookupError, f"the reason is {outcome.reason!r}"
                assert outcome.reason.args == ("no 7",), f"the reason says {outcome.reason}"

        asyncio.run(main())

    def test_inputs_that_do_not_fit_are_an_outcome(self) -> None:
        """Or ``MissingInput`` at once; never a value."""

        async def main() -> None:
            async with self.open_executor() as executor:
                for inputs in ({}, {"number": 1, "other": 2}):
                    try:
                        outcome = await executor.run(_Double(), inputs, RunOptions())
                    except MissingInput:
                        continue
                    assert isinstance(outcome, Failed), f"inputs {inputs} gave {outcome!r}"

        asyncio.run(main())

    def test_a_deadline_is_kept(self) -> None:
        """``Failed(DeadlineExceeded)``."""

        async def main() -> None:
            async with self.open_executor() as executor:
                outcome = await executor.run(_Wait(), {}, RunOptions(deadline=0.05))
                assert isinstance(outcome, Failed), f"a program beyond its deadline is {outcome!r}"
                assert isinstance(outcome.reason, DeadlineExceeded), f"the reason is {outcome.reason!r}"

        asyncio.run(main())

    def test_rows_run_side_by_side(self) -> None:
        """One that waits keeps nobody from ending; each has its own outcome."""

        async def main() -> None:
            async with self.open_executor() as executor:
                ended: list[object] = []

                async def wait() -> None:
                    ended.append(await executor.run(_Wait(), {}, RunOptions()))

                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    outcomes = await asyncio.gather(
                        *(executor.run(_Double(), {"number": number}, RunOptions()) for number in range(20))
                    )
                    values = [each.value for each in outcomes if isinstance(each, Ok)]
                    assert values == [2 * number for number in range(20)], f"the values are {values}"
                    assert not ended, f"a program that waits has ended: {ended}"
                    group.cancel_scope.cancel()
                assert not ended, f"a cancelled row has an outcome: {ended}"

        asyncio.run(main())
