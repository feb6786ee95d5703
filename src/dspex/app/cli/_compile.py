"""``dspex compile``: a job that looks for a better program, over the lines of a file."""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from dspex._files import FileLock
from dspex.app.cli._flags import AppFlags
from dspex.app.cli._program import compared_field, find_metric, find_optimizer, find_program
from dspex.app.cli._rows import check_target, read_examples
from dspex.errors import ConfigError, JobCancelled
from dspex.optimizers import Job
from dspex.programs import Module

__all__ = ["CompileOptions", "run"]

_HOME = Path(".dspex")
"""The folder of jobs that `dspex jobs` looks into by itself."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """The command line, checked for types only."""

    program: str
    trainset: Path
    target: Path
    asked: AppFlags
    optimizer: str
    metric: str
    field: str
    state: Path | None
    valset: Path | None
    holdset: Path | None
    job: str | None
    seed: int
    minutes: float | None
    max_concurrency: int
    accept_changed: tuple[str, ...]
    overwrite: bool


def run(options: CompileOptions) -> int:
    """
    Run the job and write the program's state; returns the exit code: 1 when somebody has cancelled the job.

    Raises:
        ConfigError: A file, the program, the metric or the optimizer cannot be used; nothing was paid.
    """
    metric = find_metric(options.metric, options.field)
    optimizer = find_optimizer(options.optimizer, metric)
    program = find_program(options.program, options.state)
    if not isinstance(program, Module):
        raise ConfigError(f"{options.program} is not a Module: there is nothing in it to learn")
    check_target(options.target, overwrite=options.overwrite)
    train, val, hold = (
        read_examples(each, compared_field(options.metric, options.field)) if each is not None else None
        for each in (options.trainset, options.valset, options.holdset)
    )
    assert train is not None
    name = options.job or f"{type(program).__name__}-{type(optimizer).__name__}-{options.target.stem}"

    async def compile_() -> tuple[Module, Job[Module]]:
        async with options.asked.app() as app:
            job = await app.compile(
                program,
                optimizer,
                trainset=train,
                valset=val,
                holdset=hold,
                job=name,
                seed=options.seed,
                minutes=options.minutes,
                max_concurrency=options.max_concurrency,
                accept_changed=options.accept_changed,
            )
            home = f" --home {shlex.quote(str(options.asked.home))}" if options.asked.home != _HOME else ""
            sys.stderr.write(f"job {job.id}: `dspex jobs show {job.id}{home}` tells how it stands\n")
            return await job.result(), job

    with FileLock(options.target):  # two that write it would each pay for a search, and one would be lost
        try:
            found, job = asyncio.run(compile_())
        except JobCancelled as error:
            sys.stderr.write(f"dspex: {error}\n")
            return 1
        found.save(options.target, overwrite=options.overwrite)
    sys.stdout.write(f"{job.verdict}\n{options.target} holds the program\n")
    return 0
