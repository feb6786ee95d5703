"""Headroom: does anything simple move the score at all? Asked before money is spent on a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dspex.errors import ConfigError
from dspex.evaluation import Interval, Report
from dspex.evaluation.intervals import signed
from dspex.optimizers.verdict import interval_of
from dspex.programs import DEFAULT_ADAPTER, Adapter, Module

__all__ = ["HeadroomReport", "Variant", "headroom_of", "variants_of"]

AdapterName = Literal["auto", "chat", "json", "xml"]

WORDS: Mapping[str, str] = {
    "think first": "Think about it step by step before you answer.",
    "be careful": "Read everything twice. Answer exactly what is asked, in the form that is asked for.",
    "short": "Answer as shortly as you can.",
}
"""Sentences that are put behind the instructions of every predictor."""

ADAPTERS: tuple[AdapterName, ...] = ("auto", "chat", "json", "xml")


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One simple change, and how it did against the program as it is.

    Attributes:
        name: The change.
        score: Its mean.
        by: The mean gain, on rows that both scored.
        interval: 95 % confidence for the gain.
        p: The probability that chance alone would make so large a difference.
        rows: Rows that both scored.
    """

    name: str
    score: float
    by: float
    interval: Interval
    p: float
    rows: int


@dataclass(frozen=True, slots=True)
class HeadroomReport:
    """
    The effect of simple changes on a program's score; ``print`` it.

    Attributes:
        score: The program's own mean.
        variants: The changes, the best gain first.
        likely: True when one of them moves the score more than chance does, after correction for their number.
        detectable: The smallest gain that so many rows can show, judged by how the variants differ from the program.
        cost: Dollars paid for this; None where a price is unknown.
    """

    score: float
    variants: tuple[Variant, ...]
    likely: bool
    detectable: float
    cost: Decimal | None

    def __str__(self) -> str:
        head = "likely" if self.likely else "not shown"
        lines = [
            f"headroom {head}: the program scores {self.score:.3f}; gains below {self.detectable:.3f} cannot be seen"
        ]
        for each in self.variants:
            bounds = f"95 % {signed(each.interval.low)} to {signed(each.interval.high)}"
            lines.append(f"  {signed(each.by)} ({bounds}, p = {each.p:.3g}) {each.name}")
        return "\n".join(lines)


def variants_of(program: Module, default: Adapter | None = None) -> dict[str, Module]:
    """
    Return simple changes of a program by name: other formats than its own, and a sentence behind each instruction.

    Args:
        program: The program.
        default: The adapter of predictors that have none of their own; None is ``auto``.
    """
    predictors = program.predictors()
    if not predictors:
        raise ConfigError(f"{type(program).__name__} has no predictors: there is nothing to change")
    changed: dict[str, Module] = {}
    own = {(each.adapter or default or DEFAULT_ADAPTER).name for each in predictors.values()}
    for adapter in ADAPTERS:
        if own == {adapter}:
            continue
        changed[f"adapter {adapter}"] = program.with_adapter(adapter)
    for name, words in WORDS.items():
        parts: dict[str, Module] = {
            path: each.with_instructions(f"{each.signature.instructions}\n\n{words}")
            for path, each in predictors.items()
        }
        if predictors.keys() == {"self"}:
            changed[f"words: {name}"] = parts["self"]
        else:
            changed[f"words: {name}"] = program.replace(parts)
    return changed


def headroom_of(base: Report, reports: Mapping[str, Report]) -> HeadroomReport:
    """
    Return what reports of variants say against that of the program itself, on the same rows.

    A variant moves the score when its p is below 0.05 divided by their number (Bonferroni).
    """
    variants = []
    spreads = []
    for name, report in reports.items():
        compared = report.compare(base)
        moved = _moved(base, report)
        spreads.append(_spread(moved))
        variants.append(
            Variant(name, report.score, compared.difference, interval_of(moved, 0), compared.p_value, compared.pairs)
        )
    variants.sort(key=lambda each: (-each.by, each.name))
    rows = max((each.rows for each in variants), default=0)
    spread = max(sorted(spreads)[len(spreads) // 2], math.sqrt(1 / rows)) if rows else math.inf
    costs = [each.cost for each in (base, *reports.values())]
    known = [cost for cost in costs if cost is not None]
    likely = any(each.by > 0 and each.p < 0.05 / len(variants) for each in variants)
    cost = sum(known, Decimal(0)) if len(known) == len(costs) else None
    return HeadroomReport(base.score, tuple(variants), likely, 2.8 * spread / math.sqrt(max(1, rows)), cost)


def _moved(base: Report, report: Report) -> Sequence[float]:
    before = [getattr(each, "score", None) for each in base.outcomes]
    after = [getattr(each, "score", None) for each in report.outcomes]
    return [y.value - x.value for x, y in zip(before, after, strict=True) if x is not None and y is not None]


def _spread(moved: Sequence[float]) -> float:
    if len(moved) < 2:
        return math.inf
    mean = math.fsum(moved) / len(moved)
    return math.sqrt(math.fsum((each - mean) ** 2 for each in moved) / (len(moved) - 1))
