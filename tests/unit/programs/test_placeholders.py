"""Values made up for every type of field that adapters carry."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

import annotated_types as at
import pydantic
import pytest

import dspex
from dspex.errors import ConfigError
from dspex.programs.placeholders import TEXT, placeholder, placeholders
from dspex.programs.signature import plan_of
from tests.support.field_values import SIGNATURES


class Tree(pydantic.BaseModel):
    name: str
    kind: Literal["leaf", "node"]
    children: list[Tree] = []
    born: dt.date
    score: Annotated[float, at.Ge(0.5), at.Lt(0.75)]


class Refuses(pydantic.BaseModel):
    code: Annotated[str, pydantic.AfterValidator(lambda text: _only(text))]


def _only(text: str) -> str:
    if text != "the one":
        raise ValueError("not the one")
    return text


OPAQUE = ("own type", "image")
"""Types that say nothing of what they are made of."""


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name not in OPAQUE])
@pytest.mark.parametrize("adapter", [dspex.ChatAdapter(), dspex.JSONAdapter(), dspex.XMLAdapter()])
def test_every_adapter_reads_what_is_made_up(name: str, adapter: dspex.Adapter) -> None:
    """So that a dry run goes through the same parsing as any answer."""
    signature = SIGNATURES[name]
    values = placeholders(signature)
    read = adapter.parse(signature, adapter.format_outputs(signature, values)).outputs
    assert read.keys() == values.keys() == {each.name for each in plan_of(signature).outputs}


@pytest.mark.parametrize("name", OPAQUE)
def test_type_that_does_not_say_what_it_is_made_of_is_refused(name: str) -> None:
    """Better than a guess that its own program cannot read."""
    with pytest.raises(ConfigError, match=r"output 'out' of type .*: give it a default"):
        placeholders(SIGNATURES[name])


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, TEXT),
        (int, 1),
        (bool, True),
        (Literal["no", "yes"], "no"),
        (list[int], [1]),
        (dict[str, int], {}),
        (tuple[int, str], (1, TEXT)),
        (int | None, 1),
        (Annotated[str, at.MaxLen(4)], "word"),
        (Annotated[int, at.Ge(7), at.MultipleOf(5)], 10),
        (Annotated[int, at.Gt(3), at.Lt(5)], 4),
        (Annotated[int, at.Le(-2)], -2),
        (Annotated[list[str], at.MinLen(2)], [TEXT, TEXT]),
        (dt.date, dt.date(2000, 1, 1)),
        (uuid.UUID, uuid.UUID("00000000-0000-4000-8000-000000000000")),
        (Any, TEXT),
    ],
)
def test_values_are_small_and_within_bounds(annotation: Any, expected: Any) -> None:
    """The first of a choice, the nearest number, one element."""
    signature = dspex.Predict("q -> a").signature.with_updated_fields("a", type_=annotation)
    assert placeholder(plan_of(signature).fields["a"]) == expected


def test_records_are_filled_and_their_own_kind_ends_in_them() -> None:
    """The fields that a record requires, and no more."""
    signature = dspex.Predict("q -> a").signature.with_updated_fields("a", type_=Tree)
    tree = placeholder(plan_of(signature).fields["a"])
    assert isinstance(tree, Tree)
    assert (tree.kind, tree.children, tree.score) == ("leaf", [], 0.5)


def test_type_that_takes_nothing_else_says_what_to_do() -> None:
    """A validator of one's own cannot be guessed."""
    signature = dspex.Predict("q -> a").signature.with_updated_fields("a", type_=Refuses)
    with pytest.raises(ConfigError, match="output 'a' of type Refuses: give it a default"):
        placeholders(signature)
