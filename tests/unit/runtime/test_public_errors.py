"""Whoever uses the runtime finds its errors where he finds the runtime."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import dspex.errors
import dspex.runtime

SOURCES = sorted(Path(dspex.runtime.__file__).parent.glob("*.py"))
OURS = set(dspex.errors.__all__)


def errors_made_in(path: Path) -> set[str]:
    """The errors of dspex that a source makes: to raise them, to return them or to give them to a future."""
    made = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            made.add(node.func.id)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
            made.add(node.exc.id)
    return made & OURS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_error_that_the_runtime_raises_is_to_be_had_from_it(path: Path) -> None:
    assert errors_made_in(path) <= set(dspex.runtime.__all__)


def test_the_walk_finds_what_there_is() -> None:
    found = set().union(*map(errors_made_in, SOURCES))
    assert found >= {"ActorExited", "CallCycle", "CallTimeout", "NoSuchActor", "WrongLoop", "AppNotRunning"}


def test_they_are_the_same_classes() -> None:
    for name in OURS & set(dspex.runtime.__all__):
        assert getattr(dspex.runtime, name) is getattr(dspex.errors, name)
        assert issubclass(getattr(dspex.runtime, name), dspex.errors.DspexError)


def test_the_base_of_the_runtimes_own_errors_is_among_them() -> None:
    assert dspex.runtime.ActorError is importlib.import_module("dspex.errors").ActorError
