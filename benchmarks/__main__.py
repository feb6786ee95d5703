"""
Measure what dspex costs beside its floors and peers: ``python -m benchmarks``.

Every contender runs in its own process; they take turns, and each round's ratio is taken by itself, so that a busy
machine slows both sides of it. The table tells the median ratio and its quartiles.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyperf

from benchmarks._erlang import installed, release
from benchmarks._erlang_rows import ERLANG_GROUPS
from benchmarks._facts import facts
from benchmarks._publish import ERLANG, LATEST, PAGE, README, publish
from benchmarks._race import ContenderFailed, profile, race, trace_path
from benchmarks._report import Result, Turn, figures, summary, table, to_json
from benchmarks._row import Group, Size
from benchmarks._rows import GROUPS, MILLION, rows_of


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The costs of dspex, beside its peers.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a group or row; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns, for a first look")
    parser.add_argument("--erlang", action="store_true", help="the rows beside Erlang/OTP instead, if it is installed")
    parser.add_argument("--million", action="store_true", help="weigh a million idle actors, once; nothing else")
    parser.add_argument("--list", action="store_true", help="name the rows and their budgets, measure nothing")
    parser.add_argument("--profile", metavar="ROW", help="show where our side of a row spends its time, nothing else")
    parser.add_argument("--path", action="store_true", help="trace one warm Predict: calls, files, awaits, objects")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"where results go; a full run writes {LATEST.name}")
    parser.add_argument("--pyperf", type=Path, metavar="FILE", help="all turns, for `python -m pyperf compare_to`")
    shown = f"docs/{PAGE.name} and {README.name}"
    parser.add_argument(
        "--publish", action="store_true", help=f"write the tables of {shown} from the files, measure nothing"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, print the table, write the files.

    Returns:
        0; 1 when a contender could not be measured; 2 when a name is unknown. A missed budget is a result, no failure.
    """
    options = _parser().parse_args(arguments)
    try:
        only = (options.profile,) if options.profile else tuple(options.only)
        groups = rows_of(("memory",)) if options.million else rows_of(only, ERLANG_GROUPS if options.erlang else GROUPS)
    except LookupError as error:
        print(f"benchmarks: {error.args[0]}", file=sys.stderr)
        return 2
    if options.publish:
        publish()
        return 0
    if options.path:
        trace_path()
        return 0
    if options.list:
        for row in (row for group in groups for row in group.rows):
            print(f"{row.name:22} {row.budget or '-'!s:9} {row.title}, beside {row.versus}")
        return 0
    if options.erlang and not installed():
        print("benchmarks: Erlang is not installed (there is no erl and erlc), so there is nothing to compare with")
        return 0
    if options.million:
        groups = tuple(replace(each, size=Size(MILLION, MILLION, rounds=1, starts=1)) for each in groups)
    if options.profile:
        size = groups[0].size
        number = size.quick if size is not None else None
        profile(groups[0].rows[0].ours, server=groups[0].server, seconds=1.0, operations=number)
        return 0
    failed = False
    results: list[Result] = []
    suite: list[pyperf.Benchmark] = []
    for group in groups:
        print(f"{group.name} ...", end="", file=sys.stderr, flush=True)
        try:
            rounds = _measure(group, quick=options.quick)
        except ContenderFailed as error:
            print(f" {error}", file=sys.stderr)
            failed = True
            continue
        print(f" {len(rounds)} rounds", file=sys.stderr)
        results += [summary(row, rounds) for row in group.rows]
        suite += _pyperf(group, rounds)
    print(table(results))
    for line in figures(results):
        print(line)
    whole = not (options.quick or options.only or options.million)
    target = options.json or ((ERLANG if options.erlang else LATEST) if whole else None)
    if target is not None:
        known = facts() | ({"erlang_otp": release()} if options.erlang else {})
        target.write_text(json.dumps(to_json(results, known, quick=options.quick), indent=2, ensure_ascii=False) + "\n")
    if options.pyperf is not None:
        pyperf.BenchmarkSuite(suite).dump(str(options.pyperf), replace=True)
    return 1 if failed else 0


def _measure(group: Group, *, quick: bool) -> list[dict[str, Turn]]:
    """Return the rounds of one group."""
    seconds = group.seconds * (0.5 if quick else 1.0)
    size = group.size
    if size is not None:
        number, rounds, starts = (size.quick, size.rounds, 1) if quick else (size.full, size.rounds, size.starts)
        return list(race(group, rounds=rounds, starts=starts, seconds=seconds, operations=number))
    return list(race(group, rounds=3 if quick else 5, starts=1 if quick else 3, seconds=seconds))


def _pyperf(group: Group, rounds: Sequence[Mapping[str, Turn]]) -> list[pyperf.Benchmark]:
    """Return every contender's turns as pyperf keeps them: elapsed and CPU seconds of one operation."""
    found = []
    for name in group.contenders:
        for clock in ("wall", "cpu"):
            values = [getattr(each[name], clock) for each in rounds]
            metadata = {"name": f"{group.name} {name} {clock}", "unit": "second"}
            found.append(pyperf.Benchmark([pyperf.Run(values, metadata=metadata, collect_metadata=False)]))
    return found


if __name__ == "__main__":
    sys.exit(main())
