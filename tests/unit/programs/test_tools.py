"""Functions as tools: what a model is told of them, and what becomes of what it gives."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Protocol

import pytest
from pydantic import BaseModel, Field

import dspex
from dspex.errors import DepsError, ToolArgumentsInvalid, ToolInvalid
from dspex.programs.tools._results import content_of, text_of_content
from dspex.programs.tools.calling import call_tool
from dspex.protocols.content import AudioPart, FilePart, TextPart, ToolCall
from dspex.testing import ScriptedScope


class Point(BaseModel):
    """A place on the map."""

    x: int = Field(description="metres east", ge=0)
    y: int = 0


class Bank:
    """The value that tools are given."""

    balance = 12.5


class Named(Protocol):
    """Cannot be looked at when it runs."""

    name: str


def google(query: str, k: int = 3, *, mode: Literal["all", "any"] = "all") -> str:
    """
    Search the pages.

    Args:
        query (str): what to look for,
            in plain words
        k: how many
    Returns:
        The pages.
    """
    return f"{query} {k} {mode}"


def numpy_style(query: str, k: int = 3) -> str:
    """
    Search the pages.

    Parameters
    ----------
    query : str
        what to look for,
        in plain words
    k : int, optional
        how many

    Returns
    -------
    str
        The pages.
    """
    return query * k


def sphinx(query: str, k: int = 3) -> str:
    """
    Search the pages.

    :param query: what to look for,
        in plain words
    :param int k: how many
    :returns: the pages
    """
    return query * k


@pytest.mark.parametrize("function", [google, numpy_style, sphinx])
def test_docstrings_describe_tool_and_parameters(function: Any) -> None:
    """Each style says the same; sections about other things are left out."""
    tool = dspex.tool(function)

    assert tool.description == "Search the pages."
    assert tool.parameters["properties"]["query"]["description"] == "what to look for, in plain words"
    assert tool.parameters["properties"]["k"] == {"type": "integer", "description": "how many", "default": 3}
    assert tool.parameters["required"] == ["query"]


def test_schema_is_that_of_the_annotations() -> None:
    """Choices, models and unions become JSON schema, nothing beyond the parameters is allowed."""

    def place(at: Point, mode: Literal["a", "b"], near: list[float] | None = None) -> None: ...

    schema = dspex.tool(place).parameters

    assert schema["properties"]["mode"] == {"enum": ["a", "b"], "type": "string"}
    assert schema["properties"]["at"] == {"$ref": "#/$defs/Point"}
    assert schema["properties"]["near"]["default"] is None
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_types_defined_beside_the_function_are_found() -> None:
    """Annotations are text here, and name a class of this very function."""

    class Local(BaseModel):
        z: int

    async def use(it: Local) -> int:
        return it.z

    tool = dspex.tool(use)

    assert tool.check({"it": {"z": "3"}}) == {"it": Local(z=3)}


def test_arguments_are_converted_and_problems_named() -> None:
    """Lax as pydantic is; every problem is in the one error, with the names that there are."""
    tool = dspex.tool(google)

    assert tool.check({"query": "x", "k": "5"}) == {"query": "x", "k": 5}
    with pytest.raises(ToolArgumentsInvalid, match=r"query, k, mode.*query: Field required; k: Input should be"):
        tool.check({"k": "many"})
    with pytest.raises(ToolArgumentsInvalid, match="limit"):
        tool.check({"query": "x", "limit": 3})


def test_whatever_can_be_called_can_be_a_tool() -> None:
    """Methods, objects, partials, models and programs."""

    class Index:
        """Knows pages."""

        def find(self, word: str) -> str:
            """Find a word."""
            return word

        def __call__(self, word: str) -> str:
            return word

    class Ask(dspex.Module):
        """Asks another model."""

        async def forward(self, question: str) -> str:
            return question

    given: list[Any] = [Index().find, Index(), functools.partial(google, mode="any"), Point, Ask()]
    tools = [dspex.tool(each) for each in given]
    described = {tool.name: (tool.description, list(tool.parameters["properties"])) for tool in tools}

    assert described == {
        "find": ("Find a word.", ["word"]),
        "Index": ("Knows pages.", ["word"]),
        "google": ("Search the pages.", ["query", "k", "mode"]),
        "Point": ("A place on the map.", ["x", "y"]),
        "Ask": ("Asks another model.", ["question"]),
    }
    assert dspex.tool(Point).parameters["properties"]["x"]["description"] == "metres east"


def test_decorator_keeps_the_function_callable() -> None:
    """A tool is still the function it was made from."""

    @dspex.tool(idempotent=True, timeout=5, name="double", description="Twice as much.")
    def twice(number: int) -> int:
        return 2 * number

    assert twice(4) == 8
    assert (twice.name, twice.description, twice.idempotent, twice.timeout) == ("double", "Twice as much.", True, 5)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: dspex.tool(lambda x: x), "name="),
        (lambda: dspex.tool(lambda *words: words, name="f"), r"\*words"),
        (lambda: dspex.tool(3, name="three"), "cannot be called"),  # type: ignore[call-overload]  # the point
        (lambda: dspex.tool(google, timeout=0), "timeout"),
        (lambda: dspex.tool(google, name="two words"), "name="),
        (lambda: dspex.tool(_numbers), "generator"),
        (lambda: dspex.tool(_unknown), "Nowhere"),
        (lambda: dspex.tool(_two_runs), "both a and b"),
    ],
)
def test_what_cannot_be_a_tool_says_why(make: Any, problem: str) -> None:
    """Before any model is asked."""
    with pytest.raises(ToolInvalid, match=problem):
        make()


def _numbers() -> Any:
    yield 1


def _unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point


def _two_runs(a: dspex.Run[Any], b: dspex.Run[Any]) -> None: ...


# --- calls ------------------------------------------------------------------------------------------------------


async def call(function: Any, arguments: Any = None, *, raw: str = "", deps: object = None) -> Any:
    tool = function if isinstance(function, dspex.Tool) else dspex.Tool(function)
    given = arguments if arguments is not None or raw else {}
    with ScriptedScope(deps=deps).entered() as scope:
        return await call_tool({tool.name: tool}, ToolCall("1", tool.name, given, raw), scope)


async def test_run_is_injected_and_hidden() -> None:
    """The model does not see the parameter; the function gets deps, deadline and id."""

    async def balance(run: dspex.Run[Bank], currency: str) -> str:
        return f"{run.deps.balance} {currency} {run.id} {run.deadline}"

    tool = dspex.tool(balance)

    assert list(tool.parameters["properties"]) == ["currency"]
    assert (await call(tool, {"currency": "EUR"}, deps=Bank())).text == "12.5 EUR scripted inf"


@pytest.mark.parametrize("wanted", [Bank, Bank | None, dict[str, int]])
def test_deps_of_the_wrong_class_are_refused(wanted: Any) -> None:
    """With the names of both classes."""

    def use(run: dspex.Run[Any]) -> None: ...

    use.__annotations__["run"] = dspex.Run[wanted]
    with pytest.raises(DepsError, match=r"tool use needs options\(deps=…\) of class .*given a int"):
        dspex.tool(use).check_deps(3)


@pytest.mark.parametrize("wanted", [Any, object, Named])
def test_deps_that_cannot_be_looked_at_are_let_through(wanted: Any) -> None:
    """``Any`` asks for nothing, a plain Protocol cannot be asked."""

    def use(run: dspex.Run[Any]) -> None: ...

    use.__annotations__["run"] = dspex.Run[wanted]
    dspex.tool(use).check_deps(3)


async def test_errors_are_observations_that_a_model_can_read() -> None:
    """The tool's own, arguments that do not fit, unknown names, an exit."""

    def fail(how: str) -> None:
        if how == "exit":
            raise SystemExit(3)
        raise ValueError(how)

    assert (await call(fail, {"how": "badly"})).text == "Error: ValueError: badly"
    assert "end the process" in (await call(fail, {"how": "exit"})).text
    assert (await call(fail, {})).text.startswith("Error: ToolArgumentsInvalid: the arguments do not fit fail")
    with ScriptedScope().entered() as scope:
        seen = await call_tool({}, ToolCall("1", "nix", {}), scope)
    assert isinstance(seen.error, LookupError)


