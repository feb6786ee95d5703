"""The parameters that Claude models take: one row per generation, by the version in the name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BUDGETS", "ClaudeModel", "claude_model"]


@dataclass(frozen=True, slots=True)
class ClaudeModel:
    """
    One generation.

    Attributes:
        max_tokens: The value of ``max_tokens``, which the protocol requires, where the user set none. Thoughts
            count towards it.
        thinking: ``none``: does not think; ``budget``: thinks up to a number of tokens; ``adaptive``: thinks as it
            sees fit, guided by an effort; ``always``: adaptive, and cannot be told not to.
        sampling: Takes ``temperature`` and ``top_p``; later models know only their default.
        json_schema: Holds its answer to a schema; None where the server decides.
    """

    max_tokens: int
    thinking: Literal["none", "budget", "adaptive", "always"]
    sampling: bool = True
    json_schema: bool | None = True


BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384}
"""Thinking tokens for each word of ``reasoning``, for models that take a budget."""

_OTHER: Final = ClaudeModel(8192, "budget", json_schema=None)
"""Another model behind the same protocol: asked in the older words, which its servers copied."""

_ROWS: Final[tuple[tuple[tuple[int, int], ClaudeModel], ...]] = (
    ((4, 7), ClaudeModel(16384, "adaptive", sampling=False)),
    ((4, 6), ClaudeModel(16384, "adaptive")),
    ((4, 5), ClaudeModel(16384, "budget")),
    ((3, 7), ClaudeModel(16384, "budget", json_schema=False)),
    ((3, 5), ClaudeModel(8192, "none", json_schema=False)),
    ((3, 0), ClaudeModel(4096, "none", json_schema=False)),
    ((0, 0), ClaudeModel(4096, "none", json_schema=False)),
)
"""The first version at which a row holds, newest first."""

_OPUS_4_1: Final = ClaudeModel(16384, "budget")
_ALWAYS: Final = ClaudeModel(16384, "always", sampling=False)

_NAME: Final = re.compile(r"claude-(?:[a-z]+-)?([0-9]{1,2})(?:[-.]([0-9]{1,2})(?![0-9]))?(?![0-9])", re.IGNORECASE)
"""``claude-opus-4-7``, ``claude-3-5-sonnet-20241022``, ``claude-opus-4-20250514``: a date is not a version."""


def claude_model(name: str) -> ClaudeModel:
    """Return the row for a model's name; a Claude without a version is one of the newest."""
    lower = name.lower()
    if "claude" not in lower:
        return _OTHER
    if "mythos" in lower or "fable" in lower:
        return _ALWAYS
    found = _NAME.search(lower)
    if found is None:
        return _ROWS[-1][1] if "instant" in lower else _ROWS[0][1]
    version = (int(found[1]), int(found[2] or 0))
    if version == (4, 1):
        return _OPUS_4_1
    return next(row for first, row in _ROWS if version >= first)
