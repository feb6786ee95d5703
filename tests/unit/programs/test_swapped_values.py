"""A truth value is not a number, and no key of an object is lost behind another: both are asked again."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pydantic
import pytest

import dspex
from dspex.errors import ResponseUnparsable, ToolArgumentsInvalid
from dspex.programs import ChatAdapter, JSONAdapter, Signature, ToolAdapter, XMLAdapter

ADAPTERS = [ChatAdapter(), JSONAdapter(), XMLAdapter(), ToolAdapter()]
REFUSED = "refused"


class Level(enum.IntEnum):
    """Numbers with names."""

    LOW = 1


class User(pydantic.BaseModel):
    """A field that has two names."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    age: int = 0
    name: str = pydantic.Field("", alias="userName")


VALUES: dict[str, tuple[Any, str, object]] = {
    "in a list": (list[int], "[true]", REFUSED),
    "in a list of fractions": (list[float], "[1.5, false]", REFUSED),
    "as Python writes it": (list[int], "[1, True]", REFUSED),
    "beside None": (int | None, "true", REFUSED),
    "a value of a mapping": (dict[str, int], '{"a": true}', REFUSED),
    "in a model": (User, '{"age": true}', REFUSED),
    "in a list of models": (list[User], '[{"age": 3}, {"age": false}]', REFUSED),
    "for an enum of numbers": (list[Level], "[true]", REFUSED),
    "for a choice of numbers": (list[Literal[0, 1]], "[false]", REFUSED),
    "in a tuple": (tuple[int, bool], "[true, true]", REFUSED),
    "where it is asked for": (tuple[int, bool], "[1, true]", (1, True)),
    "one of several types": (dict[str, bool | int], '{"a": true}', {"a": True}),
    "a text of several types": (list[int | str], "[true, 2]", ["true", 2]),
    "two keys for one number": (dict[int, str], '{"1": "a", "01": "b"}', REFUSED),
    "two keys that say the same": (dict[int, str], '{"1": "a", "01": "a"}', {1: "a"}),
    "two names of one field": (User, '{"userName": "a", "name": "b"}', REFUSED),
    "two names that say the same": (User, '{"userName": "a", "name": "a"}', User.model_validate({"name": "a"})),
    "two names in a list": (list[User], '[{"userName": "a", "name": "b"}]', REFUSED),
}


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", VALUES)
def test_no_value_takes_the_place_of_another(adapter: Any, case: str) -> None:
    """By text, by JSON, by elements and by arguments alike."""
    annotation, text, wanted = VALUES[case]
    signature = Signature.from_string("question -> value: Value", types={"Value": annotation})
    if adapter.name == "chat":
        text = f"[[ ## value ## ]]\n{text}\n\n[[ ## completed ## ]]"
    elif adapter.name == "xml":
        text = f"<value>{text}</value>"
    elif "True" in text:
        return
    else:
        text = json.dumps({"value": json.loads(text)})
    try:
        found = adapter.parse(signature, text).outputs["value"]
    except ResponseUnparsable:
        found = REFUSED
    assert found == wanted
    assert type(found) is type(wanted)


@dspex.tool
def add(number: int, others: list[int] | None = None, named: dict[int, str] | None = None) -> int:
    """Add numbers."""
    return number + sum(others or ()) + len(named or ())


@pytest.mark.parametrize(
    "given",
    [{"number": True}, {"number": 1, "others": [False]}, {"number": 1, "named": {"1": "a", "01": "b"}}],
)
async def test_arguments_of_tools_are_held_to_the_same(given: dict[str, Any]) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        add.check(given)
    assert add.check({"number": "3", "others": [1]}) == {"number": 3, "others": [1]}
