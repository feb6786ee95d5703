"""Where in the project's code something was created, cheaply enough to note it every time."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

__all__ = ["Origin", "describe", "origin"]

Origin = tuple[tuple[str, int, str], ...]
"""The innermost interesting frames: file, line, function."""

_MACHINERY: Final = frozenset(
    {"_pytest", "anyio", "asyncio", "concurrent", "contextlib", "pluggy", "pytest_asyncio", "socket", "threading"}
)


_LOOKED_AT: Final = 12
_NAMED: Final = 3


def origin() -> Origin:
    """Name the nearest frames above the caller's caller, leaving out those of the machinery."""
    found: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_LOOKED_AT):
        if frame is None or len(found) == _NAMED:
            break
        module: str = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _MACHINERY and not module.startswith("tests.support"):
            code = frame.f_code
            found.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


def describe(where: Origin | None) -> str:
    """Put an origin in words."""
    if not where:
        return "origin unknown"
    return "created at " + ", from ".join(f"{file}:{line} in {name}" for file, line, name in where)
