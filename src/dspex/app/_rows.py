"""The journal of ``app.map``: which rows have ended, and in what."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from dspex.errors import ConfigError, JobMismatch, OptimizationError, RecordedFailure
from dspex.optimizers.identity import Identity
from dspex.optimizers.journal import Journal, Record, discard_failures
from dspex.programs import Module
from dspex.programs.portable import TAG, Known, portable, restored
from dspex.protocols.executor import Failed, Ok, Outcome
from dspex.runtime import WorkerThread

__all__ = ["RowJournal", "result_type"]


class RowJournal:
    """
    Ended rows by their keys, in a file that outlives the process; used by one writer at a time.

    Args:
        path: The SQLite file; made when missing.
        identity: The program and options of the rows.
        result: Reads values back: of the type that the program's ``forward`` returns.
        retry_failed: True when rows that have failed before count as never run.
        accept_changed: The parts of the identity that may have changed since.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        result: ResultType,
        *,
        retry_failed: bool,
        accept_changed: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._identity = identity
        self._accept_changed = accept_changed
        self._result = result
        self._retry_failed = retry_failed
        self._worker = WorkerThread("dspex-map-journal")
        self._journal: Journal | None = None
        self._under_way: set[str] = set()

    async def open(self) -> None:
        """
        Open the file and become its writer.

        Raises:
            JobMismatch: It belongs to another program, and a row of it has succeeded.
            JobBusy: Another process writes it.
            OptimizationError: It is not a journal, or cannot be opened.
        Cancellation: the file is closed again.
        """
        try:
            await self._worker.run(self._open)
        except BaseException:  # whatever it is: undone here, then raised on
            await self.aclose()
            raise

    def _open(self) -> None:
        inputs = (self._path, str(self._path), self._identity, self._accept_changed)
        try:
            self._journal = Journal(*inputs)
        except JobMismatch:
            if not discard_failures(self._path):
                raise
            self._journal = Journal(*inputs)
        self._journal.take()

    async def aclose(self) -> None:
        """Write what is queued, and let go of the file."""
        await self._worker.aclose(self._close)

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    async def begin(self, key: str, where: str) -> Outcome | None:
        """
        Return how a row has ended in an earlier run; None means that it is to be run now.

        Raises:
            ConfigError: This run has met the key before.
        Cancellation: nothing has been written.
        """
        found: Record | None = None
        if key not in self._under_way:
            found = await self._worker.run(self._find, key)
        if key in self._under_way or (found is not None and found.epoch == self._epoch):
            raise ConfigError(f"{where}another row has the key {key} too; give key= a field that tells rows apart")
        if found is None:
            self._under_way.add(key)
            return None
        return self._outcome(found)

    @property
    def _epoch(self) -> int:
        assert self._journal is not None
        return self._journal.epoch

    def _find(self, key: str) -> Record | None:
        assert self._journal is not None
        found = self._journal.find("ok", key)
        if found is None and not self._retry_failed:
            found = self._journal.find("failed", key)
        return found

    def _outcome(self, found: Record) -> Outcome:
        try:
            if found.kind == "failed":
                return Failed(RecordedFailure(str(found.data["error"]), str(found.data["message"])))
            if "typed" in found.data:
                return Ok(restored(found.data["typed"], None, self._result.known), recorded=True)
            value, check = found.data["value"], self._result.adapter.validate_python
            if isinstance(value, dict) and TAG in value:
                return Ok(restored(value, check, self._result.known), recorded=True)
            return Ok(check(value), recorded=True)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise OptimizationError(
                f"the journal {self._path} holds a value under the key {found.key} that cannot be made again: {error}. "
                f"Bring its class back where it was, import its module beside the program, or use another journal"
            ) from error

    async def end(self, key: str, outcome: Outcome) -> None:
        """
        Write down how a row has ended; when this returns it is there to stay.

        Raises:
            ConfigError: The value has no JSON form.
            JobBusy: Another writer has taken the journal.
            OptimizationError: The file cannot be written.
        Cancellation: it is written all the same.
        """
        if isinstance(outcome, Ok):
            kind, data = "ok", self._written(outcome.value)
        else:
            kind, data = "failed", {"error": type(outcome.reason).__name__, "message": str(outcome.reason)}
        await self._worker.run(self._write, kind, data, key)
        self._under_way.discard(key)

    def _written(self, value: object) -> Mapping[str, object]:
        """Return a value with its class, or where only its declared type can make it again, as that takes it."""
        known = self._result.known
        try:
            return {"typed": portable(value, None, known)}
        except TypeError as error:
            try:
                return {"value": portable(value, self._result.adapter.validate_python, known)}
            except TypeError:
                raise ConfigError(
                    f"what forward returns cannot be written to a journal: {error}. Return data, records, "
                    f"dataclasses or pydantic models that their module has under their names"
                ) from error

    async def has_written(self, digest: str) -> bool:
        """True when ``note_output`` was given this hash of a file's content, by whichever run."""
        return await self._worker.run(self._output, digest)

    def _output(self, digest: str) -> bool:
        assert self._journal is not None
        return self._journal.find("output", digest) is not None

    async def note_output(self, digest: str) -> None:
        """
        Write down the hash of a file that is about to be written from these rows; raises what ``end`` does.

        Cancellation: it is written all the same.
        """
        await self._worker.run(self._write, "output", {}, digest)

    def _write(self, kind: str, data: Mapping[str, object], key: str) -> None:
        assert self._journal is not None
        self._journal.append(kind, data, key)
        self._journal.written.clear()


def names_of(accept_changed: Sequence[str]) -> tuple[str, ...]:
    """
    Return the names of the parts that may have changed.

    Raises:
        ConfigError: It is one text, and not a list of texts.
    """
    if isinstance(accept_changed, str):
        raise ConfigError(f"accept_changed={accept_changed!r} is one text: give a list, [{accept_changed!r}]")
    return tuple(accept_changed)


def key_text(value: object, where: str) -> str:
    """
    Return a row's key as the journal has it.

    Raises:
        ConfigError: It is neither text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{where}the key is {value!r}; it must be a text or a whole number")
    return json.dumps(value)


class ResultType(NamedTuple):
    """A program's return type: the adapter of the declared type of ``forward``, and the classes that may be in it."""

    adapter: TypeAdapter[object]
    known: Known


def result_type(program: object) -> ResultType:
    """Return what reads back the values of a program's ``forward``; plain JSON where it does not say its type."""
    declared: Any = None
    try:
        declared = typing.get_type_hints(type(program).forward).get("return")  # type: ignore[attr-defined]
    except (NameError, TypeError, AttributeError):
        declared = None
    if isinstance(declared, typing.TypeVar) or declared is None:  # a predictor returns its signature's record
        predictor = getattr(program, "predict", program)
        declared = getattr(predictor, "signature", Any)
    predictors = program.predictors().values() if isinstance(program, Module) else ()
    beside = vars(sys.modules.get(type(program).__module__, typing)).values()
    kinds = [each for each in beside if isinstance(each, type)]
    known = Known([declared, *[each.signature for each in predictors], *kinds], loaded=True)
    try:
        return ResultType(TypeAdapter(declared), known)
    except Exception:  # noqa: BLE001 - pydantic raises many things for what is not a type of data; plain JSON will do
        return ResultType(TypeAdapter(Any), known)
