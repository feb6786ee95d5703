"""
Imports point one way, and time, entropy and the environment each have one reader.

The tables are the architecture. A change to one of them is a decision, and goes with a page in docs/decisions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.imports import Module, Package, read_package

BASE = frozenset({"errors", "telemetry", "_clock", "_random", "_guard", "_files", "_html"})
NAMES = frozenset({"_names", "_elsewhere"})
"""The table of public names, and words for those that are not there: façades alone go by them."""
EVERYTHING = BASE | {
    "runtime",
    "protocols",
    "programs",
    "services",
    "requests",
    "evaluation",
    "optimizers",
    "indexing",
    "lm",
    "retrieval",
    "simulator",
    "app",
}
MAY_IMPORT = {
    "": EVERYTHING | NAMES,
    "__main__": frozenset({"app"}),
    "_guard": frozenset[str](),
    "_names": frozenset[str](),
    "_elsewhere": frozenset[str](),
    "errors": frozenset({"_guard"}),
    "_clock": frozenset[str](),
    "_files": frozenset({"errors"}),
    "_html": frozenset({"errors", "_files"}),
    "_random": frozenset[str](),
    "telemetry": frozenset({"errors", "_clock", "_guard"}),
    "runtime": BASE,
    "protocols": BASE,
    "programs": BASE | {"protocols"},
    "services": BASE | {"runtime", "protocols"},
    "requests": BASE | {"runtime", "protocols", "programs"},
    "lm": BASE | NAMES | {"protocols", "services"},
    "retrieval": BASE | NAMES | {"protocols", "services", "programs", "indexing"},
    "evaluation": BASE | {"runtime", "protocols", "programs", "requests"},
    "optimizers": BASE | {"runtime", "protocols", "programs", "requests", "evaluation"},
    "indexing": BASE | {"runtime", "protocols", "programs", "services", "requests", "evaluation", "optimizers"},
    "simulator": frozenset({"errors"}),
    "app": EVERYTHING,
    "testing": EVERYTHING | NAMES,
}
"""Which rooms each room may import beside itself; nothing imports ``testing``."""

IMPORTED_WHEN_USED = frozenset(
    {
        # extras, which may be missing
        *("bs4", "pypdf", "semantic_text_splitter"),
        *("asyncpg", "bm25s", "genai_prices", "h11", "mcp", "numpy", "optuna", "pydantic_monty", "redis", "rich"),
        *("qdrant_client", "typer"),
        "annotationlib",  # Python 3.14 and newer have it
        # too heavy for ``import dspex``
        *("aiocache", "anyio", "httpx", "pydantic", "structlog"),
    }
)
"""The third-party packages a function may import."""

OWN_IMPORTED_WHEN_USED = {"dspex.app.cli": "its commands need the extra that main() looks for first"}
"""Packages whose own functions may import their own modules, and why."""

ONLY_READERS = [
    (
        "time",
        frozenset({"time", "datetime"}),
        frozenset({"dspex._clock", "dspex.simulator", "dspex.programs.portable"}),
    ),
    (
        "entropy",
        frozenset({"random", "secrets", "uuid"}),
        frozenset({"dspex._random", "dspex.simulator", "dspex.programs.portable"}),
    ),
]
"""A thing, its sources, the modules that read them; others may not import them. ``portable`` only has their values."""

USES = [
    ("entropy", ("os.urandom", "os.getrandom"), frozenset({"dspex._random", "dspex.simulator"})),
    ("the environment", ("os.environ", "os.environb", "os.getenv"), frozenset({"dspex.app.config"})),
    ("the loop's time", ("loop.time",), frozenset({"dspex._clock", "dspex.runtime", "dspex.simulator"})),
]
"""The thing that is read, the names that read it, and those that may use them."""


def within(name: str, packages: frozenset[str] | set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def at(module: Module, line: int, text: str) -> str:
    return f"{module.path}:{line}: {text}"


def wrong_directions(package: Package) -> Iterator[str]:
    for module in package.modules.values():
        allowed = MAY_IMPORT.get(module.room)
        if allowed is None:
            yield at(module, 1, f"{module.room!r} is a room the table does not know")
            continue
        for found in module.imports:
            room = Module(found.target, module.path).room
            if package.own(found.target) and room != module.room and room not in allowed:
                yield at(module, found.line, f"{module.room!r} may not import {found.target}")


def reached_into(package: Package) -> Iterator[str]:
    """A room's ``_x.py`` is private to the room; the façade and ``testing`` may look everywhere."""
    for module in package.modules.values():
        for found in module.imports if module.room not in ("testing", "") else ():  # "" is the façade
            _, room, *inside = [*found.target.split("."), ""]
            private = any(part.startswith("_") for part in inside)
            if package.own(found.target) and private and module.room != room:
                yield at(module, found.line, f"{found.target} is private to {room!r}")


def cycles(package: Package) -> Iterator[str]:
    if cycle := package.cycle():
        yield " imports ".join(reversed(cycle))


def hidden_imports(package: Package) -> Iterator[str]:
    for module in package.modules.values():
        for found in module.imports:
            own = any(within(module.name, {name}) and within(found.target, {name}) for name in OWN_IMPORTED_WHEN_USED)
            if found.in_function and not own and not within(found.target, IMPORTED_WHEN_USED):
                yield at(module, found.line, f"{found.target} is imported inside a function")


