"""``dspex eval``: a score for a program, over the lines of a file."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dspex.app.cli._flags import AppFlags
from dspex.app.cli._pauses import tell_pauses
from dspex.app.cli._program import compared_field, find_metric, find_program
from dspex.app.cli._rows import check_target, read_examples
from dspex.errors import ConfigError, EvaluationError
from dspex.evaluation import Report

if TYPE_CHECKING:
    from dspex.app._view import RunnableProgram

__all__ = ["EvalOptions", "run"]

_FORMS = (".csv", ".jsonl")


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """The command line, checked for types only."""

    program: str
    source: Path
    asked: AppFlags
    metric: str
    field: str
    state: Path | None
    save: Path | None
    max_concurrency: int
    max_failed: float
    as_json: bool
    overwrite: bool


def run(options: EvalOptions) -> int:
    """
    Print the report; returns the exit code: 1 when rows failed, with or without a score.

    Raises:
        ConfigError: A file, the program or the metric cannot be used; nothing was paid.
    """
    if options.save is not None:
        if options.save.suffix not in _FORMS:
            raise ConfigError(f"--save {options.save} must end in {' or '.join(_FORMS)}")
        check_target(options.save, overwrite=options.overwrite)
    metric = find_metric(options.metric, options.field)
    program = cast("RunnableProgram[..., Any]", find_program(options.program, options.state))
    examples = read_examples(options.source, compared_field(options.metric, options.field))

    async def evaluate() -> Report:
        app = options.asked.app()
        tell_pauses(app)
        async with app:
            return await app.evaluate(
                program,
                examples,
                metric,
                max_concurrency=options.max_concurrency,
                max_failed=options.max_failed,
            )

    why = ""
    try:
        report = asyncio.run(evaluate())
    except EvaluationError as error:
        if not isinstance(error.partial, Report):
            raise
        report, why = error.partial, str(error)
    if options.save is not None:
        report.save(options.save, overwrite=options.overwrite)
    sys.stdout.write(f"{_json(report)}\n" if options.as_json else f"{report}\n")
    if why:
        sys.stderr.write(f"dspex: {' '.join(why.split())}\n")
    return 1 if report.failed else 0


def _json(report: Report) -> str:
    bounds = report.interval if report.has_score else None
    return json.dumps(
        {
            "program": report.program,
            "score": report.score if report.has_score else None,
            "interval": [bounds.low, bounds.high] if bounds is not None else None,
            "rows": len(report.outcomes),
            "failed": len(report.failed),
            "not_run": report.not_run,
            "input_tokens": report.usage.input_tokens,
            "output_tokens": report.usage.output_tokens,
            "usd": str(report.cost) if report.cost is not None else None,
        }
    )
