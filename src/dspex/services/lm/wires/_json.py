"""JSON as all wires write and read it: compact bytes out, anything at all in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from dspex.errors import RequestRejected

__all__ = ["LARGE", "SHOWN", "count", "parse", "shown", "string", "to_json"]


def _plain(value: object) -> object:
    """Turn what json does not know into what it knows: schemas and arguments may be any mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode

_decode: Final = json.JSONDecoder().decode

LARGE: Final = 2**17
"""
Bytes or characters of a JSON text from which it is large: read in a thread where somebody waits for it.

Measured: reading stands still for about 5 ms at 2**17 bytes of vectors or of small objects, at 2**20 of one string.
"""


def _as_it_is(value: object) -> object:  # whatever JSON holds
    return value


def _float(digits: str) -> float:
    return float(digits)


def _int(digits: str) -> int:
    return int(digits)


# The C scanner keeps the interpreter's lock to the end of a text, so that a thread alone helps nobody. It calls these
# functions of Python's for each object and number, and there the lock changes hands: the loop stood still for a sixth
# of the time, the whole took three times as long.
_decode_large: Final = json.JSONDecoder(object_hook=_as_it_is, parse_float=_float, parse_int=_int).decode

SHOWN: Final = 500
"""The number of characters of a provider's message, or of a body that is not JSON, that an error repeats."""


def to_json(fields: Mapping[str, object]) -> bytes:
    """
    Return the compact UTF-8 of a request body.

    Raises:
        RequestRejected: It holds what JSON cannot say; nothing was sent.
    """
    try:
        return _encode(fields).encode()
    except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate is a ValueError too
        raise RequestRejected(f"the request cannot be written as JSON, nothing was sent: {error}") from error


def parse(text: bytes | str) -> object:  # whatever the other side sent
    """
    Return the value of a JSON text.

    Raises:
        ValueError: It is none, or is nested too deeply to be read.
    """
    try:
        try:
            decode = _decode if len(text) < LARGE else _decode_large
            return decode(text if isinstance(text, str) else text.decode())
        except ValueError:
            return json.loads(text)  # which also knows byte order marks and other encodings, and takes twice the time
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def count(counts: object, name: str) -> int:
    """Return the number of tokens under ``name``; what is missing, not a whole number or negative is zero."""
    if not isinstance(counts, dict):
        return 0
    value = counts.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)  # of servers whose numbers are all of one kind
    return value if type(value) is int and value > 0 else 0


def dollars(fields: object, name: str) -> Decimal | None:
    """Return the amount under ``name`` as it is written; None for what is missing, no number or negative."""
    value = fields.get(name) if isinstance(fields, dict) else None
    if type(value) not in (int, float, str):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def string(fields: object, name: str) -> str:
    """Return the string under ``name``; anything else is the empty one."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def shown(body: bytes) -> str:
    """Return the beginning of a body on one line, for a message."""
    text = " ".join(body[: SHOWN * 4].decode(errors="replace").split())
    return text[:SHOWN] or "an empty body"
