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


def origin(skip: int = 2, depth: int = 3) -> Origin:
    """Name up to ``depth`` calling frames, leaving out the caller's own and those of the machinery."""
    found: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(skip)
    while frame is not None and len(found) < depth:
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
