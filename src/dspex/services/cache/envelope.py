"""
A cached value with what is known about it, as one line of JSON: the form in which it leaves the process.

Texts that come back are untrusted: whoever can write to the store may have written anything, and so may a newer dspex.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from dspex.protocols.lm import LMResponse
from dspex.services.cache.codec import decode_value, encode_value
from dspex.services.cache.shared_tier import MAX_BYTES

__all__ = ["CacheEntry", "EntryStore", "Unreadable", "decode_entry", "encode_entry", "model_of"]

VERSION: Final = 1

Unreadable = Literal["damaged", "foreign", "newer", "oversized", "expired"]
"""Why a stored text counts as absent."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """
    A value and its circumstances.

    Attributes:
        created: When it was made, in seconds since the epoch.
        until: When it stops being served, likewise; None where never.
    """

    value: LMResponse
    created: float
    until: float | None = None

    def left(self, now: float) -> float | None:
        """Return the seconds it has left; None where it does not end."""
        return None if self.until is None else self.until - now


@runtime_checkable
class EntryStore(Protocol):
    """An open store that keeps the circumstances of a value, too; otherwise it is an ``OpenCacheStore``."""

    def find(self, key: str) -> CacheEntry | Unreadable | None:
        """Return what is stored, or why it counts as absent; called as ``get`` is."""
        ...

    def keep(self, key: str, entry: CacheEntry) -> int:
        """Store a value, and return how many others had to leave for it; called as ``set`` is."""
        ...

    @property
    def has_much_to_note(self) -> bool:
        """True when ``note_used`` has something to do; asked at any time."""
        ...

    def note_used(self) -> None:
        """Write when values were read; called as ``set`` is."""
        ...


def encode_entry(entry: CacheEntry) -> str:
    """
    Return an entry as a JSON object in ASCII; a tier may add a ``fence`` at its beginning.

    Raises:
        TypeError: The data that a provider's wire has kept for the next turn is not JSON.
    """
    kind, value = encode_value(entry.value)
    about = {"v": VERSION, "kind": kind, "model": model_of(entry.value), "at": entry.created, "until": entry.until}
    return f'{json.dumps(about, separators=(",", ":"))[:-1]},"value":{value}}}'


def decode_entry(text: str, now: float) -> CacheEntry | Unreadable:
    """Return the entry of a text, or why there is none; never raises."""
    if len(text) > MAX_BYTES:
        return "oversized"
    try:
        fields: object = json.loads(text)
    except (ValueError, RecursionError):
        return "damaged"
    if not isinstance(fields, dict) or not isinstance(version := fields.get("v"), int) or isinstance(version, bool):
        return "foreign"
    if version != VERSION:
        return "newer" if version > VERSION else "foreign"
    kind, created, until = fields.get("kind"), _number(fields.get("at")), _number(fields.get("until"))
    if not isinstance(kind, str) or created is None or (until is None and fields.get("until") is not None):
        return "damaged"
    if until is not None and until <= now:
        return "expired"
    value = decode_value(kind, fields.get("value"))
    return CacheEntry(value, created, until) if value is not None else "damaged"


def model_of(value: LMResponse) -> str:
    """Return the model a value is from, for people to choose by; empty where it is from none."""
    return value.model


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
