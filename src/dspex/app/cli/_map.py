"""``dspex map``: a program over the lines of a file."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import to_jsonable_python

from dspex._files import json_text, parse_json
from dspex.app._app import App
from dspex.app._map import MapRun
from dspex.app.cli._flags import named_adapter
from dspex.app.cli._model import named_model
from dspex.app.cli._pauses import tell_pauses
from dspex.app.cli._program import find_program
from dspex.app.cli._rows import check_source
from dspex.app.cli._target import Target
from dspex.errors import ConfigError, DspexError
from dspex.evaluation.outage_gate import WAIT_OUT
from dspex.optimizers.journal import discard_failures
from dspex.programs import Signature
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.model import LM

__all__ = ["MapOptions", "run"]

_ROW = "line"
"""The field that numbers the lines, where the user names no key: not written out."""

_SHOWN = 500
"""Characters of the first failure that are repeated behind the counts."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """The command line, checked for types only."""

    program: str
    source: Path
    target: Path
    lm: str | None
    api_base: str | None
    retriever: Path | None
    cache: str | None
    state: Path | None
    journal: Path | None
    key: str | None
    max_concurrency: int
    deadline: float
    retry_failed: bool
    version: str | None = None
    accept_changed: tuple[str, ...] = ()
    overwrite: bool = False
    wait_out: float = WAIT_OUT
    adapter: str | None = None


def run(options: MapOptions) -> int:
    """
    Write one line of JSON for each line of the input, in its order; returns the exit code.

    Raises:
        ConfigError: A file, the program or what it needs cannot be used; nothing was paid.
        TargetExists, FileBusy: The output belongs to somebody else; it is untouched.
        FileError: A file cannot be written.
    """
    program = find_program(options.program, options.state)
    check_source(options.source)
    target = Target(options.target, overwrite=options.overwrite)
    if options.target.exists() and options.target.samefile(options.source):
        raise ConfigError("the output would overwrite the input")
    if target.is_stream and options.journal is None:
        raise ConfigError(f"{options.target} is not a file: say with --journal where rows that have ended are recorded")
    for flag in ("state", "cache", "retriever", "journal"):
        other: str | Path | None = getattr(options, flag)
        if other is not None and Path(other).resolve() == options.target.resolve():
            raise ConfigError(f"the output would overwrite {other}, which another flag names")
    if options.api_base is not None and options.lm is None:
        raise ConfigError("--api-base needs --lm to know which model to ask there")
    lm = named_model(options.lm, api_base=options.api_base) if options.lm is not None else None
    for _ in _lines(options):  # read to its end before a line of it is paid for
        pass
    with target.locked():
        journal = _journal(options)
        is_new = not journal.exists()
        try:
            return asyncio.run(_map(program, lm, target, options))
        except DspexError as error:
            if is_new and journal.exists():
                with contextlib.suppress(DspexError):  # whoever has it now may keep it
                    discard_failures(journal)
            if not isinstance(error, ConfigError):
                raise
            if options.lm is None and "no default language model" in str(error):
                raise ConfigError(f"{options.program} asks the default model: name one with --lm") from error
            raise


async def _map(program: Any, lm: LM | None, target: Target, options: MapOptions) -> int:
    app = App(
        lm,
        adapter=named_adapter(options.adapter),
        retriever=options.retriever,
        cache=options.cache or "memory",
        deadline=options.deadline,
    )
    tell_pauses(app)
    async with app:
        results: MapRun[object] = app.map(
            program,
            _lines(options),
            journal=_journal(options),
            key=options.key or _ROW,
            max_concurrency=options.max_concurrency,
            ordered=True,
            retry_failed=options.retry_failed,
            progress=False,
            version=options.version,
            accept_changed=options.accept_changed,
            wait_out=options.wait_out,
        )
        progress = _Progress(sys.stderr, "" if target.is_stream else f"; they are in {target.part} so far")
        async with results:
            owner = results.journal
            assert owner is not None
            await target.check(owner)
            try:
                async with target.writing(owner) as write:
                    async for outcome in results:
                        progress.note(outcome)
                        write(_line(outcome, hidden=_ROW if options.key is None else ""))
                        progress.show(results)
                    progress.is_whole = True
            finally:
                progress.end(results, options.target)
    return 1 if results.failed else 0


def _journal(options: MapOptions) -> Path:
    return options.journal or options.target.with_name(f"{options.target.name}.journal")


def _lines(options: MapOptions) -> Iterator[dict[str, object]]:
    path, numbered = options.source, options.key is None
    keys: set[object] = set()
    with path.open("rb") as source:
        for number, line in enumerate(source, 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                raise ConfigError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ConfigError(f"{path}, line {number} is not a JSON object")
            if not numbered:
                key = row.get(options.key)
                if isinstance(key, bool) or not isinstance(key, (str, int)):
                    raise ConfigError(f"{path}, line {number} has no text or whole number under {options.key!r}: --key")
                if key in keys:
                    raise ConfigError(f"{path}, line {number}: another line has the {options.key} {key!r} too: --key")
                keys.add(key)
            yield {**row, _ROW: number} if numbered else row


def _line(outcome: Ok | Failed, hidden: str) -> str:
    row = {name: value for name, value in outcome.row.items() if name != hidden}
    if isinstance(outcome, Ok):
        ending: Mapping[str, object] = {"value": _plain(outcome.value)}
    else:
        ending = {"error": type(outcome.reason).__name__, "message": str(outcome.reason)}
    return json_text({**row, **ending}) + "\n"


def _plain(value: object) -> object:
    """Return a value as JSON; of a record, what the model wrote: its inputs stand in the row already."""
    if isinstance(value, Signature):
        outputs = [field.name for field in type(value).fields.values() if field.role == "output"]
        fields = value.to_dict()
        value = {name: fields[name] for name in outputs if name in fields}
    return to_jsonable_python(value, fallback=lambda each: each.to_dict() if isinstance(each, Signature) else str(each))


class _Progress:
    """
    Counts on one line of a terminal; elsewhere only at the end.

    Args:
        stream: Standard error.
        place: Said behind the counts of a terminal: where the rows can be read meanwhile.
    """

    def __init__(self, stream: TextIO, place: str) -> None:
        self._stream = stream
        self._place = place
        self._live = stream.isatty()
        self.is_whole = False
        """True when every row has ended."""
        self._first = ""

    def note(self, outcome: Ok | Failed) -> None:
        """Keep the reason of the first failure: often it is that of all."""
        if not self._first and isinstance(outcome, Failed):
            reason = " ".join(f"{type(outcome.reason).__name__}: {outcome.reason}".split())
            self._first = f"; the first: {reason if len(reason) <= _SHOWN else reason[: _SHOWN - 1] + '…'}"

    def show(self, results: MapRun[object]) -> None:
        if self._live:
            self._stream.write(f"\r{_counts(results)}")
            self._stream.flush()

    def end(self, results: MapRun[object], target: Path) -> None:
        """Write the last counts; of a run that broke off, what is to become of it."""
        if not results.done and not self.is_whole:
            return
        more = "" if self.is_whole else f"; {target} is written when all have ended: start the same again to go on"
        self._stream.write(("\r" if self._live else "") + _counts(results) + more + self._first + "\n")


def _counts(results: MapRun[object]) -> str:
    return f"{results.done} rows, {results.failed} failed, {results.recorded} from the journal"
