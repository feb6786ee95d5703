"""The commands of ``dspex jobs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dspex.app.cli._interrupt import interruptible

__all__ = ["job_commands"]

job_commands = typer.Typer(
    no_args_is_help=True, help="See the jobs of a home, and steer those that run, from any process."
)

_Home = Annotated[Path, typer.Option(help="The App's folder for journals and jobs.")]
_Job = Annotated[str, typer.Argument(help="The job's name.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HOME = Path(".dspex")


@job_commands.command("list")
def list_(home: _Home = _HOME, as_json: _Json = False) -> int:
    """Print a line for each job: its name, how it stands, and what it has cost."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    return jobs.list_jobs(home, as_json=as_json)


@job_commands.command()
def show(
    job: _Job,
    home: _Home = _HOME,
    as_json: _Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with all of it to this file instead.", show_default=False)
    ] = None,
    candidate: Annotated[
        str, typer.Option(help="Print what this candidate changes: its key, or the beginning.", show_default=False)
    ] = "",
) -> int:
    """Print what a job's journal tells."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    if candidate:
        return jobs.show_candidate(home, job, candidate, as_json=as_json)
    return jobs.show_job(home, job, as_json=as_json, html=html)


@job_commands.command()
def pause(job: _Job, home: _Home = _HOME) -> int:
    """Have a running job begin nothing more until it is resumed; what is under way ends, and is recorded."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    return jobs.tell_job(home, job, "pause")


@job_commands.command()
def resume(job: _Job, home: _Home = _HOME) -> int:
    """Have a paused job go on."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    return jobs.tell_job(home, job, "resume")


@job_commands.command()
def cancel(job: _Job, home: _Home = _HOME) -> int:
    """Stop a running job; what it has recorded is kept, and compiling it again continues it."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    return jobs.tell_job(home, job, "cancel")


@job_commands.command()
def steer(
    job: _Job,
    home: _Home = _HOME,
    hint: Annotated[str, typer.Option(help="Words for the model that writes candidates.")] = "",
    drop: Annotated[str, typer.Option(help="A candidate to leave alone: its key, or the beginning of it.")] = "",
    add: Annotated[
        Path | None,
        typer.Option(
            help='A candidate to try, as JSON: {"instructions": {PREDICTOR: TEXT}, "base": KEY}.', show_default=False
        ),
    ] = None,
) -> int:
    """Tell the search of a running job something; it is recorded, so that the job stays exact."""
    from dspex.app.cli import _jobs as jobs

    interruptible()
    return jobs.steer_job(home, job, hint=hint, drop=drop, add=add)
