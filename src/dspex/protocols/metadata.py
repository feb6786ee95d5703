"""The metadata of passages: a small, flat JSON mapping, checked where a passage is made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from dspex.errors import PassageInvalid

__all__ = ["MAX_METADATA_BYTES", "MAX_METADATA_NAMES", "Metadata", "MetadataValue", "Scalar", "checked_metadata"]

Scalar: TypeAlias = str | int | float | bool | None
"""One value: a text with a UTF-8 form, an integer of 64 bits, a finite number, true or false, or null."""
MetadataValue: TypeAlias = Scalar | Sequence[Scalar]
"""A value or a list of them (``tags``): a condition holds for a list when it holds for one of its items."""
Metadata: TypeAlias = Mapping[str, MetadataValue]

MAX_METADATA_NAMES: Final = 64
"""The most names of one passage's metadata."""
MAX_METADATA_BYTES: Final = 16_384
"""The most bytes of one passage's metadata, as JSON in UTF-8."""


def checked_metadata(given: Metadata) -> dict[str, MetadataValue]:
    """
    Return a copy that nobody else holds: its lists are new, too.

    Raises:
        PassageInvalid: It is not a mapping of names to values or lists of them, or it is too large.
    """
    if not isinstance(given, Mapping):
        raise PassageInvalid(f"metadata of type {type(given).__name__}: expected a mapping such as {{'year': 2020}}")
    if len(given) > MAX_METADATA_NAMES:
        raise PassageInvalid(f"metadata has {len(given)} names, more than {MAX_METADATA_NAMES}")
    copy: dict[str, MetadataValue] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise PassageInvalid(f"metadata has a name of type {type(name).__name__}: expected str")
        if isinstance(value, (list, tuple)):
            items = list(value)
            problem = next(filter(None, map(problem_of_scalar, items)), "")
            copy[name] = items
        else:
            problem = problem_of_scalar(value)
            copy[name] = value
        if problem:
            raise PassageInvalid(f"metadata[{name!r:.60}] {problem}")
    try:
        size = len(json.dumps(copy, ensure_ascii=False, separators=(",", ":")).encode())
    except UnicodeEncodeError as error:
        raise PassageInvalid("metadata has a name without a UTF-8 form") from error
    if size > MAX_METADATA_BYTES:
        raise PassageInvalid(f"metadata takes {size} bytes as JSON, more than {MAX_METADATA_BYTES}")
    return copy


def problem_of_scalar(value: object) -> str:
    """Return the reason for which something is not a value of metadata, as the end of a sentence; empty when it is."""
    if value is None or type(value) is bool:
        return ""
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is a text without a UTF-8 form"
        return ""
    if type(value) is int:
        return "" if -(2**63) <= value < 2**63 else "is an integer of more than 64 bits"
    if type(value) is float:
        return "" if math.isfinite(value) else f"is {value}, which JSON does not know"
    return f"is of type {type(value).__name__}: expected str, int, float, bool, None, or a list of these"
