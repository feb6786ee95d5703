"""
Ask a real model in every form: ``python -m benchmarks.real``.

The matrix is tasks x forms x demonstrations. Every row goes into a journal as soon as it is known; the next run goes on
from there, or with ``--earlier`` from a result file, whose journal is gone.
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

from benchmarks.real.journal import Journal
from benchmarks.real.report import in_short, known_rows, markdown, of_another, result_file
from benchmarks.real.run import Plan, measure
from benchmarks.real.sides import FORMS, has_dspy
from benchmarks.real.tasks import TASKS, TITLES, DataMissing, read_tasks

JOURNAL = Path(".dspex") / "bench-real.jsonl"
RESULTS = Path(__file__).resolve().parents[1] / "results" / "real.json"
README = Path(__file__).resolve().parents[2] / "README.md"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks-real.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description="A real model as the judge.")
    parser.add_argument("--api-base", default="http://127.0.0.1:8080/v1", help="the model's server")
    parser.add_argument("--data", type=Path, help="the folder with BANKING77, GSM8K and HotpotQA (DSPEX_BENCH_DATA)")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="what was measured so far; one file a model")
    parser.add_argument("--task", action="append", default=[], choices=TASKS, help="may be repeated; all by default")
    parser.add_argument("--form", action="append", default=[], choices=FORMS, help="may be repeated; all by default")
    parser.add_argument("--demos", action="append", type=int, default=[], choices=(0, 4), help="0, 4, or both")
    parser.add_argument("--rows", type=int, default=100, help="rows of each cell at most")
    parser.add_argument("--earlier", type=Path, help="a result file of this model: its rows count and are not asked")
    parser.add_argument("--lanes", type=int, default=4, help="requests at once")
    parser.add_argument("--first-turn", action="store_true", help="no repair turns; for a journal of its own")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the result file and the page")
    parser.add_argument("--model", default="", help="with --report: the model's name and file")
    parser.add_argument("--note", action="append", default=[], help="with --report: what a reader must know")
    parser.add_argument("--busy", action="store_true", help="with --report: leave times out, the machine was not idle")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no more rows after so long")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure.

    Returns:
        0 when all that was asked for is measured; 3 when something is left for another sitting; 2 for a wrong word.
    """
    options = _parser().parse_args(arguments)
    if options.report:
        return _report(options)
    named = options.data or os.environ.get("DSPEX_BENCH_DATA")
    try:
        tasks = read_tasks(Path(named) if named else None, frozenset(options.task), options.rows)
    except DataMissing as error:
        print(f"benchmarks.real: {error}", file=sys.stderr)
        return 2
    forms = options.form or FORMS
    if not has_dspy():
        left = [each for each in forms if each.startswith("dspy/")]
        forms = [each for each in forms if each not in left]
        if left:
            print(f"DSPy is not installed here: {', '.join(left)} left out", file=sys.stderr)
    plan = Plan(
        tasks,
        forms,
        tuple(options.demos) or (0, 4),
        options.rows,
        options.lanes,
        options.first_turn,
        known_rows(json.loads(options.earlier.read_text())) if options.earlier else frozenset(),
    )
    journal = Journal(options.journal)
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell makes its background jobs ignore Ctrl-C
        signal.signal(each, signal.default_int_handler)
    try:
        whole = asyncio.run(
            measure(
                plan,
                journal,
                options.api_base,
                until=time.monotonic() + 60 * options.minutes,
                tell=lambda line: print(line, flush=True),
            )
        )
    except KeyboardInterrupt:
        print(f"stopped; {len(journal.rows)} rows are kept in {options.journal}", file=sys.stderr)
        return 3
    finally:
        journal.close()
    return 0 if whole else 3


def _report(options: argparse.Namespace) -> int:
    from benchmarks._facts import facts  # pyperf is in the benchmarks' environment only

    earlier = json.loads(options.earlier.read_text()) if options.earlier else None
    known = {**facts(), "model": options.model or (earlier["facts"]["model"] if earlier else "")}
    peer = f"DSPy {known['packages']['dspy']}"  # type: ignore[index]  # of facts()
    if earlier is not None and (wrong := of_another(earlier["facts"], known)):
        print(f"benchmarks.real: {options.earlier} is of {wrong}: rows of both are not added up", file=sys.stderr)
        return 2
    journal = Journal(options.journal)
    journal.close()
    result = result_file(list(journal.cells()), known, options.note, times=not options.busy, earlier=earlier)
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    notes = "\n".join(f"- {note}" for note in options.note)
    text = f"{notes}\n\n{markdown(result, TITLES)}" if notes else markdown(result, TITLES)
    _put(PAGE, "results", text)
    _put(README, "real", in_short(result, peer))
    return 0


def _put(page: Path, name: str, text: str) -> None:
    """Write between two comments of a page."""
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    sys.exit(main())
