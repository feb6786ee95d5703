"""The chat format carries any value there and back, and any text at all is an answer or a typed error."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex.errors import ResponseUnparsable
from dspex.programs import ChatAdapter, InputField, OutputField, Signature
from dspex.protocols.retrieval import Passage

ADAPTER = ChatAdapter()


class Color(enum.Enum):
    RED = "red"
    BLUE = "BLUE?"
    CROSSED = "RED"
    NUMBER = 3


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Item(pydantic.BaseModel):
    name: str
    sizes: list[int]
    note: str | None = None


@dataclass
class Point:
    x: int
    y: float


Odd = Literal["a", "[[ ## out ## ]]", " padded ", '"quoted"', "", "1", 1, True, "True", None, "null", "two\nlines"]  # noqa: PYI061 - odd on purpose

HEADER = st.sampled_from(
    ["[[ ## out ## ]]", "[[ ## completed ## ]]", "\\[[ ## out ## ]]", "  [[ ## x ## ]] y", '"', "null"]
)
LINES = st.lists(st.one_of(st.text(max_size=12), HEADER), max_size=4).map("\n".join)
TEXTS = st.one_of(st.text(max_size=30), LINES).map(str.strip)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), FLOATS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
ITEMS = st.builds(Item, name=TEXTS, sizes=st.lists(st.integers(-9, 9), max_size=2), note=st.none() | TEXTS)

VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "str": (str, TEXTS),
    "int": (int, st.integers()),
    "float": (float, st.floats(allow_nan=False)),
    "bool": (bool, st.booleans()),
    "optional str": (str | None, st.none() | TEXTS),
    "optional int": (int | None, st.none() | st.integers(-(2**60), 2**60)),
    "number or text": (int | str, st.integers(-(2**60), 2**60) | TEXTS),
    "text or list": (str | list[str], TEXTS | st.lists(TEXTS, max_size=3)),
    "list of str": (list[str], st.lists(TEXTS, max_size=4)),
    "mapping": (dict[str, int], st.dictionaries(TEXTS, st.integers(-9, 9), max_size=3)),
    "any object": (dict[str, Any], st.dictionaries(TEXTS, JSON, max_size=3)),
    "any": (Any, JSON),
    "tuple": (tuple[int, str], st.tuples(st.integers(-9, 9), TEXTS)),
    "set": (set[int], st.sets(st.integers(-9, 9), max_size=3)),
    "literal": (Literal["yes", "no"], st.sampled_from(["yes", "no"])),
    "odd literal": (Odd, st.sampled_from(Odd.__args__)),  # type: ignore[attr-defined]  # a Literal has __args__
    "optional literal": (Literal["yes", "no"] | None, st.sampled_from(["yes", "no", None])),
    "enum": (Color, st.sampled_from(Color)),
    "int enum": (Level, st.sampled_from(Level)),
    "optional enum": (Color | None, st.none() | st.sampled_from(Color)),
    "enums": (list[Color], st.lists(st.sampled_from(Color), max_size=3)),
    "model": (Item, ITEMS),
    "models": (list[Item], st.lists(ITEMS, max_size=2)),
    "model or none": (Item | None, st.none() | ITEMS),
    "dataclass": (Point, st.builds(Point, st.integers(-9, 9), FLOATS)),
    "passages": (list[Passage], st.lists(st.builds(Passage, TEXTS, TEXTS, FLOATS), max_size=3)),
    "date": (dt.date, st.dates()),
    "datetime": (dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    "uuid": (uuid.UUID, st.uuids()),
    "decimal": (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
}
SIGNATURES = {
    name: Signature.from_string("question -> other: int").append("out", OutputField(), type_)
    for name, (type_, _) in VALUES.items()
}


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_what_is_written_is_read_back(kind: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind][1])
    signature = SIGNATURES[kind]

    text = ADAPTER.format_outputs(signature, {"other": 7, "out": value})
    parsed = ADAPTER.parse(signature, text)

    assert parsed.outputs == {"other": 7, "out": value}
    assert type(parsed.outputs["out"]) is type(value)
    assert parsed.repairs == ()


@pytest.mark.parametrize("kind", VALUES)
@given(junk=st.one_of(st.text(max_size=60), LINES, JSON.map(repr)))
@example(junk="[" * 7_000)
@example(junk="9" * 5_000)
@example(junk="-" * 7_000 + "1")
@example(junk="(" * 300)
@example(junk='{"a":' * 2_000)
@example(junk="\ud800")
@example(junk="\x00")
def test_any_text_is_an_answer_or_a_typed_error(kind: str, junk: str) -> None:
    for text in (junk, f"[[ ## other ## ]]\n1\n\n[[ ## out ## ]]\n{junk}"):
        try:
            parsed = ADAPTER.parse(SIGNATURES[kind], text)
        except ResponseUnparsable as caught:
            error = caught
        else:
            assert list(parsed.outputs) == ["other", "out"]
            continue
        assert error.raw == text
        assert error.missing_fields or error.invalid_fields


class Asked(Signature):
    before: str = InputField()
    text: str = InputField()
    answer: str = OutputField()


@given(before=TEXTS, text=TEXTS)
def test_no_input_can_forge_a_field_of_the_prompt(before: str, text: str) -> None:
    """The last turn has exactly the headers of the inputs, whatever the inputs say."""
    content = ADAPTER.format(Asked, {"before": before, "text": text})[-1].text

    headers = [line for line in content.split("\n") if line.strip().startswith("[[ ## ")]

    assert headers == ["[[ ## before ## ]]", "[[ ## text ## ]]"]
