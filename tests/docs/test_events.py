"""The table of events in ``dspex.telemetry`` has every event that is emitted, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
NAME = re.compile(r"dspex(?:\.[a-z_]+)+")
ENDINGS = (".start", ".stop", ".exception")
"""Of work that takes time: the code that emits all three names it once."""
PREFIX = re.compile(r"dspex\.[a-z_.]+\.")


def emitted() -> tuple[set[str], set[str]]:
    """The event names in the source, and the beginnings of those that are put together; modules are not events."""
    files = list(SOURCE.rglob("*.py"))
    modules = {
        ".".join(("dspex", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__") for path in files
    }
    names: set[str] = set()
    prefixes: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                names.add(node.value)
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                prefixes.add(str(node.values[0].value))
    spans = {row.rpartition(".")[0] for row in table() if row.endswith(ENDINGS)}  # one may be called like a module
    return names - (modules - spans), {each for each in prefixes if PREFIX.fullmatch(each)}


def table() -> set[str]:
    doc = ast.get_docstring(ast.parse((SOURCE / "telemetry.py").read_text(encoding="utf-8"))) or ""
    return set(re.findall(r"^``(dspex(?:\.\w+)+)``", doc, re.MULTILINE))


def test_every_event_stands_in_the_table() -> None:
    """A sink's author reads the table, and nothing else."""
    names, _ = emitted()

    spans = {row.rpartition(".")[0] for row in table() if row.endswith(ENDINGS)}
    assert len(names) > 20
    # "dspex.watchdog" and the like are names of loggers.
    assert sorted(name for name in names - table() - spans if name.count(".") > 1) == []


def test_the_table_has_no_event_of_the_past() -> None:
    """A sink would wait for it for ever."""
    names, prefixes = emitted()
    alive = {row for row in table() if row in names or row.startswith(tuple(prefixes))}
    alive |= {row for row in table() if row.endswith(ENDINGS) and row.rpartition(".")[0] in names}

    assert sorted(table() - alive) == []
