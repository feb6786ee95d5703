"""What is done with a text that is not quite a value: elements, repaired JSON, a Python literal, or why it is none."""

from __future__ import annotations

import ast
import contextlib
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dspex.programs.adapters._elements import from_elements

__all__ = ["REPAIR_LIMIT", "Reading", "describe", "repaired"]

REPAIR_LIMIT = 8_000
"""Longer texts are not repaired: the time repair takes grows with the square of a hostile text's length."""

Reading = tuple[Any, str]
"""A value of the field's type and the repair it took: ``""``, ``"xml"``, ``"json"`` or ``"literal"``."""

_FENCE = re.compile(r"```\w*\n(.*)\n```", re.DOTALL)


def repaired(adapter: TypeAdapter[Any], text: str, problem: ValueError) -> Reading:
    """Climb down: elements, repaired JSON, a Python literal; ``problem`` is what the text itself failed with."""
    if text.startswith("<"):
        try:
            return from_elements(adapter, text), "xml"
        except (ValueError, RecursionError):
            pass  # the next rung
    if len(text) <= REPAIR_LIMIT:
        from json_repair import repair_json  # costs 20 ms to import; most programs never need it

        fenced = _FENCE.fullmatch(text)
        if fenced is not None:
            text = fenced[1].strip()
            with contextlib.suppress(ValueError):
                return adapter.validate_json(text), "json"
        try:
            repaired = repair_json(text)
            if repaired and repaired != '""':
                return adapter.validate_json(repaired), "json"
        except (ValueError, RecursionError):
            pass  # the next rung
        try:
            literal = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass  # the first failure is the one to report
        else:
            try:
                return adapter.validate_python(literal), "literal"
            except (ValueError, TypeError, RecursionError) as error:
                problem = error if isinstance(error, ValueError) and _says_nothing(problem) else problem
    raise ValueError(describe(problem)) from problem


def _says_nothing(problem: ValueError) -> bool:
    """Tell whether all that is known is that a text is not JSON; what is wrong with its value is better to know."""
    return isinstance(problem, ValidationError) and problem.errors(include_url=False)[0]["type"] == "json_invalid"


def describe(error: Exception) -> str:
    """Return what is wrong in one line, without the input and without links."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0]
    details = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"] for each in details[:3]
    ]
    return "; ".join(shown) + (f" (and {len(details) - 3} more)" if len(details) > 3 else "")
