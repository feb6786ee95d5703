"""The table of what is measured is consistent."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks._rows import GROUPS, rows_of

CONTENDERS = Path(__file__).resolve().parents[3] / "benchmarks" / "contenders"


def test_names_are_unique() -> None:
    """``--only`` means one thing."""
    names = [row.name for group in GROUPS for row in group.rows]

    assert len(names) == len(set(names))


def test_every_contender_exists() -> None:
    """A name is ``module:function@loop``, and the function is there; nothing is imported to find out."""
    functions = {
        f"{path.stem}:{node.name}"
        for path in CONTENDERS.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef)
    }
    for group in GROUPS:
        for name in group.contenders:
            found = re.fullmatch(r"(\w+:\w+)@(asyncio|uvloop)", name)
            assert found, name
            assert found[1] in functions, name


def test_only_takes_groups_and_rows() -> None:
    """A row by its name comes alone, a group with all its rows."""
    (group,) = rows_of(("call-uvloop",))

    assert [row.name for row in group.rows] == ["call-uvloop"]
    assert len(group.contenders) == 2
    assert rows_of(("call",)) == tuple(each for each in GROUPS if each.name == "call")
    assert rows_of() == GROUPS


def test_unknown_names_are_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(LookupError, match=r"no benchmark is called nonsense; there are .*call-uvloop"):
        rows_of(("call", "nonsense"))
