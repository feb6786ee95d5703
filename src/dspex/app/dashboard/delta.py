"""The difference of two snapshots, as a list that turns one into the other: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.app.dashboard.shapes import Plain

__all__ = ["Change", "apply", "delta"]

Change = list[Any]
"""``[path, value]`` sets what is at a path (a list of keys), ``[path]`` takes it away; the empty path is the whole."""


def delta(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """
    Return the changes that make ``new`` out of ``old``: JSON objects, which are followed into; lists are one value.

    Objects that are shared between the two (the same object in Python) are not looked into, so that a snapshot that
    takes over parts of the last one costs what has changed.
    """
    changes: list[Change] = []
    todo: list[tuple[list[str], Mapping[str, Any], Mapping[str, Any]]] = [([], old, new)]
    while todo:
        path, before, after = todo.pop()
        changes += [[[*path, key]] for key in before if key not in after]
        for key, value in after.items():
            if key not in before:
                changes.append([[*path, key], value])
                continue
            was = before[key]
            if was is value:
                continue
            if isinstance(was, dict) and isinstance(value, dict):
                todo.append(([*path, key], was, value))
            elif not _same(was, value):
                changes.append([[*path, key], value])
    return changes


def apply(old: Mapping[str, Any], changes: Sequence[Change]) -> Plain:
    """Return ``old`` with the changes made; ``old`` itself stays as it is."""
    new: Plain = dict(old)
    copied: set[tuple[str, ...]] = set()
    for change in changes:
        path, place = change[0], new
        for depth, key in enumerate(path[:-1], 1):
            here = tuple(path[:depth])
            if here not in copied:  # copied on the way, once: whoever holds the old snapshot sees nothing of it
                place[key] = dict(place[key])
                copied.add(here)
            place = place[key]
        if len(change) == 1:
            place.pop(path[-1], None)
        else:
            place[path[-1]] = change[1]
    return new


def _same(one: object, other: object) -> bool:
    """True when two JSON values are written the same: 1 is not true, and not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    return one == other
