"""The bounds of a value are told; what is forgiven at the top is forgiven inside; nothing is misread."""

from __future__ import annotations

import datetime as dt
import enum
import math
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar, cast

import pydantic
import pytest
from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

import dspex
from dspex.errors import MissingInput, ResponseUnparsable, SignatureError, ToolArgumentsInvalid
from dspex.programs import (
    Audio,
    ChatAdapter,
    Code,
    File,
    Image,
    InputField,
    JSONAdapter,
    OutputField,
    Signature,
    ToolAdapter,
    XMLAdapter,
)
from dspex.testing import ScriptedLM

CHAT, JSON, XML, TOOL = ChatAdapter(), JSONAdapter(), XMLAdapter(), ToolAdapter()
each_adapter = pytest.mark.parametrize("adapter", [CHAT, JSON, XML, TOOL], ids=lambda each: each.name)
REFUSED = "refused"


def polite(value: str) -> str:
    """The text ends with "please".

    Nobody needs the rest.
    """
    if not value.endswith("please"):
        raise ValueError("it is not polite")
    return value


@each_adapter
@pytest.mark.parametrize("annotation", [Annotated[str, pydantic.AfterValidator(polite)]])
def test_what_a_checking_function_says_is_told(adapter: Any, annotation: Any) -> None:
    """In one line, also for what is inside of a list; a function without words is not named."""
    silent = Annotated[int, pydantic.AfterValidator(lambda value: value)]
    for spec in (annotation, list[annotation], annotation | None):
        signature = Signature.from_string("q -> a: A, b: B", types={"A": spec, "B": silent})
        told = "".join(each.text for each in adapter.format(signature, {"q": "x"}))
        assert told.count('The text ends with "please"') == 1
        assert "rest" not in told


Verdict = TypeAliasType("Verdict", Literal["supported", "refuted"])
Grade: Any = NewType("Grade", Literal["good", "bad"])  # type: ignore[valid-newtype, misc]  # pydantic takes it


