"""Whatever a model writes as arguments, a call of a tool ends in a result or in words."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import dspex
from dspex.programs import Observation
from dspex.programs.tools._docstring import read_docstring
from dspex.programs.tools._results import content_of
from dspex.programs.tools.calling import call_tool
from dspex.protocols.content import ToolCall
from dspex.testing import ScriptedScope

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["words", "count", "point", "color", "mode", "rest", "run"]) | st.text(max_size=5)


class Point(BaseModel):
    """A place."""

    x: int
    y: float = 0.0


class Color(Enum):
    """A color."""

    RED = "red"


def paint(
    words: list[str],
    count: int = 1,
    point: Point | None = None,
    color: Color = Color.RED,
    mode: Literal["a", "b"] = "a",
) -> object:
    """Paint."""
    return [words[0], 10 // count, point, color, mode]


def open_to_all(run: dspex.Run[Any], **rest: Any) -> object:
    """Take anything."""
    return {**rest, "id": run.id}


TOOLS = {tool.name: tool for tool in (dspex.Tool(paint), dspex.Tool(open_to_all))}


def called(call: ToolCall) -> Observation:
    return asyncio.run(call_tool(TOOLS, call, ScriptedScope()))


@given(st.sampled_from([*TOOLS, "nix"]), st.dictionaries(NAMES, JSON, max_size=6))
def test_any_json_arguments_give_a_result_or_an_observation(name: str, arguments: dict[str, Any]) -> None:
    """Never an exception, and always something that can be shown."""
    seen = called(ToolCall("1", name, arguments))

    assert isinstance(seen, Observation)
    assert isinstance(seen.content, str)
    assert (seen.error is not None) == seen.content.startswith("Error: ")


@given(st.sampled_from([*TOOLS]), st.text(max_size=60) | JSON.map(json.dumps))
def test_any_text_as_arguments_gives_a_result_or_an_observation(name: str, raw: str) -> None:
    """As above, for arguments that are not a JSON object."""
    assert isinstance(called(ToolCall("1", name, None, raw)), Observation)


@given(JSON)
def test_any_result_can_be_shown(value: object) -> None:
    """As text, or as JSON that reads back."""
    shown = content_of(value)

    assert isinstance(shown, str)
    if isinstance(value, (list, dict)):
        json.loads(shown)


@given(
    st.lists(st.sampled_from([*"a:- \n*()[]_", "Args:", "Parameters", "----", ":param x:"]), max_size=80).map("".join)
)
def test_any_docstring_can_be_read(text: str) -> None:
    """Documentation in no style at all is still documentation."""
    found = read_docstring(text)

    assert all(isinstance(each, str) for each in [found.summary, *found.parameters, *found.parameters.values()])
