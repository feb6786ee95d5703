"""Field types of every kind, each with a strategy of its values: what adapters must carry there and back."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
from hypothesis import strategies as st

from dspex.programs import Citations, Code, FieldType, File, Image, OutputField, Reasoning, Signature, ToolCalls
from dspex.protocols.content import Citation
from dspex.protocols.retrieval import Passage


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


class Price(FieldType):
    """An amount and a currency."""

    in_words = "an amount and a currency"

    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def to_text(self) -> str:
        return f"{self.amount} {self.currency}"

    @classmethod
    def from_text(cls, text: str) -> Price:
        amount, _, currency = text.partition(" ")
        return cls(int(amount), currency)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and self.to_text() == other.to_text()

    __hash__ = None  # type: ignore[assignment]  # nobody needs it


MARKERS = st.sampled_from(
    [
        *("[[ ## out ## ]]", "[[ ## completed ## ]]", "\\[[ ## out ## ]]", "  [[ ## x ## ]] y", '"', "null"),
        *("<out>", "</out>", "<\\/out >", "</other>", "<", "```", "```python", "~part0~", '{"out": 1}', "\\u0041"),
    ]
)
LINES = st.lists(st.one_of(st.text(max_size=12), MARKERS), max_size=4).map("\n".join)
TEXTS = st.one_of(st.text(max_size=30), LINES).map(str.strip)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), FLOATS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
ITEMS = st.builds(Item, name=TEXTS, sizes=st.lists(st.integers(-9, 9), max_size=2), note=st.none() | TEXTS)

CODE = st.one_of(st.text(max_size=30), LINES)
CALLS = st.tuples(st.sampled_from(["search", "add"]), st.dictionaries(TEXTS, JSON, max_size=2))
SOURCES = st.builds(Citation, TEXTS, TEXTS, TEXTS, st.none() | st.integers(0, 9))

BYTES = st.binary().filter(lambda data: not data.startswith(b"%PDF-"))  # which is not an image
PYTHON: Any = Code[Literal["python"]]

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
    "own type": (Price, st.builds(Price, st.integers(), st.sampled_from(["EUR", "USD"]))),
    "own types": (list[Price], st.lists(st.builds(Price, st.integers(), st.just("EUR")), max_size=3)),
    "code": (PYTHON, CODE.map(PYTHON)),
    "codes": (dict[str, PYTHON], st.dictionaries(TEXTS, CODE.map(PYTHON), max_size=2)),
    "reasoning": (Reasoning, TEXTS.map(Reasoning)),
    "tool calls": (ToolCalls, st.lists(CALLS, max_size=3).map(ToolCalls)),
    "citations": (Citations, st.lists(SOURCES, max_size=3).map(Citations)),
    "image": (Image, st.builds(Image, st.just("image/png"), BYTES, detail=st.sampled_from([None, "low"]))),
    "image or none": (Image | None, st.none() | st.builds(Image, st.just("image/png"), BYTES)),
    "files": (list[File], st.lists(st.builds(File, st.just("text/plain"), st.binary(), name=TEXTS), max_size=2)),
}
SIGNATURES: dict[str, type[Signature]] = {
    name: Signature.from_string("question -> other: int").append("out", OutputField(), type_)
    for name, (type_, _) in VALUES.items()
}
