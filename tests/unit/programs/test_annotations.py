"""Annotations evaluated at once, kept as text, or evaluated when read (Python 3.14): they mean the same."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import dspex
from dspex.errors import SignatureError, ToolInvalid
from dspex.programs.inputs import inputs_of

IMPORTS = """\
import enum
import pydantic
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
import typing
import dspex
from dspex import InputField, OutputField, Signature
if TYPE_CHECKING:
    from decimal import Decimal
"""
AS_TEXT = "from __future__ import annotations\n"
evaluates_when_read = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14 an annotation is evaluated at once, and this one fails then"
)
HEADS = [pytest.param("", id="as written", marks=evaluates_when_read), pytest.param(AS_TEXT, id="as text")]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the names of a module with this source."""

    def run(source: str, head: str = "") -> dict[str, Any]:
        module = types.ModuleType("annotated")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(head + IMPORTS + source, "annotated.py", "exec", dont_inherit=True), vars(module))
        return vars(module)

    return run


def type_texts(signature: Any) -> list[str]:
    return [each.type_text for each in signature.fields.values()]


# --- the same on every Python -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [pytest.param("", id="as written"), pytest.param(AS_TEXT, id="as text")])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            """
class S(Signature):
    k: Annotated[int, pydantic.Field(ge=1)] | None = InputField()
    mood: Literal["good", "bad"] = InputField()
    day: date = OutputField()
    note: ClassVar[str] = "x"
    _own: int
""",
            ["int | None", "Literal['good', 'bad']", "date"],
            id="types of the module",
        ),
        pytest.param(
            """
def make():
    @dataclass
    class Local:
        x: int
    class S(Signature):
        one: Local = InputField()
        many: dict[str, list[Local]] | None = OutputField()
        quoted: list["Local"] = OutputField()
    return S
S = make()
""",
            ["Local", "dict[str, list[Local]] | None", "list[Local]"],
            id="types of the function around the class",
        ),
        pytest.param(
            """
class S(Signature):
    class Mood(enum.Enum):
        GOOD = 1
    Moods = list[Mood]
    a: Moods = InputField()
    b: Mood | None = OutputField()
""",
            ["list[Mood]", "Mood | None"],
            id="types in the class body",
        ),
        pytest.param(
            """
class S(Signature):
    a: str = InputField()
    if True:
        b: int = OutputField()
    else:
        c: int = OutputField()
""",
            ["str", "int"],
            id="fields under a condition",
        ),
        pytest.param(
            """
class Base(Signature):
    a: str = InputField()
    str: int = OutputField()
class S(Base):
    c: str = InputField()
""",
            ["str", "str", "int"],
            id="a base's field of the name of a type",
        ),
    ],
)
def test_a_class_compiles_to_the_same_fields(run: Any, head: str, source: str, expected: list[str]) -> None:
    """Bare or under ``from __future__ import annotations``, on every Python."""
    assert type_texts(run(source, head)["S"]) == expected


def test_what_annotations_say_beside_the_type_is_kept(run: Any) -> None:
    """However they are evaluated."""
    source = "class S(Signature):\n    k: Annotated[int, pydantic.Field(ge=1)] = OutputField()\n"

    for head in ("", AS_TEXT):
        field = run(source, head)["S"].fields["k"]

        with pytest.raises(ValueError, match="greater than or equal to 1"):
            field.codec.check(0)


# --- what only annotations that are not evaluated at once may say ----------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            """
class S(Signature):
    text: str = InputField()
    date: date = InputField()
    str: str = OutputField()
    list: list[str] = OutputField()
""",
            ["str", "date", "str", "list[str]"],
            id="fields of the names of their types",
        ),
        pytest.param(
            """
class Outer:
    class Mood(enum.Enum):
        GOOD = 1
    class S(Signature):
        a: Mood = InputField()
        b: list[Mood] = OutputField()
S = Outer.S
""",
            ["Mood", "list[Mood]"],
            id="types of the class around the class",
        ),
        pytest.param(
            """
class S(Signature):
    a: list[str] = InputField()
    b: str = OutputField()
    def list(self): ...
    @property
    def str(self): ...
""",
            ["list[str]", "str"],
            id="methods of the names of types",
        ),
        pytest.param(
            """
def make():
    @dataclass
    class Local:
        x: int
    class S(Signature):
        a: Local = InputField()
        b: Annotated[list["Local"] | None, "some"] = OutputField()
        price: ClassVar[Decimal] = 1
        _own: Decimal
    return S
