"""
Free text in grammars: every text but the marks of its format, so that a model that begins a mark has to end it rightly.

The rules are the states of an automaton, each of which names the next behind a character. Marks that a value holds are
written with a backslash before them, and so they are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dspex.protocols.text_shapes import char_class

__all__ = ["TEXT", "text_without_headers"]

TEXT: Final = "text"
"""The name of the first rule."""
_NUL: Final = "\x00"
_SPACES: Final = (
    " \t\r\f\v\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""White space but for the end of a line."""
_MOST_SPACES: Final = 8


def _state(steps: Mapping[str, str], otherwise: str, never: str = "") -> str:
    """Return the rule of a state: which characters lead where, all others elsewhere; a text may end in each."""
    known = "".join(steps) + never + _NUL
    ways = [f"{char_class(signs)} {after}" for signs, after in steps.items()]
    return f"({' | '.join([*ways, f'{char_class(known, negated=True)} {otherwise}'])})?"


def text_without_headers() -> dict[str, str]:
    """Return the rules of a text in which no ``[[ ##`` stands without a backslash before it."""
    rules = {
        TEXT: _state({"[": "open", "\\": "slash"}, TEXT),
        "open": _state({"[": "mark", "\\": "slash"}, TEXT),
        "slash": _state({"[": "kept", "\\": "slash"}, TEXT),
        "kept": _state({"[": "pair", "\\": "slash"}, TEXT),
        "pair": _state({"[": "mark", "\\": "slash"}, TEXT),
        "hash": _state({"[": "open", "\\": "slash"}, TEXT, never="#"),
    }
    rules["mark"] = _state({"[": "mark", "\\": "slash", "#": "hash", _SPACES: "mark1"}, TEXT)
    for count in range(1, _MOST_SPACES + 1):
        after = f"mark{count + 1}" if count < _MOST_SPACES else TEXT
        rules[f"mark{count}"] = _state({"[": "open", "\\": "slash", "#": "hash", _SPACES: after}, TEXT)
    return rules
