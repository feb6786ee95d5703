"""
Griffe extensions: tables and ``::`` before code become Markdown's; our ``dataclass`` is known for what it is.

The tables of docstrings are readable as they stand, and stay so in the source.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Dataclasses", "Tables"]

_TABLE = re.compile(
    r"^(?P<indent>[ ]*)(?P<rule>=+(?:[ ]+=+)+)\n(?P<head>.+)\n[ ]*(?P=rule)\n(?P<body>(?:.+\n)+?)[ ]*(?P=rule)$",
    re.MULTILINE,
)


_BEFORE_CODE = re.compile(r"::$", re.MULTILINE)


class Dataclasses(griffe.Extension):
    """Shows the constructors of our dataclasses, which griffe writes for the standard library's alone."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Let the decorator's name lead to the standard library's."""
        if mod.imports.get("dataclass") == "dspex._dataclass.dataclass":
            mod.imports["dataclass"] = "dataclasses.dataclass"
            mod.set_member("dataclass", griffe.Alias("dataclass", "dataclasses.dataclass", parent=mod))


class Tables(griffe.Extension):
    """Rewrites every docstring that has a table, or code behind a double colon."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _BEFORE_CODE.sub(":", _TABLE.sub(_markdown, obj.docstring.value))


def _markdown(table: re.Match[str]) -> str:
    indent, rule = table["indent"], table["rule"]
    starts = [column.start() for column in re.finditer("=+", rule)]
    columns = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    rows = [
        " | ".join(text[column].strip() for column in columns)
        for text in (line.removeprefix(indent) for line in (table["head"] + "\n" + table["body"]).splitlines())
    ]
    lines = [rows[0], " | ".join("---" for _ in columns), *rows[1:]]
    return "\n" + "\n".join(f"{indent}| {line} |" for line in lines) + "\n"
