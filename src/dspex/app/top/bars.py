"""A request as a bar: where its time has gone, a letter for each share of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.text import Text

from dspex.app.dashboard.shapes import Plain

__all__ = ["LEGEND", "MARKS", "bar", "pieces"]

MARKS: Final = {
    "queue": (".", "dim"),
    "wait": ("~", "yellow"),
    "wire": (">", "bright_blue"),
    "ok": ("=", "green"),
    "bad": ("x", "red"),
    "lost": ("-", "magenta"),
    "search": ("s", "magenta"),
    "tool": ("t", "cyan"),
    "cached": ("c", "dim"),
}

LEGEND: Final = (
    ("queue", "waits for a place"),
    ("wire", "on the wire"),
    ("ok", "answered"),
    ("bad", "failed"),
    ("wait", "waits to try again"),
    ("search", "retrieval"),
    ("tool", "tool"),
    ("cached", "cache"),
    ("lost", "not used"),
)

_FINE = frozenset({"cancelled", "resent"})


def pieces(request: Plain, now: float) -> Iterator[tuple[str, float, float]]:
    """Yield what a request was doing, from when to when, in seconds of its snapshot."""
    for step in request["steps"]:
        end = step.get("end", max(now, step["at"]))
        name = step["name"]
        if not name.startswith("lm "):
            kind = "search" if name.startswith("retrieve") else "tool"
            yield "bad" if step.get("error") else kind, step["at"], end
        elif "cached" in step:
            yield "cached", step["at"], end
        else:
            yield from _call(step, end)


def _call(step: Plain, end: float) -> Iterator[tuple[str, float, float]]:
    at, before = step["at"], "queue"
    for each in step.get("attempts", ()):
        begun = each.get("at", at)
        yield before, at, begun
        outcome = each["outcome"]
        yield "ok" if outcome == "ok" else "lost" if outcome in _FINE else "bad", begun, begun + each["for"]
        at, before = begun + each["for"], "wait"
    if "wire" in step:
        yield before, at, step["wire"]
        yield "wire", step["wire"], end
    elif "end" not in step or "attempts" not in step:
        yield before, at, end


def bar(request: Plain, now: float, span: float, width: int) -> Text:
    """Return the bar: ``width`` cells for ``span`` seconds from its beginning, each with its strongest mark."""
    end = request.get("end", now)
    cells = [""] * width
    scale = width / max(span, 0.001)
    length = min(width, max(1, round((end - request["at"]) * scale)))
    for kind, begun, until in pieces(request, end):
        first = min(width - 1, max(0, int((begun - request["at"]) * scale)))
        last = min(width, max(first + (until > begun or kind == "wire"), round((until - request["at"]) * scale)))
        for place in range(first, last):
            if _RANK[kind] >= _RANK.get(cells[place], -1):
                cells[place] = kind
    found = Text(no_wrap=True)
    for place, kind in enumerate(cells):
        mark: tuple[str, Any] = MARKS[kind] if kind else (" " if place >= length else "_", "dim")
        found.append(mark[0], mark[1])
    return found


_RANK: Final = {
    kind: rank for rank, kind in enumerate(("queue", "cached", "wait", "lost", "search", "tool", "ok", "wire", "bad"))
}
