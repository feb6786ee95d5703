"""
Optimize with a real model: ``python -m benchmarks.learning``.

The matrix is tasks x optimizers, ours and DSPy's, each on the same rows. A cell that was stopped goes on: ours from the
job's journal, DSPy's from its cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.estimate import estimate
from benchmarks.learning.meter import Meter
from benchmarks.learning.ours import OURS, learn_ours
from benchmarks.learning.report import markdown
from benchmarks.learning.rows import TASKS, Lesson, Sizes, read_lesson
from benchmarks.learning.theirs import THEIRS, learn_theirs
from benchmarks.real.relay import Relay
from benchmarks.real.sides import has_dspy
from benchmarks.real.tasks import DataMissing

HOME = Path(".dspex") / "bench-learning"
RESULTS = Path(__file__).resolve().parents[1] / "results" / "learning.json"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks-learning.md"
CELLS = (*(f"dspex/{name}" for name in OURS), *(f"dspy/{name}" for name in THEIRS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description="Optimizers on a real model.")
    parser.add_argument("--api-base", default="http://127.0.0.1:8080/v1", help="the model's server")
    parser.add_argument("--data", type=Path, help="the folder with BANKING77 and GSM8K (DSPEX_BENCH_DATA)")
    parser.add_argument("--home", type=Path, default=HOME, help="journals and caches; one folder a model")
    parser.add_argument("--task", action="append", default=[], choices=TASKS, help="may be repeated; all by default")
    parser.add_argument("--cell", action="append", default=[], choices=CELLS, help="may be repeated; all by default")
    parser.add_argument("--learn", type=int, default=Sizes.learn, help="rows to take demonstrations from")
    parser.add_argument("--choose", type=int, default=Sizes.choose, help="rows to choose by")
    parser.add_argument("--hold", type=int, default=Sizes.hold, help="rows to be judged on")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no more cells after so long")
    parser.add_argument("--estimate", action="store_true", help="measure nothing: tell what is left")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the result file and the page")
    parser.add_argument("--model", default="", help="with --report: the model's name and file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure what is missing.

    Returns:
        0 when all that was asked for is measured; 3 when something is left for another sitting, or has failed; 2 for a
        wrong word.
    """
    options = _parser().parse_args(arguments)
    if options.report:
        return _report(options)
    named = options.data or os.environ.get("DSPEX_BENCH_DATA")
    sizes = Sizes(options.learn, options.choose, options.hold)
    try:
        lessons = [read_lesson(Path(named) if named else None, each, sizes) for each in options.task or TASKS]
    except DataMissing as error:
        print(f"benchmarks.learning: {error}", file=sys.stderr)
        return 2
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell makes its background jobs ignore Ctrl-C
        signal.signal(each, signal.default_int_handler)
    cells = [each for each in options.cell or CELLS if each.startswith("dspex/") or has_dspy()]
    if len(cells) < len(options.cell or CELLS):
        print("DSPy is not installed here: its cells are left out", file=sys.stderr)
    until = time.monotonic() + 60 * options.minutes
    failed = False
    print(_told(options.home, lessons, cells, sizes), flush=True)
    if options.estimate:
        return 0
    for lesson in lessons:
        for cell in cells:
            place = options.home / lesson.name / cell.replace("/", "-")
            done = place / "result.json"
            if done.exists():
                continue
            if time.monotonic() > until:
                return 3
            print(f"{lesson.name} {cell} ...", end="", flush=True)
            begun = time.monotonic()
            meter = Meter(place / "asked.jsonl")
            before = meter.totals()["calls"]
            try:
                with _relay(options, meter) as relay:
                    side, _, name = cell.partition("/")
                    if side == "dspex":
                        found = asyncio.run(learn_ours(lesson, name, relay.url(0), place))
                    else:
                        found = learn_theirs(lesson, name, relay.url(0), place)
            except KeyboardInterrupt:
                print(" stopped; it goes on from here", file=sys.stderr)
                return 3
            except Exception as error:
                print(f" failed: {type(error).__name__}: {error}", file=sys.stderr)
                failed = True
                continue
            found |= {"task": lesson.name, "cell": cell, **meter.totals(), "seconds": time.monotonic() - begun}
            found["sitting_calls"] = found["calls"] - before
            found |= {"rows": [len(lesson.learn), len(lesson.choose), len(lesson.hold)]}
            beside = done.with_suffix(".part")
            beside.write_text(json.dumps(found))
            beside.replace(done)
            print(f" {found['right'].count('1')} of {len(found['right'])} right, {found['calls']} calls")
            print(_told(options.home, lessons, cells, sizes), flush=True)
    return 3 if failed else 0


def _relay(options: argparse.Namespace, meter: Meter) -> Relay:
    """Return what stands before the model, at the address of earlier sittings: journals and caches know it by that."""
    kept = options.home / "port"
    relay = Relay(options.api_base, on_exchange=meter.note, port=int(kept.read_text()) if kept.exists() else 0)
    if not kept.exists():
        kept.write_text(str(relay.port))
    return relay


def _told(home: Path, lessons: Sequence[Lesson], cells: Sequence[str], sizes: Sizes) -> str:
    """Return what is left, for people."""
    left, results = [], []
    for lesson in lessons:
        for cell in cells:
            done = home / lesson.name / cell.replace("/", "-") / "result.json"
            if done.exists():
                results.append(json.loads(done.read_text()))
            else:
                left.append((lesson.name, cell))
    return estimate(left, results, sizes)


def _report(options: argparse.Namespace) -> int:
    from benchmarks._facts import facts  # pyperf is in the benchmarks' environment only

    cells: list[dict[str, Any]] = []
    for task in TASKS:
        for cell in CELLS:
            done = options.home / task / cell.replace("/", "-") / "result.json"
            if done.exists():
                cells.append(json.loads(done.read_text()))
    result = {"format": 1, "facts": {**facts(), "model": options.model}, "cells": cells}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    begin, end = "<!-- results begin -->", "<!-- results end -->"
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n\n{markdown(result)}\n\n{end}{rest.partition(end)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
