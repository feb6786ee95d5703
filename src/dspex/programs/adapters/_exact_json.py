"""JSON without a loss: numbers keep how they are written, a key that is there twice is not overwritten."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Self, TypeVar

from pydantic_core import from_json

from dspex.protocols.surrogates import mended

__all__ = [
    "DoubleKey",
    "ExactFloat",
    "exact_at",
    "exact_json",
    "number",
    "refuse_controls",
    "refuse_losses",
    "without_texts",
]

T = TypeVar("T")


class DoubleKey(ValueError):
    """One key of an object has two values; other readers keep the last without a word."""


class ExactFloat(float):
    """
    A number whose digits say more than the float does: ``1.10`` as a text is not ``1.1``.

    Attributes:
        text: The number as it was written.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number that a text is."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __eq__(self, other: object) -> bool:
        """Compare with another number, or with a text as it is written."""
        return other == self.text if isinstance(other, str) else float.__eq__(self, other)

    __hash__ = float.__hash__

    def __reduce__(self) -> tuple[type[float], tuple[str]]:
        """Leave the process as a plain number."""
        return float, (self.text,)


def number(text: str) -> float:
    """
    Return a number with a point or an exponent.

    Raises:
        ValueError: It is larger than a float can be: infinity is not what was written.
    """
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value if repr(value) == text else ExactFloat(text)


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for name, value in pairs:
            if found[name] != value:
                raise DoubleKey(f"the key {name!r:.60} is there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=number)
_MAY_LOSE = re.compile(r"\d[.eE]|\{[^{]*\{|\\u[dD]")
_KEY = re.compile(r'"\s*:')
_LOSES = re.compile(r"\d[eE]\+?\d{3}|\{")


def exact_json(text: str) -> object:
    """
    Return the JSON value that the whole text is; some of its floats may be ``ExactFloat``.

    Raises:
        DoubleKey: An object has one key twice, with two values.
        ValueError: It is not JSON, or has a number that is too large.
    """
    if _MAY_LOSE.search(text) is None:
        try:
            found = from_json(text)
        except TypeError as error:  # half a surrogate pair
            raise ValueError("it is not a text") from error
        if not isinstance(found, dict) or len(_KEY.findall(text)) == len(found):
            return found  # one object at most, and no key that another reader would drop
    try:
        return _mended(text, _DECODER.decode(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def exact_at(text: str, at: int) -> tuple[object, int]:
    """Return the JSON value that begins at ``at``, and where it ends; errors as in ``exact_json``."""
    value, end = _DECODER.raw_decode(text, at)
    return _mended(text, value), end


def _mended(text: str, value: object) -> object:
    return mended(value) if "\\ud" in text or "\\uD" in text else value


def refuse_losses(text: str) -> None:
    """Raise what ``exact_json`` and ``refuse_controls`` raise for a text that is JSON."""
    refuse_controls(text)
    if _LOSES.search(text) is not None:
        _DECODER.decode(text)


_SINGLE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\(?:[bfr](?=[A-Za-z])|nabla(?![a-z])|t(?:imes|heta|riangle)(?![a-z])|t(?:ext\w{0,6}|frac|ilde)(?=\{)))"
)
_CONTROLS = re.compile(
    r"[\b\f\r](?=[A-Za-z])|\nabla(?![a-z])|\t(?:imes|heta|riangle)(?![a-z])|\t(?:ext\w{0,6}|frac|ilde)(?=\{)"
)


def refuse_controls(text: str, value: object = None) -> None:
    r"""
    Refuse JSON in which a command of LaTeX or a pattern has become a control character: ``"\frac"`` is not a text.

    Args:
        text: The JSON, perhaps among other text.
        value: Its value, where there is other text around it.

    Raises:
        ValueError: A backslash stands where two were meant.
    """
    if "\\" not in text or (found := _SINGLE.search(text)) is None:
        return
    if value is None or _has_controls(value):
        word = re.compile(r"\\\w{1,20}").match(text, found.start(1))
        shown = word[0] if word is not None else found[1]
        raise ValueError(f"JSON reads the beginning of `{shown}` as a control character: write its backslash twice")


def _has_controls(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_controls, value.values()))
    if isinstance(value, list):
        return any(map(_has_controls, value))
    return isinstance(value, str) and _CONTROLS.search(value) is not None


def without_texts(value: T) -> T:
    """Return a JSON value with plain floats only."""
    plain: T = _plain(value)
    return plain


def _plain(value: object) -> Any:
    if isinstance(value, ExactFloat):
        return float(value)
    if isinstance(value, list):
        return list(map(_plain, value))
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value
