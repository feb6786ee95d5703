"""Dates and times as models write them; a plain number is not one, but for seconds since 1970 in recent years."""

from __future__ import annotations

import re

from dspex._clock import DATE_TYPES

__all__ = ["DATE_WORDS", "date_form"]

_DATETIME, _DATE, _TIME, _DURATION = DATE_TYPES
DATE_WORDS: dict[type, str] = {
    _DATETIME: "a date and a time as YYYY-MM-DDTHH:MM:SS",
    _DATE: "a date as YYYY-MM-DD",
    _TIME: "a time as HH:MM:SS",
    _DURATION: "a duration in ISO 8601, such as P1DT2H30M",
}
"""The written form of values, by type."""

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d))?")
_SLASHES = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})")
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAY_FIRST = re.compile(r"(?:\w+,? )?(\d{1,2})(?:st|nd|rd|th)? (?:of )?([A-Za-z]{3,9})\.?,? (\d{4})")
_MONTH_FIRST = re.compile(r"(?:\w+,? )?([A-Za-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})")
_SECONDS = 100_000_000.0  # in 1973; what is less is a year, a day or a time of the day


def date_form(value: object, kind: type) -> object:  # a JSON value
    """
    Return the form in which a date, a time or a duration can be checked.

    Args:
        value: A text or a number; anything else is returned as it is.
        kind: One of ``DATE_TYPES``.

    Raises:
        ValueError: It is a plain number that could mean several things: ``2024`` is a year, not 34 minutes past 1970.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return value
    text = value.strip() if isinstance(value, str) else str(value)
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return value if kind in (_TIME, _DURATION) or not isinstance(value, str) else _named(text)
    if kind is _DURATION:
        return value
    compact = _COMPACT.fullmatch(text)
    if compact is not None and kind is not _TIME and (compact[4] is None or kind is _DATETIME):
        date = f"{compact[1]}-{compact[2]}-{compact[3]}"
        return date if compact[4] is None else f"{date}T{compact[4]}:{compact[5]}:{compact[6]}"
    if kind is not _TIME and abs(float(text)) >= _SECONDS and len(text.partition(".")[0]) != len("20240229120000"):
        return value
    raise ValueError(f"{text} is a plain number, not {DATE_WORDS[kind]}")


def _named(text: str) -> str:
    """Return a date with the name of its month, or with slashes behind the year, as ISO 8601 has it."""
    slashes = _SLASHES.fullmatch(text)
    if slashes is not None:
        return f"{slashes[1]}-{int(slashes[2]):02}-{int(slashes[3]):02}"
    first = _DAY_FIRST.fullmatch(text)
    second = _MONTH_FIRST.fullmatch(text)
    if first is not None:
        day, name, year = first.groups()
    elif second is not None:
        name, day, year = second.groups()
    else:
        return text
    name = name.lower()
    months = [
        number for number, month in enumerate(_MONTHS, 1) if name in (month, month[:3]) or name == "sept" == month[:4]
    ]
    return f"{year}-{months[0]:02}-{int(day):02}" if months else text
