"""Quotes that a model writes are looked up in the documents among its inputs: found, or not an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_type_hints

from pydantic import BaseModel

from dspex.errors import ResponseUnparsable, SignatureError
from dspex.programs._compile import Plan
from dspex.programs.types.quote import Quote, Sources, with_quotes
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import FieldValues

__all__ = ["looked_up", "quoting_outputs", "without_places"]


def quoting_outputs(plan: Plan) -> tuple[str, ...]:
    """
    Return the outputs that have quotes in them; worked out once.

    Raises:
        SignatureError: There are some, and no input that could have documents or passages.
    """
    known: tuple[str, ...] | None = plan.rendered.get(quoting_outputs)
    if known is None:
        known = tuple(each.name for each in plan.outputs if _holds(each.annotation, Quote))
        if known and not any(_holds(each.annotation, Passage) for each in plan.inputs):
            raise SignatureError(
                f"{plan.name} asks for quotes under {', '.join(known)} and has no input of documents to quote: "
                f"declare one, list[Passage] or Document for example"
            )
        plan.rendered[quoting_outputs] = known
    return known


def looked_up(plan: Plan, inputs: Mapping[str, object], outputs: FieldValues, raw: str) -> dict[str, object]:
    """
    Return the outputs with every quote at its place.

    Raises:
        ResponseUnparsable: The words of one stand in none of the documents.
    """
    sources = Sources([_documents(inputs[each.name]) for each in plan.inputs if each.name in inputs])
    placed: dict[str, object] = {}
    wrong: dict[str, str] = {}
    for name in quoting_outputs(plan):
        try:
            if name in outputs:
                placed[name] = with_quotes(outputs[name], sources.place)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise ResponseUnparsable(plan.name, raw, (), wrong)
    return {**outputs, **placed}


def without_places(plan: Plan, outputs: FieldValues) -> FieldValues:
    """Return outputs as a model writes them: as demonstrations have them."""
    bare = {
        name: with_quotes(outputs[name], lambda quote: replace(quote, start=None, end=None))
        for name in quoting_outputs(plan)
        if name in outputs
    }
    return {**outputs, **bare} if bare else outputs


def _documents(value: object) -> Sequence[Passage]:
    """Return the documents of one input, as they are numbered in the prompt."""
    if isinstance(value, Passage):
        return (value,)
    if isinstance(value, Mapping):
        return [one for each in value.values() for one in _documents(each)]
    if isinstance(value, (list, tuple)):
        return [one for each in value for one in _documents(each)]
    return ()


def _holds(annotation: object, wanted: type) -> bool:
    """Tell whether values of a type can have values of another one in them."""
    return any(isinstance(each, type) and issubclass(each, wanted) for each in _types_in(annotation))


def _types_in(annotation: object) -> Iterator[object]:
    left, seen = [annotation], list[object]()
    while left:
        each = left.pop()
        if any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        left.extend(get_args(each))
        if isinstance(each, type) and issubclass(each, BaseModel):
            left.extend(field.annotation for field in each.model_fields.values())
        elif isinstance(each, type) and is_dataclass(each):
            hints = _hints(each)
            left.extend(hints.get(field.name) for field in fields(each))


def _hints(kind: type) -> Mapping[str, object]:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError, AttributeError):  # names that only type checkers know
        return {}
