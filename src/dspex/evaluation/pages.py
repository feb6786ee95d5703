"""A report as the data of a page: failures first, bounded, with what is left out. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dspex._clock import day_text

if TYPE_CHECKING:
    from dspex.evaluation.report import Comparison, Report

__all__ = ["TOTAL", "page_of"]

TOTAL: Final = 4_000_000
"""Characters of rows that a page holds."""

LONGEST: Final = 4_000
"""Characters of one text."""

SHORT: Final = 300
"""Characters of one text of rows for which the page has little room left."""

BINS: Final = ("0", *(f"{low / 10:.1f} to {(low + 1) / 10:.1f}" for low in range(10)), "1", "failed")
"""The bars of scores: those of exactly nothing, of everything, and the failed ones stand apart."""


def page_of(report: Report, before: Report | None, now: float) -> dict[str, object]:
    """
    Return the data of a page.

    Args:
        report: The evaluation.
        before: Another of the same examples, to compare with; None for none.
        now: Seconds since 1970, for the page's date.

    Raises:
        EvaluationError: The two are of other examples, or share no scored row.
    """
    compared = report.compare(before) if before is not None else None
    rows = report.rows()
    values = [None if row["score"] is None else float(str(row["score"])) for row in rows]
    changed = {each.row: each.before for each in compared.changed} if compared is not None else {}
    old = before.rows() if before is not None else []
    order = sorted(range(len(rows)), key=lambda at: _weight(at, values[at], changed))
    table, room = [], TOTAL
    for at in order:
        row = _row(rows[at], report, LONGEST if room > TOTAL // 4 else SHORT)
        if at in changed:
            was = _row(old[at], before, LONGEST)
            row |= {"before": changed[at], "before_prediction": was["prediction"] or was["error"]}
        room -= sum(len(each) for each in row.values() if isinstance(each, str)) + 150
        if room < 0:
            break
        table.append(row)
    told = _told(report, values, now)
    told |= {"table": table, "left_out": len(rows) - len(table), "left_why": _why(len(rows) - len(table), changed)}
    told["comparison"] = _comparison(compared, report, before) if compared is not None else None
    return told


def _weight(at: int, value: float | None, changed: Mapping[int, float | None]) -> tuple[float, ...]:
    """Return where a row stands: what became worse first, then failures, then the lowest scores."""
    score = -1.0 if value is None else value
    if at in changed:
        before = changed[at]
        return 0.0, score - (-1.0 if before is None else before), at
    return 1.0, score, at


def _why(left: int, changed: Mapping[int, object]) -> str:
    first = "what became worse, failures" if changed else "failures"
    return (
        f"{left:,} of the rows are left out of this page: {first} and low scores come first. save() writes all of them."
    )


def _told(report: Report, values: Sequence[float | None], now: float) -> dict[str, object]:
    scored = report.has_score
    text = (
        str(report).partition("\n")[0] if scored else report.problem()[:LONGEST] if report.failed else "no row was run"
    )
    counted = Counter(_bin(each) for each in values)
    return {
        "kind": "evaluation",
        "made": f"written {day_text(now)}",
        "program": report.program,
        "verdict": text,
        "score": report.score if scored else None,
        "low": report.interval.low if scored else None,
        "high": report.interval.high if scored else None,
        "rows": len(report.outcomes),
        "scored": len(report.scored),
        "failed": len(report.failed),
        "not_run": report.not_run,
        "reasons": Counter(type(each.reason).__name__ for each in report.failed).most_common(12),
        "cost": None if report.cost is None else f"{report.cost:f}",
        "tokens": [report.usage.input_tokens, report.usage.output_tokens],
        "latency": list(report.latency),
        "bins": [{"name": name, "count": counted[name]} for name in BINS],
    }


def _bin(value: float | None) -> str:
    if value is None:
        return "failed"
    if value <= 0:
        return "0"
    return "1" if value >= 1 else BINS[1 + min(9, int(value * 10))]


def _row(row: Mapping[str, Any], report: Report | None, most: int) -> dict[str, object]:
    assert report is not None
    given = _inputs(report.outcomes[row["row"]])
    if given and isinstance(row["prediction"], Mapping):
        answer = {name: value for name, value in row["prediction"].items() if name not in given}
        row = {**row, "prediction": answer}
    tokens = (row["input_tokens"] or 0) + (row["output_tokens"] or 0)
    told: dict[str, object] = {name: row[name] for name in ("row", "score", "seconds", "usd", "calls")}
    told |= {name: _text(row[name], most) for name in ("feedback", "error", "example", "prediction")}
    return {**told, "tokens": tokens}


def _inputs(outcome: object) -> set[str]:
    """Return the names of the inputs that an answer holds as well: they stand in the example."""
    fields = getattr(type(getattr(outcome, "value", None)), "fields", None)
    if not isinstance(fields, Mapping):
        return set()
    return {name for name, each in fields.items() if getattr(each, "role", "") == "input"}


def _text(value: object, most: int) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, Mapping) and value:
        text = "\n".join(f"{name}: {_text(each, most)}" for name, each in list(value.items())[:50])
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def _comparison(found: Comparison, report: Report, before: Report | None) -> dict[str, object]:
    better = sum(
        (-1.0 if each.after is None else each.after) > (-1.0 if each.before is None else each.before)
        for each in found.changed
    )
    assert before is not None
    return {
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.p_value,
        "pairs": found.pairs,
        "excluded": found.excluded,
        "better": better,
        "worse": len(found.changed) - better,
        "before": before.score if before.has_score else None,
        "after": report.score if report.has_score else None,
        "verdict": _verdict(found),
    }


def _verdict(found: Comparison) -> str:
    if found.interval.low > 0:
        return f"It is better than before. {found}"
    if found.interval.high < 0:
        return f"It is worse than before. {found}"
    return f"These rows do not show a difference. {found}"
