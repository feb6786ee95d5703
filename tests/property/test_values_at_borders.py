"""Values of every field type at every border: what is read back is what was written, its type included."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dspex
from dspex.app._rows import RowJournal, result_type
from dspex.optimizers.identity import Identity
from dspex.programs import Audio, History, Image, Module, Predict, Prediction, Signature, Tool, ToolCalls
from dspex.programs.fields import OutputField
from dspex.programs.portable import Known, portable, restored, same
from dspex.protocols.content import ToolCall
from dspex.protocols.executor import Ok
from dspex.protocols.lm import Message
from tests.support.field_values import FLOATS, JSON, PYTHON, TEXTS, VALUES, Color, Item, Point


class Address(pydantic.BaseModel):
    """Its names differ from what is written."""

    zip_code: str = pydantic.Field(alias="postal code")
    street: str = pydantic.Field("", validation_alias="in", serialization_alias="out")


class Wide(pydantic.BaseModel, extra="allow"):
    """Takes more than it says, and computes."""

    x: int

    @pydantic.computed_field  # type: ignore[prop-decorator]  # pydantic's own example
    @property
    def double(self) -> int:
        return 2 * self.x


class Narrow(pydantic.BaseModel, extra="forbid"):
    """Takes nothing more, and computes."""

    x: int

    @pydantic.computed_field  # type: ignore[prop-decorator]  # pydantic's own example
    @property
    def double(self) -> int:
        return 2 * self.x


class Sub(Item):
    """More than its field declares."""

    more: int = 0


class Shape(enum.Enum):
    """Values that JSON does not have."""

    SMALL = (1, 2)
    DAY = dt.date(2024, 2, 29)


@dataclass
class Nest:
    """A dataclass of dataclasses."""

    points: list[Point]
    at: dt.datetime
    color: Color = Color.RED
    tags: frozenset[str] = frozenset()
    inner: Nest | None = None
    sizes: dict[int, tuple[int, ...]] = field(default_factory=dict)


class Pair(NamedTuple):
    """A named tuple."""

    one: int
    two: str


def search(query: str, k: int = 3) -> str:
    """Search."""
    return query


NESTS = st.builds(
    Nest,
    st.lists(st.builds(Point, st.integers(-9, 9), FLOATS), max_size=2),
    st.datetimes(),
    st.sampled_from(Color),
    st.frozensets(TEXTS, max_size=2),
    st.none() | st.builds(Nest, st.just([]), st.datetimes()),
    st.dictionaries(st.integers(-9, 9), st.tuples(st.integers(-9, 9)), max_size=2),
)
NATIVE = st.builds(
    lambda arguments, data: ToolCall("call_x", "search", arguments, json.dumps(arguments, indent=1), data),
    st.dictionaries(TEXTS, JSON, max_size=2),
    st.dictionaries(TEXTS, TEXTS, max_size=1),
)
MORE: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "aliased model": (Address, st.builds(lambda z, s: Address(**{"postal code": z, "in": s}), TEXTS, TEXTS)),
    "aliased models": (list[Address], st.lists(st.builds(lambda z: Address(**{"postal code": z}), TEXTS), max_size=2)),
    "wide model": (Wide, st.builds(lambda x, y: Wide.model_validate({"x": x, "y": y}), st.integers(), JSON)),
    "narrow model": (Narrow, st.builds(Narrow, x=st.integers())),
    "subclass": (Item, st.builds(Sub, name=TEXTS, sizes=st.just([1]), more=st.integers())),
    "enum of odd values": (Shape, st.sampled_from(Shape)),
    "nested dataclasses": (Nest, NESTS),
    "named tuple": (Pair, st.builds(Pair, st.integers(), TEXTS)),
    "date or text": (dt.date | str, st.dates() | TEXTS),
    "date or datetime": (dt.date | dt.datetime, st.dates() | st.datetimes()),
    "set or list": (list[int] | set[int], st.sets(st.integers(-9, 9)) | st.lists(st.integers(-9, 9))),
    "frozen set of tuples": (
        frozenset[tuple[int, str]],
        st.frozensets(st.tuples(st.integers(-9, 9), TEXTS), max_size=2),
    ),
    "mapping of tuples": (
        dict[tuple[int, int], dt.date],
        st.dictionaries(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), st.dates(), max_size=2),
    ),
    "mapping of numbers": (dict[int, str], st.dictionaries(st.integers(), TEXTS, max_size=2)),
    "bytes": (bytes, st.binary()),
    "duration": (dt.timedelta, st.timedeltas()),
    "time": (dt.time, st.times()),
    "any float": (list[float], st.lists(st.floats(), max_size=2)),
    "anything": (
        Any,
        st.dates() | st.sets(st.integers()) | st.tuples(st.dates()) | st.binary() | st.just({"~": 1}),
    ),
    "any code": (Any, TEXTS.map(PYTHON)),
    "native calls": (ToolCalls, st.builds(ToolCalls, st.lists(NATIVE, max_size=2), st.just("") | TEXTS)),
    "broken call": (ToolCalls, st.just(ToolCalls([ToolCall("c", "s", None, '{"q')]))),
    "history": (
        History,
        st.lists(
            st.builds(lambda q, d: {"question": q, "day": d}, TEXTS, st.dates())
            | st.builds(lambda call: Message("assistant", (call,)), NATIVE),
            max_size=3,
        ).map(History),
    ),
    "audio": (
        Audio,
        st.builds(Audio.from_bytes, st.binary(), media_type=st.sampled_from(["audio/wav", "audio/x-own"])),
    ),
    "image by address": (Image, st.just(Image.from_url("https://x.org/a", media_type="image/png"))),
    "tools": (list[Tool[..., Any]], st.just([Tool(search)])),
}
KINDS = {**VALUES, **MORE}
SIGNATURES = {
    name: Signature.from_string("question -> other: int").append("out", OutputField(default=None), type_)
    for name, (type_, _) in KINDS.items()
    if name != "tools"
}
QUICK = settings(max_examples=5, derandomize=True, deadline=None)
kinds = pytest.mark.parametrize("kind", sorted(KINDS))


def is_same(found: Any, value: Any) -> None:
    assert same(found, value), f"{found!r} is not {value!r}"


def drawn(kind: str, check: Callable[[Any], None]) -> None:
    """Try a border on values of a kind."""
    QUICK(given(KINDS[kind][1])(check))()


@kinds
def test_json_of_the_declared_type(kind: str) -> None:
    """The forms of journals and saved programs, with the type known."""
    annotation = KINDS[kind][0]
    adapter, known = pydantic.TypeAdapter(annotation), Known([annotation])

    def check(value: Any) -> None:
        text = json.dumps(portable(value, adapter.validate_python, known), allow_nan=False)
        is_same(restored(json.loads(text), adapter.validate_python, known), value)

    drawn(kind, check)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"tools"}))
def test_json_without_a_declared_type(kind: str) -> None:
    """A program that does not say what it returns gets back what it returned."""
    known = Known([KINDS[kind][0]])

    def check(value: Any) -> None:
        is_same(restored(json.loads(json.dumps(portable(value, None, known))), None, known), value)

    drawn(kind, check)


@pytest.mark.parametrize("kind", sorted(SIGNATURES))
def test_demonstrations_in_a_saved_program(kind: str) -> None:
    """The file is JSON, and the loaded program shows the model the same."""
    signature = SIGNATURES[kind]

    def check(value: Any) -> None:
        program = Predict(signature, demos=[{"question": "q", "other": 1, "out": value, "beside": value}])
        with tempfile.TemporaryDirectory() as folder:
            program.save(Path(folder, "p.json"))
            loaded = Predict(signature).load(Path(folder, "p.json"))
        is_same(loaded.demos[0]["out"], value)
        is_same(loaded.demos[0]["beside"], value)
        if kind != "set":  # whose order is its own
            assert loaded._prefix == program._prefix

    drawn(kind, check)


@pytest.mark.parametrize("kind", sorted(SIGNATURES))
def test_records_leave_the_process(kind: str) -> None:
    """Pickled, copied, deep-copied, and their dict is JSON."""
    signature: Any = SIGNATURES[kind]

    def check(value: Any) -> None:
        record = signature(question="q")
        record.other, record.out = 1, value
        for again in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record)):
            is_same(again.out, value)
            assert again == record or value != value
        free = Prediction(out=value)
        is_same(pickle.loads(pickle.dumps(free)).out, value)
        is_same(copy.deepcopy(free).out, value)
        assert json.loads(json.dumps(record.to_dict())).keys() == {"question", "other", "out"}
        assert json.loads(json.dumps(free.to_dict())).keys() == {"out"}

    drawn(kind, check)


class Says(Module):
    """Returns what it was told to, and does not say what that is."""

    def __init__(self, signature: type[Signature]) -> None:
        self.predict = Predict(signature)

    async def forward(self) -> Any:
        raise NotImplementedError


class SaysPrediction(Says):
    """Says that it returns a prediction."""

    async def forward(self) -> Prediction:
        raise NotImplementedError


@pytest.mark.parametrize("program", [Says, SaysPrediction])
@pytest.mark.parametrize(
    "kind", ["date", "set", "nested dataclasses", "tool calls", "native calls", "citations", "image"]
)
async def test_rows_of_a_journal(kind: str, program: type[Says], tmp_path: Path) -> None:
    """A record of a signature written as a string is that record again, its values of their types."""
    signature: Any = SIGNATURES[kind]
    values: list[Any] = []
    QUICK(given(KINDS[kind][1])(lambda value: values.append(value)))()
    made = program(signature)
    for pass_ in range(2):
        journal = RowJournal(tmp_path / "rows.db", Identity({}), result_type(made), retry_failed=False)
        await journal.open()
        for number, value in enumerate(values):
            record = signature(question="q")
            record.other, record.out = 1, value
            found = await journal.begin(str(number), "")
            assert (found is not None) == bool(pass_)
            if isinstance(found, Ok):
                is_same(found.value, record)
                assert type(found.value) is signature
            else:
                await journal.end(str(number), Ok(record))
        await journal.aclose()


@pytest.mark.parametrize(
    "kind",
    [
        "tool calls",
        "native calls",
        "broken call",
        "citations",
        "image",
        "image by address",
        "audio",
        "code",
        "reasoning",
        "tools",
    ],
)
def test_json_of_pydantic(kind: str) -> None:
    """The use of dspex's own types in a web framework."""
    adapter = pydantic.TypeAdapter(KINDS[kind][0])

    def check(value: Any) -> None:
        is_same(adapter.validate_json(adapter.dump_json(value)), value)
        is_same(adapter.validate_python(adapter.dump_python(value, mode="json")), value)
        assert json.loads(pydantic.TypeAdapter(Any).dump_json(value)) == json.loads(adapter.dump_json(value))

    drawn(kind, check)