class Colour(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Address(pydantic.BaseModel):
    zip_code: str = pydantic.Field(alias="postal code")
    since: dt.date | None = None


class Shifted(pydantic.BaseModel):
    count: int = pydantic.Field(validation_alias="read", serialization_alias="written")


class Upper(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=str.upper)

    share: float
    colour: Colour = Colour.RED


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    x: float

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation writes it
    @property
    def twice(self) -> float:
        return self.x * 2


class Row(TypedDict):
    when: dt.datetime
    n: int


def signature_of(annotation: Any) -> Any:
    return Signature.from_string("q -> x: T", types={"T": annotation})


def prompt_of(adapter: Any, annotation: Any) -> str:
    """Return the whole prompt: messages, and the schema of a tool or of the enforced form."""
    return "\n".join(each.text for each in adapter.format(signature_of(annotation), {"q": "?"}))


def read(annotation: Any, text: str, adapter: Any = CHAT) -> Any:
    whole = f"[[ ## x ## ]]\n{text}\n\n[[ ## completed ## ]]" if adapter is CHAT else text
    try:
        return adapter.parse(signature_of(annotation), whole).outputs["x"]
    except ResponseUnparsable:
        return REFUSED


# --- told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[int, Field(ge=1, le=7)], ["at least 1", "at most 7"]),
        (Annotated[float, Field(gt=0, lt=1)], ["greater than 0", "less than 1"]),
        (Annotated[str, Field(pattern=r"^[A-Z]{3}$")], ["^[A-Z]{3}$"]),
        (Annotated[str, Field(min_length=2, max_length=9)], ["length at least 2", "length at most 9"]),
        (Annotated[str, Field(description="an ISO code")], ["an ISO code"]),
        (Annotated[int | None, Field(ge=3)], ["3"]),
        (Verdict, ["supported", "refuted"]),
        (Verdict | None, ["supported", "refuted"]),
        (Grade, ["good", "bad"]),
        (Annotated[Verdict, Field(description="what was found")], ["supported", "refuted", "what was found"]),
        (list[Verdict], ["supported", "refuted"]),
        (dt.date, ["YYYY-MM-DD"]),
        (dt.datetime, ["YYYY-MM-DDTHH:MM:SS"]),
        (dt.time, ["HH:MM:SS"]),
        (dt.timedelta, ["ISO 8601"]),
        (dt.date | None, ["YYYY-MM-DD", "null"]),
        (Address, ["postal code"]),
        (Annotated[list[int], Field(max_length=3)], ["3"]),
        (list[Annotated[int, Field(le=44)]], ["44"]),
    ],
)
@pytest.mark.parametrize("adapter", [CHAT, JSON, XML], ids=lambda each: each.name)
def test_a_prompt_says_what_is_checked(adapter: Any, annotation: Any, words: list[str]) -> None:
    prompt = prompt_of(adapter, annotation)

    assert [word for word in words if word not in prompt] == []


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Address, Address(**{"postal code": "1", "since": "2024-02-29"})),  # type: ignore[arg-type]  # by its alias
        (list[Address], [Address(**{"postal code": "1"})]),  # type: ignore[arg-type]  # by its alias
        (Shifted, Shifted.model_validate({"read": 3})),
        (Upper, Upper(SHARE=math.inf, COLOUR=Colour.DARK_BLUE)),  # type: ignore[call-arg]  # made by a generator
        (Strict, Strict(x=-math.inf)),
        (list[float], [math.inf, -math.inf, 1.0]),
        (list[float | None], [math.inf, None]),
        (dict[str, Any], {"a": math.inf, "b": None, "c": "Infinity", "d": "None"}),
        (Any, math.inf),
        (Any, "NaN"),
        (float | str, "Infinity"),
        (float | None, math.inf),
        (str | None, "None"),
        (str | None, "null"),
        (str | None, None),
        (int | dt.date, 2024),
        (int | dt.date, dt.date(2024, 1, 1)),
        (str | dt.date, "2024"),
        (dt.time, dt.time(1, 2)),
        (dt.timedelta, dt.timedelta(hours=1)),
        (dict[dt.date, int], {dt.date(2024, 1, 1): 1}),
        (Row, {"when": dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), "n": 1}),
        (Verdict, "refuted"),
        (list[Verdict], ["refuted"]),
        (Annotated[str, Field(pattern="^a+$")], "aa"),
        (str, "&lt;b&gt; <![CDATA[x]]> &amp;amp;"),
        (list[str], ["[[ ## x ## ]]", "</x>", "a [[ ## completed ## ]]", "&amp;", "<think>"]),
    ],
)
@each_adapter
def test_what_is_written_is_read_back(adapter: Any, annotation: Any, value: Any) -> None:
    signature = signature_of(annotation)
    parsed = adapter.parse(signature, adapter.format_outputs(signature, {"x": value}))

    assert parsed.outputs == {"x": value}
    assert type(parsed.outputs["x"]) is type(value)
    assert parsed.repairs == ()


def test_nan_comes_back() -> None:
    for adapter in (CHAT, JSON, XML, TOOL):
        signature = signature_of(list[float])
        (value,) = adapter.parse(signature, adapter.format_outputs(signature, {"x": [math.nan]})).outputs["x"]
        assert math.isnan(value)


