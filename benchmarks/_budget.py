"""Budgets: bounds on how many times the peer's cost something has, on how many times cheaper it is, or on the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Budget", "BudgetInvalid", "Verdict"]

Verdict = Literal["met", "missed", "-"]

_TEXT = re.compile(r"(<=|>=) (\d+(?:\.\d+)?)(x|us)")


class BudgetInvalid(ValueError):
    """A budget is not written as ``<= 2.0x`` or ``>= 12x``."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} is not a budget: write '<= 2.0x' (of the peer's cost), '>= 12x' (cheaper) or "
            "'<= 150us' (above the peer's cost)"
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """
    A bound on a ratio.

    Attributes:
        limit: The bound.
        cheaper: True when the ratio is the peer's cost over ours and must be at least ``limit``; False when it is
            ours over the peer's and must be at most ``limit``.
        above: True when the "ratio" is what our cost has above the peer's, in microseconds.
    """

    limit: float
    cheaper: bool
    above: bool = False

    @classmethod
    def parse(cls, text: str) -> Budget:
        """
        Read ``<= 2.0x``, ``>= 12x`` or ``<= 150us``.

        Raises:
            BudgetInvalid: It is written otherwise, or the bound is zero.
        """
        found = _TEXT.fullmatch(text)
        if found is None or float(found[2]) == 0.0 or (found[1], found[3]) == (">=", "us"):
            raise BudgetInvalid(text)
        return cls(float(found[2]), found[1] == ">=", found[3] == "us")

    def ratio(self, ours: float, peer: float) -> float:
        """Return the ratio of two costs that this budget bounds."""
        if self.above:
            return (ours - peer) * 1e6
        return peer / ours if self.cheaper else ours / peer

    def verdict(self, ratio: float) -> Verdict:
        """Say whether ``ratio`` keeps the budget."""
        return "met" if (ratio >= self.limit if self.cheaper else ratio <= self.limit) else "missed"

    def __str__(self) -> str:
        return f"{'≥' if self.cheaper else '≤'} {self.limit:g}{' µs' if self.above else 'x'}"
