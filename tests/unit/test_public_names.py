"""The names of dspex, and the cost of importing it."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import dspex
from dspex import _elsewhere
from dspex._names import NAMES
from tests.support.facades import path_of, written
from tests.support.missing import developers_tool

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
ROOT = {name for names in NAMES["dspex"].values() for name in names}
MOST_NAMES = 71
"""Of the root: whoever adds one takes one out, or finds the room where it belongs."""
MODULES = sorted(
    ".".join(("dspex", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "__main__.py"
)
HEAVY = {"aiocache", "httpx", "pydantic", "structlog"}
CPU_SECONDS = 0.25

PROBE = """
import json, pathlib, sys, time
started = time.process_time()
import dspex
spent = time.process_time() - started
pathlib.Path(sys.argv[1]).write_text(json.dumps({"spent": spent, "loaded": sorted(sys.modules)}))
"""


class FreshImport(NamedTuple):
    """The effects of one import of dspex in a process of its own."""

    spent: float
    loaded: set[str]
    printed: str


@pytest.fixture(scope="module")
def fresh_imports(tmp_path_factory: pytest.TempPathFactory) -> list[FreshImport]:
    return [_import_freshly(tmp_path_factory.mktemp("import") / "seen.json") for _ in range(5)]


def _import_freshly(seen: Path) -> FreshImport:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, str(seen)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(seen.read_text())
    return FreshImport(answer["spent"], set(answer["loaded"]), done.stdout + done.stderr)


def test_importing_dspex_loads_nothing_heavy(fresh_imports: list[FreshImport]) -> None:
    assert fresh_imports[0].loaded & HEAVY == set()


def test_importing_dspex_prints_nothing(fresh_imports: list[FreshImport]) -> None:
    assert {run.printed for run in fresh_imports} == {""}


def test_importing_dspex_is_cheap(fresh_imports: list[FreshImport]) -> None:
    assert min(run.spent for run in fresh_imports) < CPU_SECONDS


def test_the_root_has_what_is_used_every_week() -> None:
    """Few enough to be read in one go; errors do not count, they live in ``dspex.errors``."""
    assert len(ROOT) <= MOST_NAMES
    assert not ROOT & set(dspex.errors.__all__)
    assert {"App", "LM", "Module", "Predict", "Signature"} <= ROOT


@pytest.mark.parametrize("facade", NAMES)
def test_a_facade_says_what_the_table_says(facade: str) -> None:
    """``python -m tests.support.facades`` writes it anew."""
    text = path_of(facade).read_text(encoding="utf-8")

    assert text == written(facade, text, developers_tool("ruff"))


@pytest.mark.parametrize("facade", NAMES)
def test_every_name_of_the_table_is_there(facade: str) -> None:
    """By the façade, and by a star; a name that is not is an AttributeError that names the façade."""
    room = importlib.import_module(facade)
    names = [name for each in NAMES[facade].values() for name in each]

    assert [name for name in names if getattr(room, name, None) is None] == []
    assert len(names) == len(set(names))
    assert set(names) <= set(dir(room))
    with pytest.raises(AttributeError, match=f"module '{facade}' has no attribute 'Nothing'"):
        getattr(room, "Nothing")  # noqa: B009 - a checker would see it


def test_rooms_are_found_without_an_import_of_their_own() -> None:
    assert dspex.lm.Provider is importlib.import_module("dspex.lm").Provider
    with pytest.raises(AttributeError, match=r"settings'.*App\(\.\.\.\) and app\.options"):
        getattr(dspex, "settings")  # noqa: B009 - a checker would see it


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MIPROv2", "it is dspex.optimizers.MIPROv2"),
        ("ColBERTv2", "it is dspex.retrieval.ColBERTv2"),
        ("Actor", "it is dspex.runtime.Actor"),
        ("AdapterParseError", "it is dspex.errors.ResponseUnparsable"),
        ("LMBillingError", "errors are in dspex.errors"),
        ("teleprompt", "optimizers are in dspex.optimizers"),
        ("ChainOfThougt", r"did you mean ChainOfThought\?"),
    ],
)
def test_a_name_that_is_elsewhere_is_told_where(name: str, said: str) -> None:
    with pytest.raises(AttributeError, match=rf"module 'dspex' has no attribute '{name}': {said}$"):
        getattr(dspex, name)


def test_every_place_that_is_named_is_there() -> None:
    """Each ``dspex.room.Name`` in the words for names of other libraries."""
    places = re.findall(r"dspex\.(\w+)\.(\w+)", " ".join(_elsewhere._ELSEWHERE.values()))

    assert len(places) > 10
    assert [each for each in places if not hasattr(importlib.import_module(f"dspex.{each[0]}"), each[1])] == []


def test_errors_are_found_beside_the_other_names() -> None:
    """Shells complete what ``dir`` lists."""
    assert {"App", "Predict", "RateLimited", "DspexError"} <= set(dir(dspex))


@pytest.mark.parametrize("name", MODULES)
def test_every_listed_name_exists(name: str) -> None:
    module = importlib.import_module(name)

    assert [listed for listed in getattr(module, "__all__", ()) if not hasattr(module, listed)] == []


@pytest.mark.parametrize("name", MODULES)
def test_names_are_listed_once_and_in_order(name: str) -> None:
    """Constants, then classes, then functions, each by name: the order the linter asks for."""
    listed = list(getattr(importlib.import_module(name), "__all__", ()))

    assert listed == sorted(set(listed), key=_order)


def _order(name: str) -> tuple[int, str]:
    if len(name) > 1 and name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name
