"""Every public name stands in the reference, and the pages that list things list what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import dspex
import dspex.errors
from benchmarks._publish import ERLANG, LATEST, PAGE, README, figures_of_readme, results_in, table_in
from benchmarks._report import markdown
from dspex._names import NAMES

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
ERRORS = frozenset(dspex.errors.__all__)
WHERE = {
    "dspex": ("dspex", "evaluation", "optimizers"),
    "dspex.lm": ("lm",),
    "dspex.optimizers": ("optimizers",),
    "dspex.retrieval": ("retrieval",),
    "dspex.runtime": ("runtime",),
    "dspex.testing": ("testing",),
    "dspex.testing.conformance": ("testing",),
    "dspex.testing.strategies": ("testing",),
    "dspex.simulator": ("simulator",),
}
"""The modules whose names are public, and the pages of the reference that may have them."""
BETWEEN_ROOMS = frozenset({"OPTIMIZERS", "JobService", "JobSettings", "JobStatus"})
"""Names that ``dspex.optimizers`` has for the App alone."""
WHOLE = ("dspex.testing.strategies",)
"""Modules that a page shows with everything in them."""
ROOMS = (
    "dspex",
    "dspex.lm",
    "dspex.evaluation",
    "dspex.optimizers",
    "dspex.retrieval",
    "dspex.runtime",
    "dspex.testing",
    "dspex.simulator",
)


def public_names(module: str) -> set[str]:
    if module in NAMES:
        return {name for names in NAMES[module].values() for name in names}
    found = importlib.import_module(module)
    return set(getattr(found, "__all__", dir(found)))


def listed_names(page: str) -> set[str]:
    """The names that a page asks to be shown, or speaks of as code."""
    text = (REFERENCE / f"{page}.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (?:[\w.]+\.)?(\w+)$|^ +- (\w+)$|`(\w+)`", text, re.MULTILINE)
    return {name for each in shown for name in each if name}


@pytest.mark.parametrize("module", WHERE)
def test_every_public_name_stands_in_the_reference(module: str) -> None:
    """Whoever adds a public name adds a line to the page that this names."""
    pages = WHERE[module]
    if module in WHOLE:
        assert f"::: {module}\n" in "".join((REFERENCE / f"{page}.md").read_text(encoding="utf-8") for page in pages)
        return
    listed = set().union(*map(listed_names, pages))

    assert sorted(public_names(module) - listed - BETWEEN_ROOMS) == [], f"add them to docs/reference/{pages[0]}.md"


@pytest.mark.parametrize("page", sorted(path.stem for path in REFERENCE.glob("*.md")))
def test_everything_that_the_reference_asks_for_exists(page: str) -> None:
    """A name that is gone would only be noticed when the site is built."""
    text = (REFERENCE / f"{page}.md").read_text(encoding="utf-8")
    missing = []
    for target, options in re.findall(r"^::: ([\w.]+)\n((?:(?:    .*)?\n)*)", text, re.MULTILINE):
        members = re.findall(r"^ +- (\w+)$", options, re.MULTILINE)
        missing += [name for name in [target, *(f"{target}.{member}" for member in members)] if not _exists(name)]

    assert missing == []


def test_nothing_stands_in_the_reference_twice() -> None:
    """Two places for one name would each say half of it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md"))]
    targets = [target for text in texts for target in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)]

    assert [target for target in dict.fromkeys(targets) if targets.count(target) > 1] == []


def test_every_error_stands_in_the_tree_of_errors() -> None:
    """The tree is what the reference begins with: each class once, below the class that it is."""
    lines = re.findall(r"^    ((?:[│ ]   )*)(?:[├└]── )(\w+)", dspex.errors.__doc__ or "", re.MULTILINE)
    above: list[str] = ["DspexError"]
    found = {"DspexError": ""}
    for indent, name in lines:
        depth = len(indent) // 4 + 1
        del above[depth:]
        found[name] = above[-1]
        above.append(name)
    bases = {name: getattr(dspex.errors, name).__bases__[0].__name__ for name in ERRORS - {"DspexError"}}

    assert {name: found.get(name) for name in bases} == bases
    assert found.keys() == ERRORS


def test_every_name_in_the_table_of_features_exists() -> None:
    """A class name in the last column of a table is there under that name; ``None`` is not a class."""
    rows = [line.split("|") for line in (DOCS / "features.md").read_text(encoding="utf-8").splitlines() if "|" in line]
    called = {name for row in rows if len(row) > 3 for name in re.findall(r"`([A-Z]\w*[a-z]\w*)`", row[-2])}
    rooms = [importlib.import_module(room) for room in ROOMS]

    assert called, "the table names no class at all"
    assert sorted(name for name in called - {"None"} if not any(hasattr(room, name) for room in rooms)) == []


def test_every_decision_stands_in_its_index() -> None:
    """The index of decisions is written by hand."""
    index = (DOCS / "decisions/index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (DOCS / "decisions").glob("*.md")} - {"index.md"}

    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == pages


def test_every_how_to_stands_in_the_first_page() -> None:
    """A guide that is not in the index is not found."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (DOCS / "how-to").glob("*.md")}

    assert sorted(pages - set(re.findall(r"\]\(how-to/([\w-]+\.md)", index))) == []


def test_the_tables_of_costs_are_those_of_the_last_full_run() -> None:
    """A page that boasts of an older run is out of date: `python -m benchmarks --publish` writes all three."""
    latest = results_in(LATEST)

    assert table_in(PAGE, "results") == markdown(latest)
    assert table_in(PAGE, "erlang") == markdown(results_in(ERLANG))
    assert table_in(README, "costs") == figures_of_readme(latest)


def _exists(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    module, _, member = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        pass
    else:
        return True
    if not module:
        return False
    owner: object
    try:
        owner = importlib.import_module(module)
    except ImportError:
        head, _, cls = module.rpartition(".")
        owner = getattr(importlib.import_module(head), cls, None)
    return hasattr(owner, member)
