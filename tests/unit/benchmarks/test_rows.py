"""The table of what is measured is consistent."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks._erlang_rows import ERLANG_GROUPS
from benchmarks._rows import GROUPS, rows_of

ERLANG = Path(__file__).resolve().parents[3] / "benchmarks" / "erlang" / "bench.erl"
CONTENDERS = Path(__file__).resolve().parents[3] / "benchmarks" / "contenders"


def test_names_are_unique() -> None:
    """``--only`` means one thing."""
    names = [row.name for group in (*GROUPS, *ERLANG_GROUPS) for row in group.rows]

    assert len(names) == len(set(names))


def test_every_contender_exists() -> None:
    """A name is ``module:function@loop``, and the function is there; nothing is imported to find out."""
    functions = {
        f"{path.stem}:{node.name}"
        for path in CONTENDERS.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef)
    }
    functions |= {  # and what is made several at a time: ``a_1, a_2 = (...)``
        f"{path.stem}:{name.id}"
        for path in CONTENDERS.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
        for name in node.targets[0].elts
        if isinstance(name, ast.Name)
    }
    functions |= {f"erlang:{name}" for name in re.findall(r"^setup\((\w+)\) ->", ERLANG.read_text(), re.MULTILINE)}
    for group in (*GROUPS, *ERLANG_GROUPS):
        for name in group.contenders:
            found = re.fullmatch(r"(\w+:\w+)@(asyncio|uvloop|beam)", name)
            assert found, name
            assert found[1] in functions, name
            assert (found[2] == "beam") == name.startswith("erlang:"), name


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


def test_both_sides_of_a_row_run_on_the_same_loop() -> None:
    """A ratio of two loops would say nothing of dspex; DSPy's Evaluate is threads and has none."""
    for row in (row for group in GROUPS for row in group.rows if row.name != "evaluate-fast"):
        for peer in (row.peer, *row.rivals):
            assert row.ours.rpartition("@")[2] == peer.rpartition("@")[2], row.name


def test_rivals_take_part() -> None:
    """Whoever may be the best has to be measured."""
    (group,) = rows_of(("evaluate-cpu",))

    assert group.contenders == (
        "evaluations:evaluate_core@asyncio",
        *(f"evaluations:dspy_{threads}@asyncio" for threads in (32, 64, 128)),
    )


def test_a_chosen_row_keeps_its_size() -> None:
    """A row alone asks what it asks in its group."""
    (group,) = rows_of(("ring-uvloop",))

    assert group.size is not None
    assert group.size.quick <= group.size.full


def test_erlang_rows_are_chosen_by_name() -> None:
    """They are a table of their own."""
    (group,) = rows_of(("erlang-ring",), ERLANG_GROUPS)

    assert group.contenders == ("loads:ring@asyncio", "erlang:ring@beam")
    with pytest.raises(LookupError):
        rows_of(("erlang-ring",))