def second_readers(package: Package) -> Iterator[str]:
    for module in package.modules.values():
        for what, sources, readers in ONLY_READERS:
            for found in module.imports:
                if within(found.target, sources) and not found.typing_only and not within(module.name, readers):
                    yield at(module, found.line, f"imports {found.target}: only {sorted(readers)} read {what}")
        for what, names, readers in USES:
            for use, line in module.uses:
                if use.replace("()", "").endswith(names) and not within(module.name, readers):
                    yield at(module, line, f"uses {use}: only {sorted(readers)} read {what}")


Rule = Callable[[Package], Iterator[str]]
RULES: list[Rule] = [wrong_directions, reached_into, cycles, hidden_imports, second_readers]


@pytest.fixture(scope="module")
def dspex_package() -> Package:
    return read_package(Path(__file__).parents[2] / "src" / "dspex")


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_rule(dspex_package: Package, rule: Rule) -> None:
    breaches = list(rule(dspex_package))

    assert not breaches, "\n".join(breaches)


def test_every_row_of_the_tables_is_in_use(dspex_package: Package) -> None:
    """A row for a room or a package that is gone would allow its return without a decision."""
    rooms = {module.room for module in dspex_package.modules.values()}
    targets = {found.target.partition(".")[0] for module in dspex_package.modules.values() for found in module.imports}

    assert set(MAY_IMPORT) == rooms
    assert rooms >= EVERYTHING
    assert targets >= IMPORTED_WHEN_USED
    assert set(OWN_IMPORTED_WHEN_USED) <= set(dspex_package.modules)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        pytest.param(wrong_directions, "runtime/_actor.py", "from dspex.protocols import lm", id="backwards"),
        pytest.param(wrong_directions, "programs/predict.py", "import dspex.runtime", id="programs-to-runtime"),
        pytest.param(wrong_directions, "app/wiring.py", "from dspex import testing", id="to-testing"),
        pytest.param(wrong_directions, "app/wiring.py", "from ..testing import ScriptedLM", id="relative"),
        pytest.param(wrong_directions, "services/lm.py", "from dspex import App", id="to-the-facade"),
        pytest.param(wrong_directions, "attic/old.py", "", id="unknown-room"),
        pytest.param(
            wrong_directions,
            "protocols/lm.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dspex.app import App",
            id="for-typing",
        ),
        pytest.param(reached_into, "services/lm.py", "from dspex.runtime._ref import ActorRef", id="private-module"),
        pytest.param(reached_into, "services/lm.py", "from dspex.runtime import _ref", id="private-from-package"),
        pytest.param(cycles, "runtime/_ref.py", "from dspex.runtime import _actor", id="cycle-of-two"),
        pytest.param(cycles, "runtime/_ref.py", "from dspex.runtime import ActorRef", id="cycle-through-init"),
        pytest.param(hidden_imports, "app/x.py", "def f():\n    from dspex.services import lm", id="own"),
        pytest.param(hidden_imports, "app/x.py", "class C:\n    async def f(self):\n        import json", id="stdlib"),
        pytest.param(second_readers, "runtime/_x.py", "from time import monotonic", id="time"),
        pytest.param(second_readers, "services/x.py", "import datetime as dt", id="datetime"),
        pytest.param(second_readers, "services/x.py", "now = asyncio.get_running_loop().time()", id="loop-time"),
        pytest.param(second_readers, "services/x.py", "import uuid", id="uuid"),
        pytest.param(second_readers, "services/x.py", "import os\nseed = os.urandom(8)", id="urandom"),
        pytest.param(second_readers, "app/cli/x.py", "import os\nhome = os.environ['HOME']", id="environ"),
        pytest.param(second_readers, "app/cli/x.py", "from os import getenv", id="getenv"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, rule: Rule, path: str, source: str) -> None:
    assert list(rule(package_with(tmp_path, path, source)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        pytest.param(
            "app/wiring.py", "from dspex.services import lm\nfrom dspex.runtime import ActorRef", id="forwards"
        ),
        pytest.param("app/cli/__init__.py", "def main():\n    from dspex.app.cli import _commands", id="cli"),
        pytest.param("services/x.py", "def f():\n    import mcp", id="extra"),
        pytest.param("runtime/_x.py", "def f(loop):\n    return loop.time()", id="loop-time-in-runtime"),
        pytest.param("simulator/server.py", "import random\nimport time", id="simulator"),
        pytest.param("app/config.py", "import os\nhome = os.environ.get('HOME')", id="config"),
        pytest.param("testing/_x.py", "from dspex.runtime import _ref\nfrom dspex.app import wiring", id="testing"),
        pytest.param("programs/x.py", "import json.decoder\nfrom dspex.errors import DspexError", id="base"),
        pytest.param(
            "runtime/_ref.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from dspex.runtime._actor import Actor",
            id="no-cycle-for-typing",
        ),
    ],
)
def test_what_is_allowed_is_left_alone(tmp_path: Path, path: str, source: str) -> None:
    package = package_with(tmp_path, path, source)

    assert [line for rule in RULES for line in rule(package)] == []


def package_with(tmp_path: Path, path: str, source: str) -> Package:
    """A small sound package, and one more file in it."""
    files = {
        "__init__.py": "",
        "errors.py": "class DspexError(Exception): ...",
        "runtime/__init__.py": "from dspex.runtime._ref import ActorRef",
        "runtime/_ref.py": "from dspex.errors import DspexError",
        "runtime/_actor.py": "from dspex.runtime._ref import ActorRef",
        "protocols/lm.py": "",
        "services/lm.py": "from dspex.runtime import ActorRef",
        "app/wiring.py": "",
        "app/cli/_commands.py": "import typer",
        "testing/__init__.py": "",
        path: source,
    }
    for name, text in files.items():
        file = tmp_path / "dspex" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return read_package(tmp_path / "dspex")
