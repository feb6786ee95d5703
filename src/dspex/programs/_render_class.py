"""A signature as the source of the class one would write by hand."""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin

from dspex.programs.fields import MISSING, Field
from dspex.programs.signature import Signature, plan_of

__all__ = ["render_class"]


def render_class(signature: type[Signature]) -> str:
    """
    Return source to paste: imports, the class, its docstring and its fields.

    Types that are neither builtins nor in typing are named, and left for the author to import.
    """
    plan = plan_of(signature)
    lines = []
    needed = sorted({name for each in plan.fields.values() for name in _typing_names(each.annotation)})
    if needed:
        lines += [f"from typing import {', '.join(needed)}", ""]
    lines += ["import dspex", "", "", f"class {plan.name}(dspex.Signature):", *_docstring(plan.instructions), ""]
    for each in plan.fields.values():
        kind = "InputField" if each.role == "input" else "OutputField"
        lines.append(f"    {each.name}: {_source_text(each)} = dspex.{kind}({_arguments(each)})")
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> list[str]:
    escaped = text.replace("\\", "\\\\")
    quoted = re.sub(r'"{3,}|"+\Z', lambda run: '\\"' * len(run[0]), escaped)  # what would end the docstring early
    first, *rest = quoted.split("\n")
    if not rest:
        return [f'    """{first}"""']
    return ['    """', *[f"    {line}".rstrip() for line in (first, *rest)], '    """']


def _source_text(field: Field) -> str:
    return re.sub(rf"(?<![\w.])({_OURS})\b", r"dspex.\1", field.type_text)


_OURS = "Audio|Citations|Code|Document|File|History|Image|Passage|Quote|Reasoning|ToolCalls"


def _arguments(field: Field) -> str:
    arguments = []
    if field.default is not MISSING:
        arguments.append(f"default={field.default!r}")
    if field.default_factory is not None:
        arguments.append(f"default_factory={getattr(field.default_factory, '__name__', '...')}")
    if field.desc:
        arguments.append(f"desc={field.desc!r}")
    arguments += [f"{name}={bound!r}" for name, bound in field.constraints]
    return ", ".join(arguments)


def _typing_names(annotation: object) -> set[str]:
    """Names that the printed type takes from typing."""
    if annotation is Any:
        return {"Any"}
    origin = get_origin(annotation)
    found = {"Literal"} if getattr(origin, "_name", "") == "Literal" else set()
    arguments = () if found else get_args(annotation)
    return found.union(*(_typing_names(each) for each in arguments)) if arguments else found
