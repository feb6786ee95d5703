"""Header lines ``[[ ## name ## ]]``, and what keeps a value from being taken for one."""

from __future__ import annotations

import re

__all__ = ["escape", "header", "unescape"]

_NEEDS_ESCAPE = re.compile(r"^([^\S\n]*\\*)(?=\[\[ ## \w+ ## \]\])", re.MULTILINE)
_ESCAPED = re.compile(r"^([^\S\n]*\\*)\\(?=\[\[ ## \w+ ## \]\])", re.MULTILINE)


def header(name: str) -> str:
    """Return the line above a field's value."""
    return f"[[ ## {name} ## ]]\n"


def escape(text: str) -> str:
    """Put a backslash before what would be taken for a header."""
    return _NEEDS_ESCAPE.sub(r"\1\\", text) if "[[ ## " in text else text


def unescape(text: str) -> str:
    """Take the backslash away again."""
    return _ESCAPED.sub(r"\1", text) if "\\[[ ## " in text else text
