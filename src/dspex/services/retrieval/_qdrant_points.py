"""
Passages as points of Qdrant, and filters as its conditions.

Qdrant compares whole texts and numbers, but neither texts by their order nor integers above 2**53 exactly. So each
value of the metadata is kept as a *fact* too, a text of JSON (``["year", 1999]``), and a filter becomes a condition
that lets through at least what ``fits`` finds. ``fits`` then looks at what came through.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspex.errors import PassageInvalid, RetrievalError
from dspex.protocols.filters import And, Equals, Exists, Filter, Not, OneOf, Or, Range
from dspex.protocols.metadata import MetadataValue, Scalar
from dspex.protocols.retrieval import Passage

__all__ = ["FACTS", "condition_of", "passage_of", "payload_of", "point_id"]

FACTS: Final = "facts"
"""The name in the payload under which the facts stand."""
_EXACT: Final = 2**53
"""Integers from here on are not exact as a float."""
_FIRST_BYTES: Final = 6
"""The beginning of a text that is kept as a number: as many bytes as a float holds exactly."""

Condition = dict[str, Any]  # Qdrant's JSON


def point_id(identity: str) -> str:
    """Return the id of a passage's point: Qdrant takes UUIDs and numbers only."""
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def payload_of(passage: Passage, embedder: str) -> dict[str, object]:
    """Return what a point holds beside its vector; ``embedder`` is the name of whatever made it."""
    facts: list[str] = []
    numbers: dict[str, list[float]] = {}
    starts: dict[str, list[int]] = {}
    for name, value in passage.metadata.items():
        items: Sequence[Scalar] = value if isinstance(value, (list, tuple)) else (value,)
        if items:
            facts.append(_fact(name))
        for item in items:
            facts.append(_fact(name, item))
            if isinstance(item, str):
                starts.setdefault(_key(name), []).append(_start(item))
            elif item is not None and not isinstance(item, bool):
                numbers.setdefault(_key(name), []).append(float(item))
    return {
        "id": passage.id,
        "title": passage.title,
        "text": passage.text,
        "metadata": dict(passage.metadata),
        "embedder": embedder,
        FACTS: facts,
        "numbers": numbers,
        "starts": starts,
    }


def passage_of(payload: Mapping[str, Any] | None, score: float) -> Passage:
    """Return the passage of a point; RetrievalError where something else is stored there."""
    found = payload or {}
    texts: list[Any] = [found.get(name) for name in ("text", "title", "id")]
    metadata: Mapping[str, MetadataValue] | None = found.get("metadata")
    if not all(isinstance(each, str) for each in texts) or not isinstance(metadata, dict):
        raise RetrievalError("a point holds no passage of dspex: it was written by something else")
    try:
        return Passage(texts[0], texts[1], score, texts[2], metadata)
    except PassageInvalid as error:
        raise RetrievalError(f"a point holds no passage of dspex: {error}") from error


def condition_of(filter: Filter) -> Condition:
    """Return a condition of Qdrant's that holds wherever ``fits`` does; it may hold elsewhere, too."""
    return {"must": [_condition(filter, wide=True)]}


def _condition(filter: Filter, *, wide: bool) -> Condition:
    """Return a condition that holds at least where the filter does (``wide``), or at most there."""
    match filter:
        case Equals(name, value):
            return _has(_fact(name, value))
        case OneOf(name, values):
            return _has(*(_fact(name, each) for each in values))
        case Exists(name):
            return _has(_fact(name))
        case Range():
            return _range(filter, wide=wide)
        case And(filters):
            return {"must": [_condition(each, wide=wide) for each in filters]} if filters else _everything()
        case Or(filters):
            return {"should": [_condition(each, wide=wide) for each in filters]} if filters else _has()
        case Not(inner):  # what is not in too many is in too few
            return {"must_not": [_condition(inner, wide=not wide)]}


def _range(bounds: Range, *, wide: bool) -> Condition:
    given: dict[str, Any] = {
        "gte": bounds.at_least,
        "lte": bounds.at_most,
        "gt": bounds.above,
        "lt": bounds.below,
    }
    given = {sign: bound for sign, bound in given.items() if bound is not None}
    of_text = any(isinstance(each, str) for each in given.values())
    if not of_text and all(abs(each) < _EXACT for each in given.values()):
        return {"key": f"numbers.{_key(bounds.name)}", "range": given}
    if not wide:
        return _has()
    # Rounded values: those just beyond a bound may have become equal to it, so equal ones come through.
    rounded = {sign[0] + "te": _start(each) if of_text else float(each) for sign, each in given.items()}
    if len(rounded) < len(given):  # two bounds of one side: the facts alone say that there is something to look at
        return _has(_fact(bounds.name))
    return {"key": f"{'starts' if of_text else 'numbers'}.{_key(bounds.name)}", "range": rounded}


def _has(*facts: str) -> Condition:
    """Return the condition that one of the facts is there; without any, it never holds."""
    return {"key": FACTS, "match": {"any": list(facts) or [""]}}  # no fact is an empty text


def _everything() -> Condition:
    return {"must_not": [_has()]}


def _fact(name: str, *value: Scalar) -> str:
    """Return a name, and one of its values, as a text: equal texts for equal values, and for no others."""
    same = [int(each) if isinstance(each, float) and each.is_integer() else each for each in value]
    return json.dumps([name, *same], ensure_ascii=False, separators=(",", ":"))


def _key(name: str) -> str:
    """Return a name that has no dots and brackets, which are paths in Qdrant."""
    return "n" + hashlib.sha256(name.encode()).hexdigest()[:24]


def _start(text: str) -> int:
    """Return the first bytes of a text as a number: texts in order have numbers in order, or the same one."""
    return int.from_bytes(text.encode()[:_FIRST_BYTES].ljust(_FIRST_BYTES, b"\0"))
