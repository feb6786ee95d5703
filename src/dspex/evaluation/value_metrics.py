"""Metrics that compare values, not words: numbers within a tolerance, and JSON by its structure."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException

from dspex.errors import ConfigError
from dspex.evaluation.metrics import Metric, Score, answers_of, value_of
from dspex.programs import Example, to_plain

__all__ = ["json_match", "numeric_match"]

_SIGN = r"(?:(?<!\d)[-+])?"
_NUMBER = re.compile(rf"{_SIGN}(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{{1,4}})?|{_SIGN}\.\d+")
_MOST_DIGITS = 1_000
"""Digits of a number that is still read; a longer one is not what anybody meant."""
_MOST_TOLD = 5
"""Differences that the feedback names."""
_MISSING = object()


@dataclass(frozen=True, slots=True)
class _NumericMatch:
    field: str
    tolerance: Decimal
    relative: bool

    def __call__(self, example: Example, prediction: object) -> Score:
        given = number_in(value_of(prediction, self.field))
        wanted = [number for each in answers_of(example, self.field) if (number := number_in(each)) is not None]
        if not wanted:
            raise ValueError(f"the example's {self.field} holds no number")
        if given is None:
            return Score(0.0, f"there is no number in {self.field}; {wanted[0]} was wanted")
        right = any(self._near(each, given) for each in wanted)
        return Score(float(right), "" if right else f"{given} is not {wanted[0]}")

    def _near(self, wanted: Decimal, given: Decimal) -> bool:
        try:
            limit = self.tolerance * abs(wanted) if self.relative else self.tolerance
            return abs(wanted - given) <= limit
        except DecimalException:  # they are so far apart that the difference has no number
            return wanted == given


def numeric_match(field: str = "answer", *, tolerance: float = 1e-6, relative: bool = True) -> Metric:
    """
    Return a metric: whether the last number in the prediction's ``field`` is the example's, within a tolerance.

    The last number counts because a worked answer ends in its result: ``"3 * 4 = 12"`` is 12. Thousands may be set
    apart by commas. A text without a number scores 0, and the feedback says so.

    Args:
        field: The field of both. An example may hold a list of acceptable numbers.
        tolerance: How far they may be apart.
        relative: True when the tolerance is a share of the example's number; False when it is a distance.

    Raises:
        ConfigError: The tolerance is not a finite number from 0 on.
    """
    if not 0 <= tolerance < float("inf"):
        raise ConfigError(f"tolerance={tolerance!r} must be a finite number, 0 or more")
    return _NumericMatch(field, Decimal(str(tolerance)), relative)


def number_in(value: object) -> Decimal | None:
    """Return a number, or the last number of a text; None where there is none, and for what is not finite."""
    if isinstance(value, bool):
        return None
    text = value if isinstance(value, str) else str(value)
    last = deque(_NUMBER.finditer(text.replace("\N{MINUS SIGN}", "-")), maxlen=1)
    if not last or len(last[0].group()) > _MOST_DIGITS:
        return None
    try:
        number = Decimal(last[0].group().replace(",", ""))
    except DecimalException:
        return None
    return number if number.is_finite() else None


@dataclass(frozen=True, slots=True)
class _JsonMatch:
    field: str
    partial: bool

    def __call__(self, example: Example, prediction: object) -> Score:
        wanted = _read(_plain_field(example, self.field))
        if wanted is _MISSING:
            raise ValueError(f"the example's {self.field} is not JSON")
        given = _read(_plain_field(prediction, self.field))
        if given is _MISSING:
            return Score(0.0, f"{self.field} is not JSON")
        leaves, wrong = 0, list[str]()
        for problem in _compared(wanted, given):
            leaves += 1
            if problem:
                wrong.append(problem)
        share = 1 - len(wrong) / leaves
        more = f"; and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
        return Score(share if self.partial else float(not wrong), "; ".join(wrong[:_MOST_TOLD]) + more)


def json_match(field: str = "answer", *, partial: bool = False) -> Metric:
    """
    Return a metric: whether ``field`` is the same JSON in the prediction and in the example.

    A text is read as JSON, other values are compared as JSON has them. The order of keys does not matter, that of lists
    does; 1 and 1.0 are equal, 1 and true are not. The feedback names the places that differ.

    Args:
        field: The field of both.
        partial: True for the share of places that agree; a missing and a superfluous place are one wrong place each.
    """
    return _JsonMatch(field, partial)


def _plain_field(record: object, name: str) -> object:
    value = value_of(record, name)
    return value if isinstance(value, str) else to_plain(value)


def _read(value: object) -> object:
    """Return a JSON value, or the mark that there is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _MISSING


def _compared(wanted: object, given: object) -> Iterator[str]:
    """Give an empty text for each place that agrees, and words for each that does not: without recursion."""
    waiting: list[tuple[str, object, object]] = [("$", wanted, given)]
    while waiting:
        where, one, two = waiting.pop()
        if one is _MISSING:
            yield f"{where} should not be there"
        elif two is _MISSING:
            yield f"{where} is missing"
        elif isinstance(one, Mapping) and isinstance(two, Mapping) and (one or two):
            names = list(dict.fromkeys((*one, *two)))
            inside = [(f"{where}.{name}", one.get(name, _MISSING), two.get(name, _MISSING)) for name in names]
            waiting += reversed(inside)
        elif isinstance(one, list) and isinstance(two, list) and (one or two):
            longest = max(len(one), len(two))
            pairs = zip(*(each + [_MISSING] * (longest - len(each)) for each in (one, two)), strict=True)
            waiting += reversed([(f"{where}[{at}]", first, second) for at, (first, second) in enumerate(pairs)])
        else:
            same = isinstance(one, bool) == isinstance(two, bool) and type_of(one) == type_of(two) and one == two
            yield "" if same else f"{where} is {_short(two)}, not {_short(one)}"


def type_of(value: object) -> str:
    """Return the kind of a JSON value: whole and broken numbers are one kind."""
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
