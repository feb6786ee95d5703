"""Text of others, made fit for a terminal or a line of a log."""

from __future__ import annotations

import re

__all__ = ["printable"]

_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Controls (ANSI escapes begin with one), line ends of every kind, marks that turn or hide text."""


def printable(text: str, keep: str = "") -> str:
    r"""
    Return a text in which control characters are escaped: an escape sequence is shown as ``\x1b[2J`` and does nothing.

    Args:
        text: The text of somebody else.
        keep: Characters that stay, a line break for example.
    """
    return _UNFIT.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)
