"""``dspex jobs``: what jobs there are, and words for the process that runs one."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from dspex._clock import day_text, monotonic
from dspex.errors import ConfigError, OptimizationError
from dspex.optimizers.control import JobFolder, JobOverview, Word
from dspex.optimizers.pages import changes_of, save_story
from dspex.optimizers.plans import Algorithm
from dspex.optimizers.steering import check_steer, steer_from, tried_candidate
from dspex.optimizers.verdict import verdict_of

__all__ = ["list_jobs", "show_candidate", "show_job", "steer_job", "tell_job"]

_PATIENCE = 10.0
"""Seconds in which a job's process does what it is told, or something is wrong with it."""

_LOOK = 0.05


def list_jobs(home: Path, *, as_json: bool) -> int:
    """Print a line for each job; returns the exit code: 1 when a journal cannot be read."""
    jobs = _folder(home).all()
    lost = [each for each in jobs if isinstance(each, OptimizationError)]
    found = [each for each in jobs if isinstance(each, JobOverview)]
    if as_json:
        sys.stdout.write("".join(json.dumps(each.plain()) + "\n" for each in found))
    elif found:
        width = max(len(each.id) for each in found)
        for each in found:
            done = f"{each.passages} passages" if each.index else f"{each.evaluations} rows"
            sys.stdout.write(f"{each.id:<{width}}  {each.status:<11}  {done}, {each.cost}\n")
    else:
        sys.stdout.write(f"no jobs in {home}\n")
    for error in lost:
        sys.stderr.write(f"dspex: {' '.join(str(error).split())}\n")
    return 1 if lost else 0


def show_job(home: Path, job: str, *, as_json: bool, html: Path | None = None) -> int:
    """Print all that one job's journal tells, or write it as a page; returns the exit code."""
    folder = _folder(home)
    overview = folder.show(job)
    if html is not None:
        save_story(folder.path / f"{job}.db", job, overview.status, html, overwrite=False)
        sys.stdout.write(f"{html}\n")
        return 0
    sys.stdout.write(json.dumps(overview.plain(), indent=2) + "\n" if as_json else _told(overview))
    return 0


def show_candidate(home: Path, job: str, key: str, *, as_json: bool) -> int:
    """Print what a candidate changes of the program that was given; returns the exit code."""
    folder = _folder(home)
    folder.show(job)
    known = tried_candidate(folder.path / f"{job}.db", key)
    changes = changes_of(known.own, known.candidate.plain())
    if as_json:
        sys.stdout.write(json.dumps({"candidate": known.key, "changes": changes}, indent=2) + "\n")
        return 0
    lines = [f"candidate {known.key}: {'' if changes else 'changes nothing'}".rstrip(" :")]
    for each in changes:
        lines.append(f"{each['path']}: {each['what']}".removeprefix(": "))
        if "words" in each:
            marks = {"+": "{+%s+}", "-": "[-%s-]", "=": "%s"}
            text = "".join(marks[how] % words for how, words in each["words"])
            lines += [f"  {line}" for line in text.splitlines()]
        for how, demo in each.get("demos", ()):
            first, *rest = demo.splitlines() or [""]
            lines += [f"  {how if how != '=' else ' '} {first}", *(f"    {line}" for line in rest)]
        if each.get("left_out"):
            lines.append(f"  and {each['left_out']} more")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def tell_job(home: Path, job: str, word: Word) -> int:
    """
    Tell the process that runs a job to pause, resume or cancel it, and wait until it does; returns the exit code.

    Raises:
        ConfigError: Nobody runs the job, or its process does not listen.
    """

    def done(overview: JobOverview) -> bool:
        return word != "cancel" and overview.held is (word == "pause")

    return _say(_folder(home), job, word, "", done)


def steer_job(home: Path, job: str, *, hint: str, drop: str, add: Path | None) -> int:
    """
    Tell the search of a running job something, and wait until it is recorded; returns the exit code.

    Raises:
        ConfigError: Nobody runs the job, its optimizer has no use for that, or it does not fit.
    """
    folder = _folder(home)
    overview = folder.show(job)
    if overview.index:
        raise ConfigError(f"job {job} makes an index: nothing in it can be steered")
    data: dict[str, object] = {"hint": hint, "drop": drop}
    if add is not None:
        data["add"] = _read(add)
    steer = steer_from(data, folder.path / f"{job}.db")
    optimizer = getattr(importlib.import_module("dspex.optimizers"), overview.optimizer, None)
    if isinstance(optimizer, type) and issubclass(optimizer, Algorithm):
        check_steer(steer, optimizer)  # one that is not dspex's own is asked by the process that has it
    before = overview.steered

    def done(overview: JobOverview) -> bool:
        return overview.steered > before

    return _say(folder, job, "steer", json.dumps(steer.plain()), done)


def _say(folder: JobFolder, job: str, word: Word, more: str, done: Callable[[JobOverview], bool]) -> int:
    number = folder.say(job, word, more)
    until, pause = monotonic() + _PATIENCE, threading.Event()
    while True:
        heard, overview = folder.is_taken(number), folder.show(job)
        if overview.pid is None or (heard and done(overview)):
            break
        if monotonic() > until:
            raise ConfigError(f"process {overview.pid}, which runs job {job}, has not done '{word}' in time")
        pause.wait(_LOOK)
    sys.stdout.write(f"job {job}: {overview.status}\n")
    return 0


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None


def _folder(home: Path) -> JobFolder:
    if not home.is_dir():
        raise ConfigError(f"there is no folder {home}; --home names the one that the App uses")
    return JobFolder(home / "jobs")


def _told(job: JobOverview) -> str:
    failed = f", {job.failed} failed" if job.failed else ""
    by = f", process {job.pid}" if job.pid is not None else ""
    about = [
        f"  {job.optimizer} on {job.program}, begun {_day(job.started)}",
        f"  {job.evaluations} rows run{failed}; last record {_day(job.changed)}",
    ]
    if job.index:
        about = [
            f"  into {job.index}, begun {_day(job.started)}",
            f"  {job.passages} passages read; last record {_day(job.changed)}",
        ]
    lines = [
        f"job {job.id}: {job.status}{by}",
        *about,
        f"  {job.spent.tokens} tokens in {job.spent.calls} calls, {job.cost}",
        *([f"  {job.error}"] if job.error else []),
        *([f"  {verdict_of(job.verdict)}"] if job.verdict is not None else []),
    ]
    for each in job.candidates:
        score = each.get("score")
        shown = f"{score:.3f}" if isinstance(score, (int, float)) else "no score"
        lines.append(f"  candidate {each.get('name', '?')}: {shown} on {each.get('rows', '?')} rows")
    return "\n".join(lines) + "\n"


def _day(at: float | None) -> str:
    return "never" if at is None else day_text(at)
