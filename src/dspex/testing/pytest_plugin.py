"""
Fixtures for pytest, opt-in: ``pytest_plugins = ["dspex.testing.pytest_plugin"]`` in a ``conftest.py``.

A fixture costs nothing to a test that does not ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from dspex.app._app import App
from dspex.simulator import SimulatorThread
from dspex.testing import _cassette
from dspex.testing._leaks import OpenThings, left_behind
from dspex.testing._origins import Origins
from dspex.testing._scripted_lm import Answers, ScriptedLM

__all__ = ["cassette", "no_leaks", "pytest_addoption", "pytest_configure", "scripted_app", "simulator"]

_PASSED: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--strict-cassettes``."""
    parser.getgroup("dspex").addoption(
        "--strict-cassettes", action="store_true", help="play cassettes and never record, whatever keys are at hand"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "simulator(faults=None, key=None, limits=None): how the simulator of this test is set up"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test itself has passed: what a failed one left unused is not news."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[SimulatorThread]:
    """A provider in a box, in a thread of its own, set up by the marker of the same name."""
    marker = request.node.get_closest_marker("simulator")
    with SimulatorThread(**(marker.kwargs if marker is not None else {})) as running:
        yield running


@pytest.fixture
def scripted_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., App]]:
    """
    A function that makes an App whose model plays a script.

    ``async with scripted_app([{"answer": "Ada"}]) as app:``, or ``with scripted_app([…]).sync() as app:``.
    More arguments are the App's; its ``home`` is the test's own folder. A script that was not played to its end fails
    the test.
    """
    scripts: list[ScriptedLM] = []

    def make(script: Answers | Mapping[str, Answers] | ScriptedLM, **options: Any) -> App:  # the App's arguments
        lm = script if isinstance(script, ScriptedLM) else ScriptedLM(script)
        scripts.append(lm)
        return App(lm, **{"home": tmp_path / ".dspex", **options})

    yield make
    unused = [dict(lm.unused) for lm in scripts if lm.unused]
    if unused and request.node.stash.get(_PASSED, False):
        pytest.fail(f"the script has answers that nobody asked for, by path: {unused}", pytrace=False)


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> _cassette.Cassette:
    """A cassette of the test's own, ``cassettes/<module>/<test>.jsonl`` beside it: ``App(…, transport=cassette)``."""
    name = re.sub(r"[^\w.=-]+", "-", request.node.name).strip("-")
    path = request.path.parent / "cassettes" / request.path.stem / f"{name}.jsonl"
    return _cassette.cassette(path, strict=bool(request.config.getoption("--strict-cassettes")))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """
    Fail a test that leaves a thread, a socket or an open file behind.

    Tasks are counted inside the loop: ``async with assert_no_leaks():`` around a block finds them, too.
    """
    origins = Origins()
    with origins.noting_threads_and_sockets():
        opened = OpenThings(origins)
        yield
        left = opened.left() if opened.any_left() else []
    if left:
        pytest.fail(left_behind(left), pytrace=False)