# --- forgiven -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (list[Colour], '["red", "DARK_BLUE"]', [Colour.RED, Colour.DARK_BLUE]),
        (list[Colour], '["Colour.RED", "Dark Blue"]', [Colour.RED, Colour.DARK_BLUE]),
        (dict[str, Colour], '{"a": "RED"}', {"a": Colour.RED}),
        (dict[Colour, int], '{"RED": 1}', {Colour.RED: 1}),
        (list[Literal["yes", "no"]], '["Yes", "no."]', ["yes", "no"]),
        (list[int], '["1,234", "**5**", "6"]', [1234, 5, 6]),
        (list[int | None], '[1, "N/A", "None"]', [1, None, None]),
        (list[str], '[1, "a", true]', ["1", "a", "true"]),
        (list[Address], '["{\\"postal code\\": \\"1\\"}"]', [Address(**{"postal code": "1"})]),  # type: ignore[arg-type]
        (Address, '{"Postal Code": "1"}', Address(**{"postal code": "1"})),  # type: ignore[arg-type]  # by its alias
        (Address, '{"zip_code": "1"}', Address(**{"postal code": "1"})),  # type: ignore[arg-type]  # by its alias
        (Address, '{"address": {"postal code": "1"}}', Address(**{"postal code": "1"})),  # type: ignore[arg-type]
        (int, "**1,234**", 1234),
        (int, "1,234,567", 1234567),
        (int, "\\boxed{42}", 42),
        (int, "$42$", 42),
        (int, "42.", 42),
        (float, "1,234.5", 1234.5),
        (float, "1,234", REFUSED),
        (int, "42 apples", REFUSED),
        (int, "$42", REFUSED),
        (bool, "**Yes**", True),
        (int | None, "None", None),
        (int | None, "N/A", None),
        (str | None, "None", None),
        (str | None, '"None"', "None"),
        (Literal["a", "b"], "**a**", "a"),
        (Literal["a", "b"], "Literal[a]", "a"),
        (Literal["a", "b"], "Literal['a']", "a"),
        (Literal[1, 2], "1.0", 1),
        (Literal["yes", "no"], "not.yes", REFUSED),
        (Colour, "Colour.RED", Colour.RED),
        (list[int], "**[1, 2]**", [1, 2]),
        (dt.datetime, "2024", REFUSED),
        (dt.datetime, "20240229", dt.datetime(2024, 2, 29)),  # noqa: DTZ001 - the text names no zone
        (dt.datetime, "20240229134500", dt.datetime(2024, 2, 29, 13, 45)),  # noqa: DTZ001 - as above
        (dt.datetime, "1709164800", dt.datetime(2024, 2, 29, tzinfo=dt.UTC)),
        (dt.date, "2024", REFUSED),
        (dt.date, "20240229", dt.date(2024, 2, 29)),
        (dt.date, "2024/2/9", dt.date(2024, 2, 9)),
        (dt.date, "29 February 2024", dt.date(2024, 2, 29)),
        (dt.date, "Feb 29, 2024", dt.date(2024, 2, 29)),
        (dt.date, "02/03/2024", REFUSED),
        (dt.time, "12", REFUSED),
        (list[dt.datetime], "[2024]", REFUSED),
        (list[dt.date], '["20240229"]', [dt.date(2024, 2, 29)]),
        (Address, '{"postal code": "1", "since": 2024}', REFUSED),
        (Row, '{"when": 2024, "n": 2024}', REFUSED),
        (int | dt.datetime, "2024", 2024),
    ],
)
def test_values_as_models_write_them(annotation: Any, text: str, value: Any) -> None:
    assert read(annotation, text) == value


def test_a_truth_value_is_not_a_number() -> None:
    assert read(int, '{"x": true}', JSON) == REFUSED
    assert read(bool, '{"x": true}', JSON) is True


class Event(pydantic.BaseModel):
    name: str
    day: dt.date | None = None


def test_what_is_forgiven_in_answers_is_forgiven_in_arguments() -> None:
    def invite(event: Event, colours: list[Colour], seats: int = 1) -> None:
        """Invite."""

    tool = dspex.tool(invite)

    checked = tool.check({"event": '{"name": "fair"}', "colours": '["RED"]', "seats": "1,000"})

    assert checked == {"event": Event(name="fair"), "colours": [Colour.RED], "seats": 1000}
    with pytest.raises(ToolArgumentsInvalid, match="2024 is a plain number"):
        tool.check({"event": {"name": "fair", "day": 2024}, "colours": []})
    with pytest.raises(ToolArgumentsInvalid, match="seats"):
        tool.check({"event": {"name": "fair"}, "colours": [], "seats": "many"})


# --- left out, left open --------------------------------------------------------------------------------------


class Asked(Signature):
    """Ask."""

    question: str = InputField()
    context: str | None = InputField()
    answer: str = OutputField()


def test_an_input_that_may_be_none_may_be_left_out() -> None:
    assert cast("Any", Asked)(question="q").context is None
    assert CHAT.turn(Asked, {"question": "q", "context": None}).text.count("null") == 1


async def test_a_predictor_takes_what_is_left_out_and_numbers_without_a_type() -> None:
    left_open: Any = dspex.Predict(Asked)  # type checkers want every input
    lm = ScriptedLM([{"answer": "a"}, {"c": 3}])
    async with dspex.App(lm, cache=None, adapter="chat") as app:
        assert (await app.run(left_open, question="q")).answer == "a"
        assert (await app.run(dspex.Predict("a, b -> c: int"), a=1, b=[2.5, None])).c == 3
        with pytest.raises(MissingInput):
            await app.run(dspex.Predict("a: str -> c: int"), a=1)
        with pytest.raises(MissingInput):
            await app.run(dspex.Predict("a -> c: int"), a=None)
    assert "[[ ## a ## ]]\n1\n\n[[ ## b ## ]]\n[2.5,null]" in lm.requests[-1].request.messages[-1].text