class Strange:
    """Nothing that is data."""


@pytest.mark.parametrize("value", [Strange(), [Strange()], {"a": Strange()}, {"a": search}, Strange])
def test_what_has_no_json_form_says_so(value: Any) -> None:
    """A typed error at the border, before anything is written."""
    with pytest.raises(TypeError, match="no JSON form"):
        portable(value)
    with pytest.raises(TypeError, match=r"Prediction\.x: .* no JSON form"):
        Prediction(x=value).to_dict()
    with pytest.raises(dspex.StateError, match=r"demonstration 0 of .*: out: .* no JSON form"):
        Predict(SIGNATURES["any"], demos=[{"question": "q", "out": value}]).dump_state()


@pytest.mark.parametrize(
    "data",
    [
        {"~": "dataclass", "c": "os:system", "v": {}},
        {"~": "model", "c": "builtins:object", "v": {}},
        {"~": "enum", "c": "tests.property.test_values_at_borders:Shape", "v": "LARGE"},
        {"~": "date", "v": "x"},
        {"~": "date"},
        {"~": "no such"},
        {"~": ["date"], "v": 1},
        {"~": "dict", "v": [[[], 1]]},
        {"~": "dataclass", "c": "tests.property.test_values_at_borders:Nest", "v": {}},
        {"~": "set", "v": [[1]]},
    ],
)
def test_files_that_lie_are_refused(data: Any) -> None:
    """Nothing is imported or run for a file; what it says is data or an error."""
    with pytest.raises(ValueError):
        restored(data, None, Known([Shape, Nest]))


@given(JSON)
def test_json_is_written_as_it_is(value: Any) -> None:
    """Only what JSON cannot tell costs more than its own form, and keys that look like our mark."""
    assume('"~"' not in json.dumps(value))
    assert portable(value) == value


def test_sets_are_written_in_one_order() -> None:
    """A journal and a fingerprint are the same in every process, whatever order a set of texts has there."""
    words = {f"word {number}" for number in range(20)}
    assert Prediction(x=words).to_dict()["x"] == sorted(words)
    written = {"~": "set", "v": sorted(words)}
    assert portable(words) == written
    assert portable({"a": words}) == {"~": "json", "v": {"a": written}}
