"""Every record of ours can be read without its extra fields: its message is a sentence that names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
BESIDE = {"exc_info", "says"}
"""Arguments that are no fields."""

AS_IT_IS = {"actor crashed"}
"""Said once more at the level of debugging, for whoever looks for these words."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield the place and the call of everything that is logged."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if node.func.attr in LEVELS and isinstance(owner, ast.Name) and owner.id in ("_log", "log"):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


CALLS = list(calls())


def fields_of(call: ast.Call) -> set[str]:
    return {each.arg for each in call.keywords if each.arg is not None} - BESIDE


def template_of(call: ast.Call) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == "says"), None)


def constants_in(node: ast.expr) -> str:
    """Return all fixed text of an expression: templates are put together in places."""
    return " ".join(
        each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )


def test_there_is_something_to_look_at() -> None:
    assert len(CALLS) > 25


@pytest.mark.parametrize(("place", "call"), CALLS, ids=[place for place, _ in CALLS])
def test_a_record_with_fields_has_a_sentence(place: str, call: ast.Call) -> None:
    """Words, then, and no bare name of an event beside which everything stands in fields."""
    words = constants_in(call.args[0])
    assert len(words.split()) >= 2 or isinstance(call.args[0], ast.JoinedStr) or template_of(call) is not None, place
    if len(call.args) > 1:  # the standard library's own way: what follows goes into the message
        assert len(re.findall(r"%[^%]", words)) == len(call.args) - 1, place
        return
    if fields_of(call) and words not in AS_IT_IS and not isinstance(call.args[0], ast.JoinedStr):
        assert template_of(call) is not None, f"{place}: its fields are seen by nobody who reads the message alone"


@pytest.mark.parametrize(("place", "call"), CALLS, ids=[place for place, _ in CALLS])
def test_a_sentence_names_only_fields_that_there_are(place: str, call: ast.Call) -> None:
    """One that names another would be left out, and the event's name stand in its place."""
    template = template_of(call)
    if template is None or isinstance(template, ast.Name):
        return
    named = set(re.findall(r"\{(\w+)\}", constants_in(template)))
    assert named, f"{place}: it says nothing of this case"
    assert named <= fields_of(call) | {"error"}, place
