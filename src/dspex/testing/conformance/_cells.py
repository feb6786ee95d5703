"""The contract of a store's cells: one process changes a cell at a time, and the store has the clock."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.services.shared.cells import Cells, Step

__all__ = ["CellsContract"]

_KEEP = 60.0
_LETTERS = "Grüße 😀 \r\n \u2028 ' \" \\ $1 %s {}" * 500


class CellsContract(ABC):
    """The contract of every ``Cells``; the subclass opens a store in which no cell of the contract's names is."""

    @abstractmethod
    def open_cells(self) -> AbstractAsyncContextManager[Cells]:
        """Open a store; what is opened a second time within a test has the same cells."""

    def test_a_cell_that_is_not_there_has_no_text(self) -> None:
        """And what is written is what is found, letter by letter."""
        asyncio.run(self._a_cell_that_is_not_there_has_no_text())

    async def _a_cell_that_is_not_there_has_no_text(self) -> None:
        async with self.open_cells() as cells:
            assert await cells.change("a", _write(_LETTERS), _KEEP) is None, "it had a text before"
            assert await cells.change("a", _look, _KEEP) == _LETTERS, "another text"
            assert await cells.change("b", _write(""), _KEEP) is None, "names are mixed up"
            assert await cells.change("b", _write("x"), _KEEP) == "", "an empty text is one"

    def test_changes_at_once_are_all_made(self) -> None:
        """Sixty changes of one cell, through two openings of the store."""
        asyncio.run(self._changes_at_once_are_all_made())

    async def _changes_at_once_are_all_made(self) -> None:
        async with self.open_cells() as one, self.open_cells() as other:

            def count(text: str | None, now: float) -> tuple[str, int]:
                del now
                return str(int(text or 0) + 1), int(text or 0)

            changes = (cells.change("count", count, _KEEP) for _ in range(30) for cells in (one, other))
            seen = await asyncio.gather(*changes)
            assert sorted(seen) == list(range(60)), "a change was lost, or made twice"

    def test_a_step_that_fails_changes_nothing(self) -> None:
        """Its error is raised as it is, and the cell can be changed afterwards."""
        asyncio.run(self._a_step_that_fails_changes_nothing())

    async def _a_step_that_fails_changes_nothing(self) -> None:

        def fail(text: str | None, now: float) -> tuple[str, None]:
            raise LookupError(f"{text} at {now}")

        async with self.open_cells() as cells:
            await cells.change("kept", _write("before"), _KEEP)
            try:
                await cells.change("kept", fail, _KEEP)
            except LookupError:
                pass
            else:
                raise AssertionError("the error of the step was swallowed")
            assert await cells.change("kept", _write("after"), _KEEP) == "before"

    def test_the_clock_goes_on(self) -> None:
        """In seconds, and it is the same one for all cells."""
        asyncio.run(self._the_clock_goes_on())

    async def _the_clock_goes_on(self) -> None:
        async with self.open_cells() as cells:
            times = [await cells.change(name, _time, _KEEP) for name in "abab" * 5]
            assert times == sorted(times), "the clock went back"
            assert 0 <= times[-1] - times[0] < 600, "it does not count seconds"

    def test_a_cell_may_be_forgotten(self) -> None:
        """When nobody has changed it for as long as was asked, and not before."""
        asyncio.run(self._a_cell_may_be_forgotten())

    async def _a_cell_may_be_forgotten(self) -> None:
        async with self.open_cells() as cells:
            await cells.change("long", _write("x"), _KEEP)
            began = await cells.change("short", _time, 0.05)
            now = began
            while now < began + 0.2:
                await asyncio.sleep(0.2)
                now = await cells.change("clock", _time, _KEEP)
            assert await cells.change("short", _write("y"), _KEEP) is None, "it was kept"
            assert await cells.change("short", _write("z"), _KEEP) == "y"
            assert await cells.change("long", _write("x"), _KEEP) == "x", "it was forgotten"


def _write(new: str) -> Step[str | None]:
    """Return a step that writes ``new`` and answers with what was there."""
    return lambda text, _: (new, text)


def _look(text: str | None, now: float) -> tuple[str, str | None]:
    del now
    return text or "", text


def _time(text: str | None, now: float) -> tuple[str, float]:
    return text or "x", now
