"""How often each room says ``Any``: where it stands, a type checker checks nothing."""

from __future__ import annotations

import io
import tokenize
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
MOST = 5.0
"""
Uses of ``Any`` in 1,000 lines, in each room.

``object`` is for values that are handed on, ``Json`` for JSON objects, ``FieldValues`` for inputs and outputs by name,
``Facts`` for the facts of an event, ``Mapping[str, object]`` for other arguments by name, a type variable for what
comes out as it went in. ``Predict``, ``Tool`` and ``Ok`` alone stand for those of any program, ``AnySignature`` and
``AnyRecord`` for a signature that type checkers do not know.
"""


def uses(text: str) -> int:
    """Count the name, imports included; comments and texts do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.NAME and token.string == "Any" for token in tokens)


def counted() -> tuple[Counter[str], Counter[str]]:
    """Return the uses and the lines of each room."""
    found: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE).parts
        room = inside[0] if len(inside) > 1 else ""
        text = path.read_text(encoding="utf-8")
        found[room] += uses(text)
        lines[room] += text.count("\n")
    return found, lines


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    found, lines = counted()
    return {room: 1_000 * found[room] / lines[room] for room in lines}


def test_only_names_count() -> None:
    assert uses("from typing import Any\n# Any\nx: Any = 'Any'\n") == 2


def test_no_room_says_it_more_often_than_it_may(rates: dict[str, float]) -> None:
    above = {room: round(rate, 1) for room, rate in rates.items() if rate > MOST}

    assert above == {}, "say what the value is: object, a protocol, a type variable"
