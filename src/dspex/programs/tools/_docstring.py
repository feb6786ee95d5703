"""Read the description of a function and its parameters from its docstring: Google, NumPy and Sphinx style."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

__all__ = ["Docstring", "read_docstring"]

_GOOGLE_PARAMETERS = ("args:", "arguments:", "parameters:", "params:")
_GOOGLE_OTHERS = (
    "returns:",
    "return:",
    "raises:",
    "yields:",
    "example:",
    "examples:",
    "note:",
    "notes:",
    "attributes:",
)
_GOOGLE_ITEM = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_NUMPY_ITEM = re.compile(r"^\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?$")
_SPHINX_ITEM = re.compile(r"^:(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$")
_SPHINX_ANY = re.compile(r"^:\w+[^:]*:")


@dataclass
class Docstring:
    """The text before the sections, and what is said of each parameter."""

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(text: str | None) -> Docstring:
    """Return what a docstring says; sections it does not know are left out of the summary."""
    lines = inspect.cleandoc(text or "").splitlines()
    found = Docstring()
    kept: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        word = line.strip().lower()
        underlined = at + 1 < len(lines) and set(lines[at + 1].strip()) == {"-"} and bool(word)
        if underlined:
            at = _numpy_section(lines, at, found)
        elif word in _GOOGLE_PARAMETERS or (word in _GOOGLE_OTHERS and not line.startswith(" ")):
            at = _google_section(lines, at, found if word in _GOOGLE_PARAMETERS else None)
        elif _SPHINX_ANY.match(line):
            at = _sphinx_item(lines, at, found)
        else:
            kept.append(line)
            at += 1
    found.summary = "\n".join(kept).strip()
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google_section(lines: list[str], at: int, found: Docstring | None) -> int:
    """Read indented ``name (type): text`` entries; with ``found`` None, pass over the section."""
    base, at = _indent(lines[at]), at + 1
    entry_indent: int | None = None
    name = ""
    while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > base):
        line = lines[at]
        at += 1
        if not line.strip() or found is None:
            continue
        entry_indent = _indent(line) if entry_indent is None else entry_indent
        item = _GOOGLE_ITEM.match(line.strip()) if _indent(line) == entry_indent else None
        if item is not None:
            name = item[1]
            found.parameters[name] = item[2].strip()
        elif name:
            _append(found, name, line)
    return at


def _numpy_section(lines: list[str], at: int, found: Docstring) -> int:
    """Read ``name : type`` lines with indented text below; other sections are passed over."""
    wanted = lines[at].strip().lower() in ("parameters", "other parameters")
    base, at = _indent(lines[at]), at + 2
    names: list[str] = []
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and line.strip() and set(lines[at + 1].strip()) == {"-"}:
            break
        at += 1
        if not line.strip() or not wanted:
            continue
        item = _NUMPY_ITEM.match(line.strip()) if _indent(line) == base else None
        if item is not None:
            names = [each.strip() for each in item[1].split(",")]
            found.parameters.update(dict.fromkeys(names, ""))
        else:
            for name in names:
                _append(found, name, line)
    return at


def _sphinx_item(lines: list[str], at: int, found: Docstring) -> int:
    item = _SPHINX_ITEM.match(lines[at].strip())
    if item is not None:
        found.parameters[item[1]] = item[2].strip()
    base, at = _indent(lines[at]), at + 1
    while at < len(lines) and lines[at].strip() and _indent(lines[at]) > base:
        if item is not None:
            _append(found, item[1], lines[at])
        at += 1
    return at


def _append(found: Docstring, name: str, line: str) -> None:
    found.parameters[name] = f"{found.parameters[name]} {line.strip()}".strip()
