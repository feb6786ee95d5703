"""From the JSON files of the last full runs to the tables of the documentation's page and of the README: pure text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks._report import Result, markdown

__all__ = ["ERLANG", "FIGURES", "LATEST", "PAGE", "README", "figures_of_readme", "publish", "results_in", "table_in"]

_ROOT = Path(__file__).resolve().parents[1]
LATEST = _ROOT / "benchmarks" / "results" / "latest.json"
ERLANG = LATEST.with_name("erlang.json")
PAGE = _ROOT / "docs" / "benchmarks.md"
README = _ROOT / "README.md"
_TIMES = "\N{MULTIPLICATION SIGN}"

FIGURES = (
    ("http-fast", "`Predict` over HTTP, 256 in flight, `fast` extra", "DSPy `acall`"),
    ("http-core", "the same with the core dependencies alone", "DSPy `acall`"),
    ("own-asyncio", "dspex's own work in a `Predict`, 64 in flight", "a transport without a network"),
    ("cached", "cached `Predict`", "DSPy cached `acall`"),
    ("evaluate", "`evaluate` of 4,000 examples, 1,000 in flight, elapsed", "DSPy `Evaluate` with its best threads"),
    ("first-use", "a fresh process, from `import dspex` to its first answer", "the same with DSPy"),
    ("call-asyncio", "a call to an actor, with timeout", "a bare deque and a Future"),
    ("run-empty", "`app.run` of an empty `forward`", "`create_task` and await"),
    ("restart", "a crashed actor, restarted and answering", "a start"),
)
"""The rows that the README shows, by name, and its own words for them."""


def results_in(path: Path) -> list[Result]:
    """Return the rows of a JSON file of results."""
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def figures_of_readme(results: Iterable[Result]) -> str:
    """Return the README's table; a row that was not measured is left out, and a missed budget is named."""
    measured = {each.name: each for each in results}
    lines = ["| | beside | ratio |", "|---|---|---|"]
    for name, what, beside in FIGURES:
        if name in measured:
            lines.append(f"| {what} | {beside} | {_told(measured[name])} |")
    return "\n".join(lines)


def _told(result: Result) -> str:
    is_gain, ratio = result.budget.startswith("≥"), result.ratio
    shown = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
    told = f"{shown} µs more" if result.budget.endswith("µs") else f"{shown}{_TIMES}{' less' if is_gain else ''}"
    if result.verdict == "missed":
        told += f" (we want {result.budget[2:].replace('x', _TIMES)})"
    return told


def publish() -> None:
    """Write both tables of the page, and the one of the README, from the files of the last full runs."""
    latest = results_in(LATEST)
    _replace(PAGE, "results", markdown(latest))
    _replace(PAGE, "erlang", markdown(results_in(ERLANG)))
    _replace(README, "costs", figures_of_readme(latest))


def _replace(page: Path, which: str, table: str) -> None:
    before, after = _surroundings(page, which)
    page.write_text(f"{before}\n\n{table}\n\n{after}", encoding="utf-8")


def table_in(page: Path, which: str) -> str:
    """Return the table between two marks of a page."""
    before, after = _surroundings(page, which)
    text = page.read_text(encoding="utf-8")
    return text[len(before) : len(text) - len(after)].strip()


def _surroundings(page: Path, which: str) -> tuple[str, str]:
    """Return what stands before and behind a table of a page, with the marks around it."""
    begin, end = f"<!-- {which} begin -->", f"<!-- {which} end -->"
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise LookupError(f"{page.name} has no marks {begin!r} and {end!r}")
    return before + begin, end + after
