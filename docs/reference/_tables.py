"""Griffe extension: what is readable in docstrings as it stands, tables and ``::`` before code, becomes Markdown's."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Tables"]

_TABLE = re.compile(
    r"^(?P<indent>[ ]*)(?P<rule>=+(?:[ ]+=+)+)\n(?P<head>.+)\n[ ]*(?P=rule)\n(?P<body>(?:.+\n)+?)[ ]*(?P=rule)$",
    re.MULTILINE,
)


_BEFORE_CODE = re.compile(r"::$", re.MULTILINE)


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
