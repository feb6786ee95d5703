"""What becomes of answers that a model refused to give or a filter cut off: one rule for every wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from dspex.errors import ContentRefused
from dspex.protocols.lm import Completion
from dspex.services.lm.wires._json import SHOWN

__all__ = ["FILTERED", "Refusal", "is_withheld", "refused"]

FILTERED: Final = "withheld by the content filter"
"""The reason shown where the provider gives none."""


class Refusal(NamedTuple):
    """
    One answer that is none.

    Attributes:
        problem: What the user is told.
        code: The provider's word for the reason.
        partial: The text that came before the cut.
    """

    problem: str
    code: str = "content_filter"
    partial: str = ""


def is_withheld(completion: Completion) -> bool:
    """
    Whether a completion is not an answer, however much of it came: its end was cut by a filter, or by the model itself.

    Half an answer may parse as a whole one, so the finish reason decides and not the text.
    """
    return completion.finish_reason == "content_filter"


def refused(refusals: Sequence[Refusal], *, status: int, request_id: str | None) -> ContentRefused:
    """Return the error for a call of which nothing is left; it speaks for the first refusal that has a text."""
    told = next((each for each in refusals if each.partial), refusals[0])
    return ContentRefused(
        told.problem[:SHOWN], status=status, code=told.code, request_id=request_id, partial=told.partial
    )
