"""``dspex map``: a program over the lines of a file."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import to_jsonable_python

from dspex.app._app import App
from dspex.app._map import MapRun
from dspex.app.cli._model import named_model
from dspex.app.cli._program import find_program
from dspex.errors import ConfigError
from dspex.programs import Signature
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.model import LM

__all__ = ["MapOptions", "run"]

_ROW = "line"
"""The field that numbers the lines, where the user names no key: not written out."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """The command line, checked for types only."""

    program: str
    source: Path
    target: Path
    lm: str | None
    api_base: str | None
    retriever: Path | None
    cache: Path | None
    state: Path | None
    journal: Path | None
    key: str | None
    max_concurrency: int
    deadline: float
    retry_failed: bool


def run(options: MapOptions) -> int:
    """
    Write one line of JSON for each line of the input, in its order; returns the exit code.

    Raises:
        ConfigError: A file or the program cannot be used; nothing was paid.
    """
    program = find_program(options.program, options.state)
    if not options.source.is_file():
        raise ConfigError(f"there is no file {options.source}")
    if options.target.exists() and options.target.samefile(options.source):
        raise ConfigError("the output would overwrite the input")
    if options.api_base is not None and options.lm is None:
        raise ConfigError("--api-base needs --lm to know which model to ask there")
    lm = named_model(options.lm, api_base=options.api_base) if options.lm is not None else None
    with options.source.open(encoding="utf-8") as source, options.target.open("w", encoding="utf-8") as target:
        return asyncio.run(_map(program, lm, source, target, options))


async def _map(program: Any, lm: LM | None, source: TextIO, target: TextIO, options: MapOptions) -> int:
    app = App(lm, retriever=options.retriever, cache=options.cache or "memory", deadline=options.deadline)
    journal = options.journal or options.target.with_name(f"{options.target.name}.journal")
    async with app:
        results: MapRun[Any] = app.map(
            program,
            _lines(source, options.source, numbered=options.key is None),
            journal=journal,
            key=options.key or _ROW,
            max_concurrency=options.max_concurrency,
            ordered=True,
            retry_failed=options.retry_failed,
        )
        progress = _Progress(sys.stderr)
        try:
            async with results:
                async for outcome in results:
                    target.write(_line(outcome, hidden=_ROW if options.key is None else ""))
                    progress.show(results)
        finally:
            progress.end(results)
    return 1 if results.failed else 0


def _lines(source: TextIO, path: Path, *, numbered: bool) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number} is not a JSON object")
        yield {**row, _ROW: number} if numbered else row


def _line(outcome: Ok | Failed, hidden: str) -> str:
    row = {name: value for name, value in outcome.row.items() if name != hidden}
    if isinstance(outcome, Ok):
        ending: Mapping[str, object] = {"value": _plain(outcome.value)}
    else:
        ending = {"error": type(outcome.reason).__name__, "message": str(outcome.reason)}
    return json.dumps({**row, **ending}, ensure_ascii=False) + "\n"


def _plain(value: object) -> object:
    """Return a value as JSON; of a record, what the model wrote: its inputs stand in the row already."""
    if isinstance(value, Signature):
        outputs = [field.name for field in type(value).fields.values() if field.role == "output"]
        fields = value.to_dict()
        value = {name: fields[name] for name in outputs if name in fields}
    return to_jsonable_python(value, fallback=lambda each: each.to_dict() if isinstance(each, Signature) else str(each))


class _Progress:
    """Counts on one line of a terminal; elsewhere only at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def show(self, results: MapRun[Any]) -> None:
        if self._live:
            self._stream.write(f"\r{_counts(results)}")
            self._stream.flush()

    def end(self, results: MapRun[Any]) -> None:
        self._stream.write(("\r" if self._live else "") + _counts(results) + "\n")


def _counts(results: MapRun[Any]) -> str:
    return f"{results.done} rows, {results.failed} failed, {results.recorded} from the journal"
