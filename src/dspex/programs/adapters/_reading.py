"""From the texts or JSON values of an answer to outputs, with defaults, repairs and everything that was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, Repair
from dspex.programs.adapters._exact_json import refuse_controls
from dspex.programs.adapters._find_object import BEFORE_OBJECT, find_object, object_alone
from dspex.programs.adapters._forgive import NOTHING
from dspex.programs.adapters._headers import FieldNames, split
from dspex.programs.adapters._repair import Reading, describe
from dspex.programs.adapters._value_thoughts import may_begin_with_thoughts, thoughts_in_value
from dspex.programs.adapters._values import TextCodec
from dspex.programs.fields import Field
from dspex.programs.types.reasoning import Reasoning

__all__ = ["nothing_read", "read_object", "read_texts", "unreadable"]


def read_texts(
    plan: Plan, texts: Mapping[str, str], raw: str, repairs: Sequence[Repair] = (), thoughts: str = ""
) -> Parsed:
    """
    Read each output from its text.

    Args:
        plan: The signature.
        texts: The text of each output.
        raw: The whole answer, for errors.
        repairs: The repairs that finding the texts took.
        thoughts: The thoughts before the answer: the value of a ``Reasoning`` that the answer leaves out.

    Raises:
        ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
    """
    outputs: dict[str, object] = {}
    taken = list(repairs)
    within: list[str] = []
    missing: list[str] = []
    invalid: dict[str, str] = {}
    for field in plan.outputs:
        name = field.name
        text = texts.get(name)
        if text is None or (not text and _may_be_empty(field)):
            _default(field, outputs, missing, thoughts)
            continue
        within += _take(field, field.codec.read, text, outputs, taken, invalid)
    if missing or invalid:
        raise ResponseUnparsable(plan.name, raw, missing, invalid)
    return Parsed(outputs, tuple(taken), "\n\n".join(within))


def read_object(plan: Plan, raw: str, thoughts: str = "") -> Parsed:
    """
    Read the outputs from one JSON object; other keys are ignored, and so are thoughts before it.

    Raises:
        ResponseUnparsable: There is no object, there are several, outputs without a default are missing, or have a
            value of another type.
    """
    try:
        found, repair = object_alone(plan, raw), ""
        if found is None:
            spoken = BEFORE_OBJECT.spoken(raw)
            thoughts = thoughts or spoken.thoughts
            if spoken.unclear:
                raise ValueError("an object stands among thoughts that begin behind the first one")
            found, repair = find_object(plan, spoken.text)
    except ValueError as error:
        raise unreadable(plan, raw, describe(error)) from error
    if found is None and plan.outputs:
        names = FieldNames.of(plan)
        sections = split(names, names.thoughts.spoken(raw).text)
        if sections.texts and not sections.unclear:
            return read_texts(plan, sections.texts, raw, (Repair("", "format"),), thoughts)
        raise nothing_read(plan, raw)
    found = found or {}
    try:
        refuse_controls(raw, found)
    except ValueError as error:
        raise unreadable(plan, raw, describe(error)) from error
    outputs: dict[str, object] = {}
    repairs = [Repair("", repair)] if repair else []
    within: list[str] = []
    missing: list[str] = []
    invalid: dict[str, str] = {}
    for field in plan.outputs:
        name = field.name
        if name not in found or (found[name] is None and not field.optional and field.has_default):
            _default(field, outputs, missing, thoughts)
            continue
        within += _take(field, field.codec.read_json, found[name], outputs, repairs, invalid)
    if missing or invalid:
        raise ResponseUnparsable(plan.name, raw, missing, invalid)
    return Parsed(outputs, tuple(repairs), "\n\n".join(within))


def unreadable(plan: Plan, raw: str, why: str) -> ResponseUnparsable:
    """Return the error of an answer that cannot be understood as a whole."""
    return ResponseUnparsable(plan.name, raw, (), {each.name: why for each in plan.outputs[:1]})


def nothing_read(plan: Plan, raw: str) -> ResponseUnparsable:
    """Return the error of an answer in which nothing of the format is: outputs that may be left out were not."""
    needed = [each.name for each in plan.outputs if not (each.has_default or each.optional)]
    return ResponseUnparsable(plan.name, raw, needed or [each.name for each in plan.outputs])


def _default(field: Field, outputs: dict[str, object], missing: list[str], thoughts: str) -> None:
    if thoughts and field.annotation is Reasoning:
        outputs[field.name] = Reasoning(thoughts)
    elif field.has_default or field.optional:
        outputs[field.name] = field.make_default()
    else:
        missing.append(field.name)


def _take(
    field: Field,
    read: Callable[[Any], Reading],
    found: object,
    outputs: dict[str, object],
    repairs: list[Repair],
    invalid: dict[str, str],
) -> list[str]:
    """Read one value, and return the thoughts that stood before it."""
    thought, is_text = None, isinstance(field.codec, TextCodec)
    if isinstance(found, str) and may_begin_with_thoughts(field):
        thought = thoughts_in_value(found, is_text=is_text)
    if thought is not None:
        if not thought.text:
            invalid[field.name] = "there are thoughts, and no value behind them"
            return []
        try:  # a type other than text may be written with such marks
            outputs[field.name], repair = read(thought.text if is_text else found)
        except Exception:  # noqa: BLE001 - as below
            found = thought.text
        else:
            repairs += [Repair(field.name, repair)] if repair else []
            repairs += [Repair(field.name, "thoughts")] if is_text else []
            return [thought.thoughts.strip()] if is_text else []
    try:
        outputs[field.name], repair = read(found)
    except Exception as error:  # noqa: BLE001 - the type's own validators run on what a model wrote, and may raise anything
        if field.has_default and isinstance(found, str) and found.strip().lower() in NOTHING:
            outputs[field.name], repair = field.make_default(), "literal"
        else:
            invalid[field.name] = describe(error)
            return []
    if repair:
        repairs.append(Repair(field.name, repair))
    if thought is None:
        return []
    repairs.append(Repair(field.name, "thoughts"))
    return [thought.thoughts.strip()]


def _may_be_empty(field: Field) -> bool:
    """An empty section means "left out" where the field may be left out and an empty text is not a value of it."""
    return (field.has_default or field.optional) and not isinstance(field.codec, TextCodec)
