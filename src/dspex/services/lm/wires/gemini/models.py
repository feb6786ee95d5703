"""The parameters that Gemini models take, by the version in the name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BUDGETS", "GeminiModel", "gemini_model"]


@dataclass(frozen=True, slots=True)
class GeminiModel:
    """
    One generation.

    Attributes:
        thinking: ``none``: does not think; ``budget``: thinks up to a number of tokens; ``level``: as hard as a word
            says.
        stops_thinking: Can be told not to think.
    """

    thinking: Literal["none", "budget", "level"]
    stops_thinking: bool = False


BUDGETS: Final = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
"""Thinking tokens for each word of ``reasoning``, for models that take a budget."""

_VERSION: Final = re.compile(r"gemini-(?:[a-z]+-)*([0-9]{1,2})(?:[.-]([0-9]{1,2}))?(?![0-9])")


def gemini_model(name: str) -> GeminiModel:
    """Return what a model is asked with; a name without a version stands for the newest."""
    lower = name.lower()
    found = _VERSION.search(lower)
    if found is None or int(found[1]) >= 3:
        return GeminiModel("level")
    if (int(found[1]), int(found[2] or 0)) < (2, 5):
        return GeminiModel("none", stops_thinking=True)
    return GeminiModel("budget", stops_thinking="pro" not in lower)
