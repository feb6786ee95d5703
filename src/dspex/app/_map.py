"""One program over many rows: back-pressured, bounded in memory, and with a journal resumable."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from dspex.app._rows import RowJournal, key_text
from dspex.errors import ActorError, AppClosed, ConfigError, MissingInput
from dspex.evaluation import RowRunner, as_example
from dspex.evaluation.display import Display, open_display
from dspex.evaluation.faults import is_hopeless, is_outage
from dspex.evaluation.outage_gate import WAIT_OUT, OutageGate, gate_of_rows
from dspex.evaluation.row_runner import failed_task
from dspex.programs import pick_inputs
from dspex.protocols.executor import Failed, Ok, RunOptions
from dspex.protocols.json_values import Json
from dspex.runtime import TaskStream

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["MapPlan", "MapRun"]

R = TypeVar("R")

Rows = Iterable[object] | AsyncIterable[object]
"""Examples, mappings or dataclasses, from anything that can be iterated."""

RowKey = str | Callable[[Json], str | int]
"""The name of a row: a field, or a function of its fields."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """The arguments of ``app.map``."""

    program: object
    rows: Rows
    key: RowKey
    max_concurrency: int
    ordered: bool
    options: RunOptions
    progress: bool | None = False
    wait_out: float = WAIT_OUT

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ConfigError(f"max_concurrency={self.max_concurrency} must be at least 1")


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    fields: Mapping[str, object]
    inputs: Mapping[str, object] | None
    problem: MissingInput | None
    key: str


class MapRun(Generic[R]):
    """
    The outcomes of many rows: ``async with app.map(program, rows) as results: async for result in results``.

    Rows are taken from the input only as results are consumed. Leaving the block stops what is under way.

    Attributes:
        done: Rows handed out so far.
        failed: Those of them that failed.
        recorded: Those of them that an earlier run had finished.
    """

    def __init__(self, running_tree: Callable[[], AppTree], plan: MapPlan, journal: Callable[[], RowJournal] | None):
        self.done = 0
        self.failed = 0
        self.recorded = 0
        self._running_tree = running_tree
        self._plan = plan
        self._open_journal = journal
        self._journal: RowJournal | None = None
        self._tree: AppTree | None = None
        self._gate: OutageGate | None = None
        self._stream: TaskStream[_Row, Ok[R] | Failed] | None = None
        self._display: Display | None = None
        self._read_all = False
        """True when the source of rows has come to its end."""

    async def __aenter__(self) -> Self:
        if self._tree is not None:
            raise RuntimeError("a map is entered once; call app.map again")
        tree = self._tree = self._running_tree()
        plan = self._plan
        self._gate = gate_of_rows(tree.runtime, plan.wait_out, f"map of {type(plan.program).__name__}")
        if self._open_journal is not None:
            journal = self._open_journal()
            await journal.open()
            self._journal = journal
        try:
            open_stream = await tree.open_stream()
            self._stream = open_stream(
                self._run,
                self._rows(),
                max_concurrency=plan.max_concurrency,
                ordered=plan.ordered,
                context=plan.options.context,
            )
        except BaseException:  # whatever it is: undone here, then raised on
            await self._close_journal()
            raise
        self._display = open_display(plan.progress)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            if self._display is not None:
                self._display.close()
            await self._close_journal()

    @property
    def journal(self) -> RowJournal | None:
        """The open journal; None without one, and outside the block."""
        return self._journal

    async def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            await journal.aclose()

    def __aiter__(self) -> AsyncIterator[Ok[R] | Failed]:
        return self

    async def __anext__(self) -> Ok[R] | Failed:
        if self._stream is None or self._tree is None:
            raise RuntimeError("a map runs inside `async with app.map(program, rows) as results:`")
        try:
            result = await anext(self._stream)
        except ActorError as error:
            if self._tree.closing:
                raise self._interrupted() from error
            raise
        except StopAsyncIteration:
            if self._tree.closing and not self._read_all:
                raise self._interrupted() from None
            raise
        refused = isinstance(result.value, Failed) and isinstance(result.value.reason, AppClosed)
        if self._tree.closing and (result.value is None or refused):
            raise self._interrupted()
        row = result.item
        outcome = result.value if result.value is not None else failed_task(result, row.index, row.fields)
        self.done += 1
        self.failed += isinstance(outcome, Failed)
        self.recorded += outcome.recorded
        if self._display is not None:
            self._show(self._display)
        return outcome

    def _interrupted(self) -> AppClosed:
        more = "; those that ended are in the journal, and the same map goes on from them" if self._journal else ""
        return AppClosed(f"the map was interrupted after {self.done} rows{more}")

    def _show(self, display: Display) -> None:
        rows = self._plan.rows
        total = len(rows) if isinstance(rows, Sized) else 0
        known = f", {self.recorded} from the journal" if self.recorded else ""
        text = f"{self.done}{f' of {total}' if total else ''} rows, {self.failed} failed{known}"
        display.show(text, self.done / total if total else None)

    # --- one row --------------------------------------------------------------------------------------------

    async def _rows(self) -> AsyncIterator[_Row]:
        """Read rows one by one; one that lacks inputs is a row that fails."""
        index = 0
        async for given in _each(self._plan.rows):
            where = f"row {index}: "
            fields = as_example(given, where)
            key = self._key_of(fields, where) if self._open_journal is not None else ""
            inputs, problem = None, None
            try:
                inputs = pick_inputs(self._plan.program, fields, where)
            except MissingInput as error:
                problem = error
            yield _Row(index, fields, inputs, problem, key)
            index += 1
        self._read_all = True

    def _key_of(self, fields: Mapping[str, object], where: str) -> str:
        key = self._plan.key
        if not isinstance(key, str):
            return key_text(key(fields), where)
        if key not in fields:
            raise ConfigError(f"{where}there is no field {key!r} to know the row by; give key= a field or a function")
        return key_text(fields[key], where)

    async def _run(self, row: _Row) -> Ok[R] | Failed:
        journal = self._journal
        if row.inputs is None:
            assert row.problem is not None
            return Failed(row.problem, row.fields)
        if journal is not None:
            known = await journal.begin(row.key, f"row {row.index}: ")
            if known is not None:
                return replace(known, row=row.fields, recorded=True)
        assert self._tree is not None
        runner = RowRunner(self._tree.runner, self._plan.options, self._gate)
        outcome = await runner.run(self._plan.program, row.inputs, row.fields)
        if journal is not None and _is_its_own(outcome):
            await journal.end(row.key, outcome)
        return outcome


def _is_its_own(outcome: Ok[R] | Failed) -> bool:
    """True for the row's own end; one that an outage or an empty purse gave it is not to stand in the way later."""
    return isinstance(outcome, Ok) or not (is_outage(outcome.reason) or is_hopeless(outcome.reason))


async def _each(rows: Rows) -> AsyncIterator[object]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row
