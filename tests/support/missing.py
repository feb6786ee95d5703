"""Skip a test whose needs this machine lacks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["developers_tool", "missing"]


def missing(reason: str) -> NoReturn:
    """Skip the test, and say why; under CI, which installs everything, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def developers_tool(name: str) -> str:
    """
    Return the path of a program that ``make check`` installs and ``make test`` does not.

    Where only the tests' own requirements are installed, skip the test, also under CI: ``make check`` runs it.
    """
    folder = Path(sys.executable).parent
    if found := shutil.which(name, path=str(folder)) or shutil.which(name):
        return found
    if (folder.parent / ".stamp-dev").exists():
        missing(f"{name} is not installed, though this environment is for developers: make distclean install")
    pytest.skip(f"{name} is not installed: make check")