def test_a_field_without_a_type_stays_one() -> None:
    changed = Signature.from_string("a -> b").with_updated_fields("a", desc="a number")

    assert changed.fields["a"].codec.check(1) == "1"


def test_strings_find_types_of_the_functions_around_them() -> None:
    class Local(pydantic.BaseModel):
        x: int

    Verdict = "no type"  # noqa: F841 - a variable with the name of a type

    def inner() -> Any:
        return Signature.from_string("q -> a: Local, b: Verdict")

    made = inner()
    assert made.fields["a"].annotation is Local
    assert made.fields["b"].type_text == "Verdict"
    with pytest.raises(SignatureError, match="Elsewhere"):
        Signature.from_string("q -> a: Elsewhere")


T = TypeVar("T")


class Listed(Signature, Generic[T]):
    """List."""

    q: str = InputField()
    xs: list[T] = OutputField()
    best: T | None = OutputField()


def test_generic_signatures() -> None:
    made: Any = Listed[int]

    assert made is Listed[int]
    assert made.__name__ == "Listed[int]"
    assert [each.type_text for each in made.output_fields.values()] == ["list[int]", "int | None"]
    assert Listed.fields["xs"].type_text == "list[Any]"
    assert made(q="x") == made(q="x")
    assert CHAT.parse(made, "[[ ## xs ## ]]\n[1]").outputs == {"xs": [1], "best": None}
    with pytest.raises(ResponseUnparsable):
        CHAT.parse(made, '[[ ## xs ## ]]\n["a"]')
    with pytest.raises(SignatureError, match="1 type parameters, not 2"):
        Listed[int, str]  # type: ignore[misc]  # that is the mistake
    with pytest.raises(SignatureError, match="0 type parameters"):
        Asked[int]  # type: ignore[misc]  # that is the mistake


# --- types ----------------------------------------------------------------------------------------------------


_ELSE = "application/pdf is something else"


@pytest.mark.parametrize("kind", [Image, Audio])
def test_a_pdf_is_something_else(kind: Any) -> None:
    with pytest.raises(ValueError, match=_ELSE):
        kind.from_bytes(b"%PDF-1.4\n")
    with pytest.raises(ValueError, match=_ELSE):
        kind.from_bytes(b"%PDF-1.4\n", media_type=f"{kind.__name__.lower()}/x")
    with pytest.raises(ValueError, match=_ELSE):
        kind.from_bytes(b"x", media_type="application/pdf")
    with pytest.raises(ValueError, match=_ELSE):
        kind.from_url("https://x.org/a.pdf")
    with pytest.raises(ValueError, match=_ELSE):
        kind.from_url("data:application/pdf;base64,JVBERi0=")
    assert File.from_bytes(b"%PDF-1.4\n").media_type == "application/pdf"
    assert kind.from_url("https://x.org/a").url == "https://x.org/a"


PYTHON: Any = Code[Literal["python"]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)```", "print(1)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("```py\nprint(1)\n  ```", "print(1)"),
        ("~~~python\nprint(1)\n~~~", "print(1)"),
        ("```print(1)```", "print(1)"),
        ("```python print(1)```", "print(1)"),
        ("`print(1)`", "print(1)"),
        ("Here:\n\n```python\nprint(1)\n```\n\nIt prints.", "print(1)"),
        ("```python\nprint(1)", "print(1)"),
        ("print(1)", "print(1)"),
        ("```bash\npip install x\n```\n\n```python\nprint(1)\n```", "print(1)"),
        ("````markdown\n```python\nx\n```\n````", "```python\nx\n```"),
        ("```python\na\n```\n\nand\n\n```python\nb\n```", REFUSED),
        ("```\na\n```\n\n```\nb\n```", REFUSED),
    ],
)
def test_code_loses_its_fence_and_nothing_else(text: str, code: str) -> None:
    assert read(PYTHON, text) == code
    if code != REFUSED and not text.startswith(("Here", "```bash", "print", "`p")):
        assert PYTHON.from_json(text) == code or "\n" not in text or not text.endswith(("```", "~~~", "````"))


def test_many_back_ticks_cost_no_more_than_other_text() -> None:
    """They once took minutes; a test that hangs is ended by its runner."""
    assert read(PYTHON, "`" * 30_000) == "`" * 30_000
