"""Each room has a card, and what the cards and the pages for contributors name exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "dspex"
MAX_LINES = 40
ROOMS = sorted(
    str(init.parent.relative_to(SOURCE))
    for init in (*SOURCE.glob("*/__init__.py"), *SOURCE.glob("services/*/__init__.py"))
)
CARDS = [SOURCE / room / "README.md" for room in ROOMS]
PAGES = [
    *CARDS,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs/contributing").glob("*.md")),
    *sorted((ROOT / "docs/internals").glob("*.md")),
]
SECTIONS = ("**Start with**", "## Invariants", "## Does not belong here")

NAMED = re.compile(r"`(?P<path>(?:tests|src)/[\w/.-]+?\.py)(?:::(?P<name>\w+))?`")
FILE = re.compile(r"`((?:src|tests|docs|benchmarks|requirements|changelog\.d)/[\w/.-]+)`")
NEAR = re.compile(r"`([\w/]+\.py)`")
RULE = re.compile(r"^### (\d+)\. ", re.MULTILINE)
MAX_RULES = 40


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def names_in(path: Path) -> frozenset[str]:
    """The functions and classes of a file, and the names that it assigns (state machines are run so)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return frozenset(found)


def missing(text: str, folder: Path) -> list[str]:
    """The files and tests that a page names and that are not there."""
    lost: list[str] = []
    for found in NAMED.finditer(text):
        path, name = ROOT / found["path"], found["name"]
        if not path.exists() or (name is not None and name not in names_in(path)):
            lost.append(found[0])
    lost += [name for name in FILE.findall(NAMED.sub("", text)) if not (ROOT / name).exists()]
    near = NEAR.findall(FILE.sub("", NAMED.sub("", text)))
    if SOURCE in folder.parents:  # a card speaks of its own room
        lost += [name for name in near if not (folder / name).exists() and not (SOURCE / name).exists()]
    else:
        lost += [name for name in near if not any(SOURCE.rglob(name))]
    return lost


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_has_a_card(room: str) -> None:
    """Short enough to be read at each visit: its purpose, where to start, what must hold, what is out of place."""
    card = SOURCE / room / "README.md"
    assert card.exists(), f"{room} has no README.md: see docs/contributing/index.md"
    text = card.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= MAX_LINES
    assert text.startswith(f"# {room.removeprefix('/')}"), "the title is the room and its purpose"
    assert [part for part in SECTIONS if part not in text] == []
    _, _, after = text.partition("## Invariants")
    numbered = re.split(r"^\d+\. ", after.partition("\n## ")[0], flags=re.MULTILINE)[1:]
    assert len(numbered) >= 3
    assert [each for each in numbered if "`tests/" not in each] == [], "each invariant names the test that holds it"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_files_and_tests_that_a_page_names_exist(page: Path) -> None:
    """A card that names what is gone sends its reader astray."""
    assert missing(page.read_text(encoding="utf-8"), page.parent) == []


def test_what_is_missing_is_found() -> None:
    """In each of the forms in which pages name things."""
    here = "tests/docs/test_cards.py"
    good = f"`{here}::test_what_is_missing_is_found`, `{here}`, `{here}::ROOMS`, `telemetry.py`, `src/dspex`"
    bad = ["`tests/docs/test_gone.py`", f"`{here}::test_gone`"]

    assert missing(good, ROOT) == []
    assert missing(" ".join(bad), ROOT) == bad
    assert missing("`src/dspex/attic/`, `gone.py`", ROOT) == ["src/dspex/attic/", "gone.py"]


def test_rules_are_few_and_each_names_what_enforces_it() -> None:
    """A rule without a reason or without a check is an opinion."""
    text = (ROOT / "docs/contributing/rules.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in RULE.findall(text)]
    rules = RULE.split(text)[2::2]

    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) <= MAX_RULES
    assert [rule.splitlines()[0] for rule in rules if "Because" not in rule] == []
    held = re.compile(r"^Held by: .*(?:`tests/|ruff|mypy|`make )", re.MULTILINE)
    assert [rule.splitlines()[0] for rule in rules if not held.search(rule)] == []
