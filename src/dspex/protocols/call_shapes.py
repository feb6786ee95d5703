"""Tool calls in the shapes that models and servers really write: pure reading, nothing is completed or guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Final

from dspex.protocols.json_values import Json
from dspex.protocols.marked_calls import has_too_many_marks, marked_calls, python_calls

__all__ = ["arguments_of", "calls_in_text", "given_arguments", "is_cut", "named_call"]

_ARGUMENTS: Final = ("arguments", "args", "parameters", "input", "tool_args", "tool_input")
_NAMES: Final = ("name", "tool", "tool_name", "function_name")


def given_arguments(call: object, word: str = "arguments") -> object:
    """Return what a call gives its tool, under the protocol's word or under those that models write instead."""
    if not isinstance(call, Mapping):
        return None
    if word in call:
        return call[word]
    return next((call[each] for each in _ARGUMENTS if each in call), None)


def named_call(given: Mapping[str, object]) -> tuple[str, object] | None:
    """
    Return name and arguments of a call, or None for another object.

    The call may be nested in ``function``, which may also be the name itself; the arguments stand under any of the
    words that models use.
    """
    inner = given.get("function")
    if isinstance(inner, Mapping):
        return named_call(inner)
    name = inner if isinstance(inner, str) else next((given[each] for each in _NAMES if each in given), None)
    if not isinstance(name, str) or not name:
        return None
    return name, given_arguments(given)


def arguments_of(value: object) -> tuple[str, Json | None]:
    """
    Return the arguments as text and as an object, or None for an object that cannot be read.

    A tool without parameters is often called with nothing, ``null`` or an empty list. Some models write the object as a
    JSON string, some servers leave out the quoting, or send ``{}`` before the arguments themselves. Nothing that was
    cut off is completed.
    """
    if isinstance(value, Mapping):
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict), value
        except (TypeError, ValueError, RecursionError):
            return "", value
    if value is None or value == []:
        return "", {}
    if not isinstance(value, str):
        return str(value), None
    if value.strip() in ("", "null", "None", "[]"):
        return "", {}
    arguments = _value_of(value)
    if isinstance(arguments, str):
        value, arguments = arguments, _value_of(arguments)
    if arguments is None and value.startswith("{}"):
        value = value.removeprefix("{}")
        arguments = _value_of(value)
    return value, arguments if isinstance(arguments, dict) else None


def _value_of(text: str, *, distinct: bool = False) -> object:  # whatever JSON holds
    """
    Return the value of a JSON text, line ends inside strings allowed; None for other text.

    With ``distinct`` it is also None where a key has two values: the last one counts otherwise.
    """
    try:
        return json.loads(text, strict=False, object_pairs_hook=_distinct if distinct else None)
    except (ValueError, RecursionError):
        return None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs) and any(found[name] != value for name, value in pairs):
        raise ValueError("a key has two values")  # which one is meant, nobody knows
    return found


def is_cut(text: str) -> bool:
    """
    True when a JSON text ends before its strings and brackets are closed.

    A repair would complete it, and half of what the model meant would be carried out.
    """
    depth, inside, escaped = 0, False, False
    for letter in text:
        if inside:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                inside = False
        elif letter == '"':
            inside = True
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
    return inside or depth > 0


# --- calls in the text of an answer ---------------------------------------------------------------------------

_MARKED: Final = re.compile(
    r"<(?P<tag>tool_call|function_call|tool_use)>(?P<body>.*?)</(?P=tag)>"
    r"|<function=(?P<name>[\w.-]{1,100})>?\s{0,20}(?P<given>\{.*?\})\s{0,20}</function>",
    re.DOTALL,
)
_OPENING: Final = re.compile(
    r"^(?:\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>|<tool_call>|```(?:json|tool_call)?\s*\n)", re.IGNORECASE
)
_CLOSING: Final = re.compile(r"(?:<\|eom_id\|>|<\|eot_id\|>|</tool_call>|\n```)$", re.IGNORECASE)
_FENCE: Final = "```"
_WRITTEN_NAME: Final = re.compile(r'"name"\s{0,20}:\s{0,20}"([\w.\-]{1,100})"')
_LONGEST: Final = 100_000
"""Characters of an answer that is looked through for calls."""


def calls_in_text(text: str, names: Collection[str]) -> list[tuple[str, str, Json | None]]:
    """
    Return the calls (name, raw arguments, arguments) that a model wrote as text, because its server reads none.

    Only the known forms count: ``<tool_call>`` and ``<function=…>`` marks, those of ``marked_calls``, or an answer that
    is nothing but JSON, with or without the marks of Mistral and Llama or a fence.

    A mark makes a call, also of a tool that is not one of ``names``, or with arguments that cannot be read (None): the
    model is told so, and a call that is lost would look like its last word. Without a mark each call must name one of
    ``names`` and have arguments that can be read: prose about a call is not a call.
    """
    text = text.strip()
    if not text or len(text) > _LONGEST or has_too_many_marks(text):
        return []
    found: list[tuple[str, object]] = []
    for match in _MARKED.finditer(text):
        if match["name"] is not None:
            found.append((match["name"], match["given"]))
        else:
            found += _listed(_value_of(match["body"], distinct=True)) or _broken(match["body"].strip())
    found = found or marked_calls(text)
    is_marked = bool(found)
    found = found or python_calls(text)
    if not found:
        opening = _OPENING.match(text)
        is_marked = opening is not None and not opening[0].startswith(_FENCE)
        bare = _CLOSING.sub("", text[opening.end() :] if opening is not None else text).strip()
        if bare[:1] not in ("{", "["):
            return []
        found = _listed(_value_of(bare, distinct=True))
        if bare == text and any(given is None for _, given in found):
            return []  # without a mark, an object that has only a name may be anything
    calls: list[tuple[str, str, Json | None]] = []
    for name, given in found:
        raw, arguments = arguments_of(given)
        if not is_marked and (name not in names or arguments is None):
            return []
        calls.append((name, raw, arguments))
    return calls


def _broken(body: str) -> list[tuple[str, object]]:
    """Return the call that a mark holds whose JSON cannot be read: its arguments are all of that text."""
    named = _WRITTEN_NAME.search(body) if body[:1] in ("{", "[") else None
    return [(named[1], body)] if named is not None else []


def _listed(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    given = value if isinstance(value, list) else [value]
    calls = [named_call(each) if isinstance(each, Mapping) else None for each in given]
    return [call for call in calls if call is not None] if all(calls) else []
