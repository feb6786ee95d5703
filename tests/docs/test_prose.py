"""
Plain words, as far as a machine can tell: docstrings, comments, messages, pages and names.

A sentence has a subject that a reader knows. One that opens with "What" or "Whether" makes its reader wait for the verb
to learn what it is about.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = [*sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
PAGES = [
    *sorted(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),  # built from the fragments
    *sorted((ROOT / "changelog.d").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.md")),
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

OPENS = re.compile(r"(?:What|Whether|Whatever|Whoever)\b")
NO_THING = re.compile(
    r"(?<!there )(?<!There )\b(?:is|are|was|were) no "
    r"(?!longer\b|more\b|other\b|one\b|limit\b|bound\b|way\b|wait\b|good\b|use\b|reason to\b|need to\b)[a-z]"
)
TWO_MEANINGS = {
    # Their rooms are public under these names, and the room says whose faults they are.
    "Fault": {"simulator/faults.py", "testing/_faults.py"},
    "FaultPlan": {"simulator/faults.py", "testing/_faults.py"},
    # Both raise an error: the retry policy the provider's, a plan of faults one of its own.
    "Raise": {"services/lm/retry.py", "testing/_faults.py"},
    # The asks of an optimizer's plan are named for what they ask.
    "Embed": {"optimizers/plans.py", "programs/knn.py"},
    "Run": {"optimizers/plans.py", "programs/run.py"},
    "Search": {"optimizers/plans.py", "services/retrieval/client.py"},
}
"""Class names that stand in two files, and why that is not a second meaning."""


def sentences(text: str) -> Iterator[str]:
    """Split a docstring or a page into sentences; entries of ``Args`` and items of lists are sentences of their own."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        pieces = re.split(
            r"(?<=[.!?])\s+"  # the end of a sentence
            r"|(?<=[\w)`*]:) (?=[A-Z])"  # the description of an argument
            r"|\n\s*(?=(?:[-*]|\d+\.) )"  # an item
            r"|\s*\|\s*"  # a cell of a table
            r"|\n\s*(?=[\w*`~.]+(?: \([^)]*\))?: )",  # the next argument
            paragraph,
        )
        for piece in pieces:
            plain = re.sub(r"^(?:[-*#>]+|\d+\.)\s+|^\*+", "", piece.strip())
            if plain:
                yield " ".join(plain.split())


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string that stands by itself: docstrings, and the descriptions below attributes."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", None) or () if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            ):
                yield statement.value


def told(path: Path, having: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Return the docstrings and comments of a file, by line; none of a file without what is looked for."""
    source = path.read_text(encoding="utf-8")
    if not having.search(source):
        return
    for found in docstrings(ast.parse(source)):
        yield found.lineno, str(found.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("#: ")


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Return the texts of a file that have at least three words, and are not docstrings; values in them are braces."""
    source = path.read_text(encoding="utf-8")
    if not OPENS.search(source) and not NO_THING.search(source):
        return
    tree = ast.parse(source)
    own = {id(each) for each in docstrings(tree)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own | inner:
            text = node.value
        else:
            continue
        if len(text.split()) >= 3:
            yield node.lineno, text


def page_text(path: Path) -> str:
    """Return a page without its code and comments."""
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^([ ]*)```.*?^\1```[ ]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`code`", re.sub(r"\"[^\"\n]*\"", '"quoted"', text))


def hard(sentence: str) -> bool:
    return bool(OPENS.match(sentence)) and not sentence.endswith(("?", ":"))


def at(path: Path, line: int, text: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def test_docstrings_name_their_subject() -> None:
    """And comments, in the library, the benchmarks and the tests."""
    told_of = [(path, line, each) for path in CODE for line, text in told(path, OPENS) for each in sentences(text)]
    found = [at(path, line, each) for path, line, each in told_of if hard(each)]
    told_of = [(path, line, each) for path in TESTS for line, text in told(path, OPENS) for each in sentences(text)]
    found += [at(path, line, each) for path, line, each in told_of if each.startswith(("What ", "Whether "))]

    assert not found, "\n".join(found)


def test_a_thing_is_not_another() -> None:
    """A text "is not" a number, rather than "is no" number; in docstrings and comments."""
    told_of = [(path, line, NO_THING.search(text)) for path in CODE for line, text in told(path, NO_THING)]
    found = [at(path, line, hit[0]) for path, line, hit in told_of if hit]

    assert not found, "\n".join(found)


def test_messages_are_plain() -> None:
    """Errors and what else is shown to users."""
    found = [
        at(path, line, text)
        for path in CODE
        for line, text in messages(path)
        if NO_THING.search(text) or any(hard(each) for each in sentences(text))
    ]

    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain(page: Path) -> None:
    """Headings included; a question may be asked."""
    text = page_text(page)

    assert [each for each in sentences(text) if hard(each)] == []
    assert [hit[0] for hit in NO_THING.finditer(text)] == []


def test_a_class_name_means_one_thing() -> None:
    """A search for a name finds one class; private helpers included."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "src/dspex").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(str(path.relative_to(ROOT / "src/dspex")))

    assert {name: found for name, found in places.items() if len(found) > 1} == TWO_MEANINGS


def test_no_test_sleeps() -> None:
    """A sleep of a fixed time between 0 and a minute is a guess; where one is right, the line says why."""
    found: list[str] = []
    for path in TESTS:
        source = path.read_text(encoding="utf-8")
        if "sleep(" not in source:
            continue
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            seconds = node.args[0].value
            if (
                ast.unparse(node.func) in ("asyncio.sleep", "time.sleep", "anyio.sleep")
                and isinstance(seconds, int | float)
                and 0 < seconds < 60
                and "#" not in lines[node.lineno - 1]
            ):
                found.append(at(path, node.lineno, ast.unparse(node)))

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What cannot be read is refused.", ["What cannot be read is refused."]),
        ("Read a file. Whether it is\nthere does not matter.", ["Whether it is there does not matter."]),
        ("Args:\n    path: What to read.\n    key: The key: What it is.", ["What to read.", "What it is."]),
        ("- What is an item?\n- What is another", ["What is another"]),
        ("| one | What is a cell |", ["What is a cell"]),
        ("Say what it is, and whether it is.", []),
    ],
)
def test_hard_sentences_are_found(text: str, found: list[str]) -> None:
    assert [each for each in sentences(text) if hard(each)] == found
