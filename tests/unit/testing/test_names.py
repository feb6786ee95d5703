"""The cost of importing the test kit, and its names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dspex import testing

PROBE = """
import sys
from dspex.testing import ExitRecorder, FaultPlan, VirtualClock, assert_no_leaks
print(*sorted(name for name in sys.modules if name.startswith("dspex.") or name in ("httpx", "pydantic")))
"""


def test_tests_of_actors_load_neither_programs_nor_clients() -> None:
    """In an interpreter of their own, for this one has loaded everything already."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split() if name.startswith("dspex.")}
    assert {"runtime", "testing"} <= rooms
    assert not rooms & {"app", "programs", "protocols", "requests", "services", "simulator"}
    assert not {"httpx", "pydantic"} & set(done.stdout.split())


def test_names_that_are_imported_when_used_are_listed_and_found() -> None:
    """By ``dir`` and by their names; others are none."""
    assert set(testing.__all__) <= set(dir(testing))
    assert testing.ScriptedScope is testing.ScriptedScope
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = testing.Nothing  # type: ignore[attr-defined]  # the point
