"""What dspex offers, and what importing it costs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import dspex

SOURCE = Path(__file__).parents[2] / "src" / "dspex"
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
    """What one import of dspex did in a process of its own."""

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
