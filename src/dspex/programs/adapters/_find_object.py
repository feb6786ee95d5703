"""The one JSON object of an answer: alone, in a fence, beside prose, inside of another object, or with slips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dspex.programs._compile import Plan
from dspex.programs.adapters._exact_json import DoubleKey, exact_at, exact_json
from dspex.programs.adapters._lenient import lenient_at, lenient_value
from dspex.programs.adapters._marks import folded
from dspex.programs.adapters._thoughts import Thoughts

__all__ = ["BEFORE_OBJECT", "find_object", "object_alone"]

_BEGINS = re.compile(r"\{\s*(?:[\"'`\u201c\u2018]|[A-Za-z_][\w \-]*:|\})")
BEFORE_OBJECT = Thoughts(_BEGINS)
"""Where thoughts end before an object."""
_FENCES = ("```json", "```")
_MOST_TRIES = 40
_MOST_REPAIRS = 4
_ABOUT = re.compile(r"\s*[(:].*\Z", re.DOTALL)
_OPEN_TEXT = re.compile(r"\"([\w \-]{1,100})\"\s{0,8}:\s{0,8}\"(?:[^\"\\]|\\.)*\Z", re.DOTALL)
"""The text of a member that has begun and not ended."""
_LOOKED_BACK = 2_000
_MEMBERS = re.compile(r"\s*[\"']?[A-Za-z_]\w*[\"']?\s*:")


def object_alone(plan: Plan, text: str) -> dict[str, object] | None:
    """
    Return the object that the whole text is, as it was asked for; None where it is none.

    Raises:
        ValueError: One key is there twice.
    """
    found = _decoded(text)
    if not isinstance(found, dict) or (found and not _names_in(plan, found)):
        return None
    return found


def find_object(plan: Plan, text: str) -> tuple[dict[str, object] | None, str]:
    """
    Return the object with the outputs and the repair that finding it took; None when there is none.

    Raises:
        ValueError: There are several that differ, one key twice, or one inside of an output's text.
    """
    text = text.strip()
    found = object_alone(plan, text)
    if found is not None:
        return found, ""
    exact = list(_exact(plan, text))
    if exact:
        beside = _near(plan, _without(text, exact), all_of_it=False)
        value, repair = _the_one(plan, [*(each.value for each in exact), *beside]), "json"
        if len(exact) == 1:
            _, start, end = exact[0]
            repair = "" if text[:start].strip() in _FENCES and text[end:].strip() == "```" else "json"
        return value, repair
    near = [_fitted(plan, each) for each in _near(plan, text)]
    if near:
        return _the_one(plan, near), "json"
    return None, ""


class _Placed(NamedTuple):
    value: dict[str, object]
    start: int
    end: int


def _exact(plan: Plan, text: str) -> Iterator[_Placed]:
    """Go through the objects that are JSON as they stand and have outputs in them, or around them."""
    at = tries = 0
    while (at := text.find("{", at)) >= 0 and tries < _MOST_TRIES:
        if _BEGINS.match(text, at) is None:
            at += 1
            continue
        tries += 1
        try:
            value, end = exact_at(text, at)
        except DoubleKey:
            raise
        except (ValueError, RecursionError):
            at += 1
            continue
        fitted = _inside(plan, value)
        if fitted is not None:
            if _is_in_a_text(plan, text, at):
                raise ValueError("an object stands inside the text of an output")
            yield _Placed(fitted, at, end)
        at = end


def _is_in_a_text(plan: Plan, text: str, at: int) -> bool:
    """Tell whether an object begins inside of the text of an output, where quotes should have been escaped."""
    around = _OPEN_TEXT.search(text, max(0, at - _LOOKED_BACK), at)
    return around is not None and any(folded(around[1]) == folded(each.name) for each in plan.outputs)


def _without(text: str, placed: Sequence[_Placed]) -> str:
    """Return the text between objects."""
    ends = [0, *(each.end for each in placed)]
    starts = [*(each.start for each in placed), len(text)]
    return "\n".join([text[end:start] for end, start in zip(ends, starts, strict=True)])


def _near(plan: Plan, text: str, *, all_of_it: bool = True) -> Iterator[dict[str, object]]:
    """Go through the objects that are JSON with slips; ``all_of_it`` is False for what stands beside other objects."""
    starts = [each.start() for each in _BEGINS.finditer(text)]
    first = [at for at in starts if _begins_with_output(plan, text, at)] or starts[: int(all_of_it)]
    end = tries = 0
    for at in first:
        if at < end or tries >= _MOST_REPAIRS:
            continue
        tries += 1
        try:
            value, end, is_whole = lenient_at(text, at)
        except (ValueError, RecursionError):
            continue
        fitted = _inside(plan, value)
        if fitted is not None and (is_whole or all(each.name in fitted for each in plan.outputs)):
            yield fitted
    if all_of_it and not starts and _MEMBERS.match(text):  # the braces are missing
        try:
            found: object = lenient_value("{" + text + "}")
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict) and _names_in(plan, found):
            yield found


def _begins_with_output(plan: Plan, text: str, at: int) -> bool:
    key = re.compile(r"\{\s*[\"'`\u201c\u2018]?([\w \-]{1,100})").match(text, at)
    return key is not None and any(folded(key[1]) == folded(each.name) for each in plan.outputs)


def _inside(plan: Plan, value: object) -> dict[str, object] | None:
    """Return the object that has outputs: this one, or the only one inside of it that has."""
    for _ in range(3):
        if not isinstance(value, dict):
            return None
        fitted = _fitted(plan, value)
        if _names_in(plan, fitted):
            return fitted
        inner = [each for each in value.values() if isinstance(each, dict)]
        if len(inner) != 1:
            return None
        value = inner[0]
    return None


def _names_in(plan: Plan, value: Mapping[str, object]) -> bool:
    return any(each.name in value for each in plan.outputs) or not plan.outputs


def _fitted(plan: Plan, value: dict[str, object]) -> dict[str, object]:
    """Put keys that are an output's name in other letters, or with its type behind it, under that name."""
    absent = [each.name for each in plan.outputs if each.name not in value]
    if not absent or not value:
        return value
    near: dict[str, list[str]] = {}
    for key in value:
        near.setdefault(folded(_ABOUT.sub("", key)), []).append(key)
    found = dict(value)
    for name in absent:
        keys = near.get(folded(name), [])
        if len(keys) == 1 and keys[0] in found and keys[0] not in {each.name for each in plan.outputs}:
            found[name] = found.pop(keys[0])
    return found


def _the_one(plan: Plan, found: list[dict[str, object]]) -> dict[str, object]:
    """Return the object that counts: the one with all outputs, if no other says something else, or more."""
    needed = [each.name for each in plan.outputs if not (each.has_default or each.optional)]
    whole = [each for each in found if all(name in each for name in needed)]
    if not whole:
        return found[0]
    names = [each.name for each in plan.outputs]
    told = [[(name in each, each.get(name)) for name in names] for each in whole]
    agree = all(name in whole[0] and each[name] == whole[0][name] for each in found for name in names if name in each)
    if not agree or any(each != told[0] for each in told[1:]):
        raise ValueError("there are several objects, and they differ")
    return whole[0]


def _decoded(text: str) -> object:
    """Return the JSON value of the whole text; None when it is none."""
    try:
        return exact_json(text)
    except DoubleKey:
        raise
    except (ValueError, RecursionError):
        return None
