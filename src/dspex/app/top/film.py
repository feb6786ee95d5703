"""A recording as the data of a page that plays it: bounded, with fewer pictures where there would be too many."""

from __future__ import annotations

import json
from typing import Any, Final

from dspex.app.dashboard.delta import delta
from dspex.app.dashboard.shapes import Plain
from dspex.app.top.record import EVERY, WHOLE
from dspex.app.top.trace import Trace

__all__ = ["MOST", "film_of"]

MOST: Final = 24 * 2**20
"""Bytes of the pictures in a page."""

THINNEST: Final = 300.0
"""Seconds between two pictures, at most."""


def film_of(trace: Trace, most: int = MOST) -> Plain:
    """Return the data of a page: pictures, twice as far apart until all have room; else the last are left out."""
    every = EVERY
    while (frames := _frames(trace, every, most)) is None and every < THINNEST:
        every *= 2
    whole = frames is not None
    found = frames if frames is not None else _frames(trace, every, most, cut=True) or []
    note = "" if every == EVERY else f"To keep the file small, it has a picture every {every:g} seconds. "
    if not whole and found:
        note += f"It ends after {found[-1][0]:.0f} of {trace.length:.0f} seconds: there was no room for more. "
    if trace.broken:
        note += "The recording was broken off."
    length = found[-1][0] if found else 0.0
    return {"kind": "replay", "title": trace.title, "length": length, "frames": found, "note": note.strip()}


def _frames(trace: Trace, every: float, most: int, *, cut: bool = False) -> list[list[Any]] | None:
    """Return the pictures; None, or what there is room for, where they take too much."""
    frames: list[list[Any]] = []
    last: Plain | None = None
    whole_at, size = 0.0, 0
    for time, picture in trace.pictures(every):
        if last is None or time - whole_at >= max(WHOLE, every * 20):
            frame, whole_at = [round(time, 2), "snapshot", picture], time
        else:
            frame = [round(time, 2), "delta", delta(last, picture)]
        size += len(json.dumps(frame, separators=(",", ":")))
        if size > most and frames:
            return frames if cut else None
        frames.append(frame)
        last = picture
    return frames
