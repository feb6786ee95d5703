"""DSPy 3.4.1 as a peer: state files travel both ways, and completions are read alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dspex
from tests.support.peer import GOLDEN, ROOT, ask_dspy, filled
from tests.support.peer_completions import Case, cases
from tests.support.peer_programs import SHAPES

pytestmark = pytest.mark.slow

State = dict[str, Any]


def content(path: Path) -> State:
    state: State = json.loads(path.read_text(encoding="utf-8"))
    del state["metadata"]
    return state


@pytest.fixture(scope="module")
def written_by_dspy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files, one for each shape."""
    folder = tmp_path_factory.mktemp("dspy")
    assert ask_dspy({"do": "save", "folder": str(folder)}) == {"version": "3.4.1"}
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_what_dspy_wrote_is_loaded(name: str, written_by_dspy: Path, tmp_path: Path) -> None:
    """And written again to the same content."""
    file = written_by_dspy / f"{name}.json"
    SHAPES[name].make(dspex).load(file).save(tmp_path / "again.json")
    expected = content(file)
    if name == "prefixes":
        expected["signature"]["fields"][3]["prefix"] = "Final Answer:"
    assert content(tmp_path / "again.json") == expected


def test_dspy_loads_what_was_written_here(tmp_path: Path) -> None:
    """Every shape, and a model with parameters; only sampling parameters reach DSPy's `config`."""
    for name, shape in SHAPES.items():
        filled(shape).save(tmp_path / f"{name}.json")
    lm = dspex.LM("openai/gpt-4o-mini", api_key="sk-never-saved", temperature=0.2, extra_body={"user": "me"})
    chain = SHAPES["chain"].make(dspex).with_lm(lm)
    chain.with_config(temperature=0.7, repair_turns=0).with_adapter("json").save(tmp_path / "with_lm.json")

    loaded = ask_dspy({"do": "load", "folder": str(tmp_path)})

    assert loaded.keys() == {*SHAPES, "with_lm"}
    for name, state in loaded.items():
        configs = state.pop("configs")
        assert configs == [{"temperature": 0.7}] if name == "with_lm" else not any(configs)
        expected = content(tmp_path / f"{name}.json")
        for part in [expected] if "signature" in expected else list(expected.values()):
            part.pop("config", None)
            part.pop("dspex", None)
        if name == "with_lm":
            model = state["predict"].pop("lm")
            assert (model["model"], model["temperature"]) == ("openai/gpt-4o-mini", 0.2)
            assert not {"user", "extra_body"} & model.keys()
            expected["predict"].pop("lm")
        assert state == expected


def test_golden_files_are_what_dspy_writes(written_by_dspy: Path) -> None:
    """The fast tests load them; they are not work of ours."""
    assert len(list(GOLDEN.glob("*.json"))) >= 10
    for file in GOLDEN.glob("*.json"):
        assert content(file) == content(written_by_dspy / file.name)


# --- completions --------------------------------------------------------------------------------------------

NULL = "`null` or `None` in the chat format, for a field that may be `None`"
QUOTED = "a text in quotes in the chat format, for a field that may be `None`"
MARKS = "marks of the format on a value's line, or a fence around the whole answer"
DRAFT = "a draft in `<think>` before the answer, or at the start of a value"
LEFT_OUT = "a field that may be `None`, in a form that only one of them reads"
INSIDE = "quotes inside of a text in quotes"
CUT = "a list or an object without its end, or a text or number at its end"
TWO = "two objects, sections or elements that differ"
NO_TEXT = "`null` in JSON, for a text"
TRUE = "`True` for a number, also in lists, models and arguments of tools"
COMMA = "a comma without a value, or `1,000` for a list"

READ_DIFFERENTLY = {
    **dict.fromkeys(("end on the line", "all fenced", "lower case end", "one line"), MARKS),
    "thoughts": DRAFT,
    "quotes inside": INSIDE,
    "Python": INSIDE,
    "slips": INSIDE,
}
REFUSED = {
    **dict.fromkeys(("cut short", "no last bracket"), CUT),
    **dict.fromkeys(("slips", "word for a number"), COMMA),
    "two objects": TWO,
    "twice": TWO,
    "null": NO_TEXT,
    "true as word": TRUE,
}
ONLY_HERE = "only here"