S = make()
""",
            ["Local", "list[Local] | None"],
            id="unknown names where there is no field",
        ),
    ],
)
def test_a_class_that_could_not_be_evaluated_at_once(run: Any, head: str, source: str, expected: list[str]) -> None:
    """Text and annotations of Python 3.14 agree."""
    assert type_texts(run(source, head)["S"]) == expected


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on no field hides a type")
@pytest.mark.parametrize("name", ["date", "other"])
def test_a_type_behind_a_field_of_its_name_is_refused_with_the_way_out(run: Any, name: str) -> None:
    """A class body looks up its own names first."""
    source = f"class S(Signature):\n    date: str = InputField()\n    {name}: date = InputField()\n"
    with pytest.raises(SignatureError, match=rf"S\.{name}: .* put `from __future__ import annotations` at the top"):
        run(source)
    assert type_texts(run(source, AS_TEXT)["S"])[-1] == "date"


@evaluates_when_read
def test_functions_further_out_are_seen_by_what_is_no_text(run: Any) -> None:
    """Python keeps what the annotations use, though another one of them names what is not known."""
    source = """
def make():
    class Local(enum.Enum):
        A = 1
    def inner():
        class S(Signature):
            a: Local = InputField()
            b: Literal["x"] | list[Local] = OutputField()
            price: ClassVar[Decimal] = 1
        return S
    return inner()
S = make()
"""
    assert type_texts(run(source)["S"]) == ["Local", "Literal['x'] | list[Local]"]


@evaluates_when_read
def test_what_a_function_further_out_defines_later_is_unknown(run: Any) -> None:
    """As any other name that has no value yet."""
    source = """
def make():
    def inner():
        class S(Signature):
            a: Local = InputField()
    inner()
    class Local: ...
make()
"""
    with pytest.raises(SignatureError, match=r"S\.a: the type 'Local' cannot be resolved"):
        run(source)


@evaluates_when_read
def test_type_parameters(run: Any) -> None:
    """They are in no module; their names are known in the text of annotations too."""
    source = """
class S[T](Signature):
    a: list[T] = InputField()
    b: T = OutputField()
    price: ClassVar[Decimal] = 1
"""
    assert type_texts(run(source)["S"]) == ["list[T]", "T"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("Later", "name 'Later' is not defined"),
        ("dict[str, list[Later]] | None", "name 'Later' is not defined"),
        ("Annotated[int, Later(ge=1)]", "name 'Later' is not defined"),
        ("Annotated[int, pydantic.Field(ge=Later)]", "name 'Later' is not defined"),
        ("Decimal", "name 'Decimal' is not defined"),
        ("list[S]", "name 'S' is not defined"),
        ("int[3]", "type 'int' is not subscriptable"),
        ("typing.Nope", "module 'typing' has no attribute 'Nope'"),
    ],
)
def test_a_type_that_is_not_known_yet_is_refused_with_the_text_of_it(
    run: Any, head: str, annotation: str, problem: str
) -> None:
    """Nothing is left out of a field silently: not a bound whose name comes later, either."""
    source = f"class S(Signature):\n    a: str = InputField()\n    b: {annotation} = OutputField()\nLater = int\n"

    with pytest.raises(SignatureError) as caught:
        run(source, head)

    assert str(caught.value) == (
        f"S.b: the type {annotation!r} cannot be resolved ({problem}); define or import it before the signature"
    )


@pytest.mark.parametrize("head", HEADS)
def test_a_stray_annotation_of_an_unknown_type(run: Any, head: str) -> None:
    """It is told of as any other stray."""
    with pytest.raises(SignatureError, match=r"S\.price is neither input nor output"):
        run("class S(Signature):\n    a: str = InputField()\n    price: Decimal = 1\n", head)


# --- functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_the_inputs_of_a_program_need_no_known_types(run: Any, head: str) -> None:
    """A ``forward`` may name what only type checkers import."""
    source = """
class Ask(dspex.Module):
    async def forward(self, price: Decimal, *, k: int = 3) -> Later: ...
"""
    spec = inputs_of(run(source, head)["Ask"]())

    assert (spec.names, spec.required, spec.positional) == (("price", "k"), frozenset({"price"}), ("price",))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("signature", ["(a: Decimal)", "(a: list[Decimal] | None = None)", "() -> Decimal"])
def test_a_tool_with_a_type_that_is_not_known_is_refused(run: Any, head: str, signature: str) -> None:
    """A model has to be told of the parameters."""
    look = run(f"def look{signature}: ...\n", head)["look"]

    with pytest.raises(ToolInvalid, match=r"tool look: an annotation names what is not there: name 'Decimal' is not"):
        dspex.Tool(look)


@pytest.mark.parametrize("head", [pytest.param("", id="as written"), pytest.param(AS_TEXT, id="as text")])
def test_a_tool_is_told_of_the_same_way(run: Any, head: str) -> None:
    """Bare or under ``from __future__ import annotations``, on every Python."""
    source = """
class Point(pydantic.BaseModel):
    x: int
def look(at: Point, day: date | None = None, *, many: Annotated[list["Point"], "some"]) -> str: ...
"""
    schema = dspex.Tool(run(source, head)["look"]).parameters

    assert [*schema["properties"]] == ["at", "day", "many"]
    assert schema["required"] == ["at", "many"]
    assert schema["properties"]["many"]["items"] == schema["properties"]["at"]
