"""Every record of ours can be read without its extra fields: its message is a sentence that names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
BESIDE = {"exc_info", "says"}
"""Arguments that are no fields."""

AS_IT_IS = {"actor crashed"}
"""Said once more at the level of debugging, for whoever looks for these words."""


@cache
def calls() -> tuple[tuple[str, ast.Call], ...]:
    """Return the place and the call of everything that is logged; read once, and not where tests are collected."""
    return tuple(_calls())


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if node.func.attr in LEVELS and isinstance(owner, ast.Name) and owner.id in ("_log", "log"):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


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
    assert len(calls()) > 25


def test_a_record_with_fields_has_a_sentence() -> None:
    """Words, then, and no bare name of an event beside which everything stands in fields."""
    for place, call in calls():
        words = constants_in(call.args[0])
        assert len(words.split()) >= 2 or isinstance(call.args[0], ast.JoinedStr) or template_of(call) is not None, (
            place
        )
        if len(call.args) > 1:  # the standard library's own way: what follows goes into the message
            assert len(re.findall(r"%[^%]", words)) == len(call.args) - 1, place
        elif fields_of(call) and words not in AS_IT_IS and not isinstance(call.args[0], ast.JoinedStr):
            assert template_of(call) is not None, f"{place}: its fields are seen by nobody who reads the message alone"


def test_a_sentence_names_only_fields_that_there_are() -> None:
    """One that names another would be left out, and the event's name stand in its place."""
    for place, call in calls():
        template = template_of(call)
        if template is None or isinstance(template, ast.Name):
            continue
        named = set(re.findall(r"\{(\w+)\}", constants_in(template)))
        assert named, f"{place}: it says nothing of this case"
        assert named <= fields_of(call) | {"error"}, place