async def test_arguments_that_are_no_json_are_repaired_or_told() -> None:
    """Repaired where that is possible; else the model is shown what it wrote."""
    assert (await call(google, raw='{"query": "x", "k": 2,}')).text == "x 2 all"
    assert (await call(google, raw='["x"]')).text.startswith("Error: ToolArgumentsInvalid")


async def test_function_that_returns_an_awaitable_is_awaited() -> None:
    """A lambda around a coroutine function, say."""

    async def later(x: int) -> int:
        return x + 1

    assert (await call(dspex.tool(lambda x: later(x), name="f"), {"x": 3})).text == "4"


class Color(Enum):
    """A color."""

    RED = "red"


@dataclass
class Page:
    """A page."""

    title: str
    words: int


IMAGE = dspex.Image("image/png", b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        (None, "(nothing)"),
        (3, "3"),
        (Color.RED, "red"),
        (Page("A", 3), '{"title":"A","words":3}'),
        (Point(x=1), '{"x":1,"y":0}'),
        ([dspex.Passage("a")], '[{"text":"a","title":"","score":0.0,"id":""}]'),
        ({"at": object}, '{"at":"<class \'object\'>"}'),
        (float("nan"), "NaN"),
        (dspex.Signature.from_string("a -> b")(a="x"), '{"a":"x"}'),
    ],
)
def test_results_are_shown_as_text(value: object, shown: str) -> None:
    """Text as it is, everything else as JSON, and what has none as itself."""
    assert content_of(value) == shown


def test_images_and_files_stay_parts() -> None:
    """Alone, in a list, and inside other values, where they stand."""
    image = content_of(IMAGE)
    assert image == (IMAGE,)
    assert content_of((TextPart("a"), FilePart("application/pdf", b"%PDF"))) == (
        TextPart("a"),
        FilePart("application/pdf", b"%PDF"),
    )
    inside = content_of({"page": 3, "picture": IMAGE, "text": "~part0~"})
    assert isinstance(inside, tuple)
    assert [type(part) for part in inside] == [TextPart, dspex.Image, TextPart]
    assert text_of_content(inside) == '{"page":3,"picture":(image/png),"text":"~part0~"}'
    assert content_of(AudioPart("audio/wav", b"RIFF")) == (TextPart("(audio/wav: cannot be shown)"),)


def test_tools_may_be_inputs_of_signatures() -> None:
    """A list of tools beside ToolCalls is what a model is given natively."""
    signature = dspex.Signature.from_string(
        "question, tools: list[Tool] -> calls: ToolCalls",
        types={"Tool": dspex.Tool, "ToolCalls": dspex.ToolCalls},
    )

    record = signature(question="x", tools=[dspex.tool(google)])

    assert record.tools[0].name == "google"


def test_annotated_descriptions_win() -> None:
    """Who writes Field(description=…) means it."""

    def find(word: Annotated[str, Field(description="mine", min_length=2)]) -> None:
        """
        Find.

        Args:
            word: theirs
        """

    assert dspex.tool(find).parameters["properties"]["word"] == {
        "type": "string",
        "description": "mine",
        "minLength": 2,
    }
