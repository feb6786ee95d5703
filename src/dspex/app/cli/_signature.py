"""``dspex signature``."""

from __future__ import annotations

import sys

from dspex.errors import SignatureError
from dspex.programs import Signature, render_class

__all__ = ["run"]


def run(text: str) -> int:
    """Print the class to paste; returns the exit code."""
    try:
        found = Signature.from_string(text)
    except SignatureError as error:
        raise SignatureError(_on_one_line(str(error))) from error
    sys.stdout.write(render_class(found))
    return 0


def _on_one_line(message: str) -> str:
    """Say in words what a caret below the text points at."""
    problem, *picture = message.split("\n")
    if len(picture) != 2 or picture[1].strip(" ^"):
        return message
    text, caret = picture
    place = caret.index("^")
    rest = text[place:].strip()
    return f"{problem}: at {rest!r}, character {len(text[:place].lstrip()) + 1}" if rest else f"{problem}: at the end"
