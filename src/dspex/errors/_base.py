"""The root of the tree, and the class that blames dspex itself."""

from __future__ import annotations

__all__ = [
    "DspexError",
    "InternalError",
]


class DspexError(Exception):
    """Base of everything dspex raises on purpose."""


class InternalError(DspexError):
    """An invariant of dspex itself does not hold: this is a bug in dspex, please report it."""

    def __init__(self, message: str) -> None:
        super().__init__(f"this is a bug in dspex, please report it: {message}")