def explained(case: Case, mine: State, theirs: State) -> str | None:
    """Return the row of the page that says why the two read a completion differently."""
    if "error" in theirs:
        return ONLY_HERE
    if "error" in mine:
        return REFUSED.get(case.twist)
    if mine["values"].keys() != theirs["values"].keys():
        return None
    reasons = set()
    for name, value in mine["values"].items():
        other = theirs["values"][name]
        if value == other:
            continue
        may_be_none = f"{name}: Optional" in case.signature
        if (
            case.adapter == "chat"
            and f"{name}: Optional[str]" in case.signature
            and value is None
            and other in ("null", "None")
        ):
            reasons.add(NULL)
        elif case.adapter == "chat" and other == json.dumps(value, ensure_ascii=False):
            reasons.add(QUOTED)
        elif other is None and may_be_none:
            reasons.add(LEFT_OUT)
        else:
            reasons.add(READ_DIFFERENTLY.get(case.twist, ""))
    if not reasons or "" in reasons:
        return None
    of_the_twist = READ_DIFFERENTLY.get(case.twist)
    return of_the_twist if of_the_twist in reasons else min(reasons)


def read_here(case: Case) -> State:
    adapter = dspex.ChatAdapter() if case.adapter == "chat" else dspex.JSONAdapter()
    try:
        outputs = adapter.parse(dspex.Predict(case.signature).signature, case.completion).outputs
    except dspex.ResponseUnparsable:
        return {"error": "ResponseUnparsable"}
    found: State = {"values": json.loads(json.dumps(outputs))}
    return found


def test_completions_are_read_alike_or_the_page_says_why() -> None:
    """Two thousand signatures and completions; every difference has its row, and every row happens."""
    drawn = cases(2_000, seed=7)
    theirs = ask_dspy({"do": "parse", "cases": [[each.adapter, each.signature, each.completion] for each in drawn]})
    rows: Counter[str] = Counter()
    alike = 0
    for case, other in zip(drawn, theirs, strict=True):
        mine = read_here(case)
        if mine == other or ("error" in mine and "error" in other):
            alike += 1
            continue
        why = explained(case, mine, other)
        assert why, f"{case}\n  dspex: {mine}\n  DSPy:  {other}"
        rows[why] += 1

    assert alike > 1_200
    assert rows.pop(ONLY_HERE) > 300
    assert rows.keys() == {NULL, QUOTED, MARKS, DRAFT, LEFT_OUT, INSIDE, CUT, TWO, NO_TEXT, TRUE, COMMA}
    page = (ROOT / "docs/how-to/migrate.md").read_text(encoding="utf-8")
    for why in rows:
        assert f"| {why} |" in page


def test_what_only_one_of_them_can_read() -> None:
    """The rows of the page, one by one: what DSPy makes of them and what is made of them here."""
    examples: list[tuple[Case, Callable[[State], bool], Any]] = [
        (
            Case("chat", "q -> a: Optional[str]", "[[ ## a ## ]]\nnull", "", ""),
            lambda it: it["values"]["a"] == "null",
            None,
        ),
        (
            Case("chat", "q -> a: Optional[str]", '[[ ## a ## ]]\n"x"', "", ""),
            lambda it: it["values"]["a"] == '"x"',
            "x",
        ),
        (Case("chat", "q -> a: int", "[[ ## a ## ]]\n```json\n7\n```", "", ""), lambda it: "error" in it, 7),
        (
            Case("chat", "q -> a", "[[ ## a ## ]]\nx [[ ## completed ## ]]", "", ""),
            lambda it: "[[" in it["values"]["a"],
            "x",
        ),
        (
            Case("chat", "q -> a", "<think>\n[[ ## a ## ]]\ndraft</think>\n[[ ## a ## ]]\nx", "", ""),
            lambda it: "draft" in it["values"]["a"],
            "x",
        ),
        (
            Case("chat", "q -> a: list[int]", "[[ ## a ## ]]\n[1, 2", "", ""),
            lambda it: it["values"]["a"] == [1, 2],
            REFUSED,
        ),
        (Case("json", "q -> a", '{"a": "x"} or {"a": "y"}', "", ""), lambda it: it["values"]["a"] == "y", REFUSED),
        (Case("json", "q -> a", '{"a": null}', "", ""), lambda it: it["values"]["a"] == "None", REFUSED),
        (
            Case("chat", "q -> a: list[int]", "[[ ## a ## ]]\n1,000", "", ""),
            lambda it: it["values"]["a"] == [1, 0],
            REFUSED,
        ),
    ]
    theirs = ask_dspy(
        {"do": "parse", "cases": [[case.adapter, case.signature, case.completion] for case, *_ in examples]}
    )
    for (case, is_theirs, value), other in zip(examples, theirs, strict=True):
        assert is_theirs(other), other
        assert read_here(case) == ({"error": "ResponseUnparsable"} if value is REFUSED else {"values": {"a": value}})
