"""
Fixtures for pytest, opt-in: ``pytest_plugins = ["dspex.testing.pytest_plugin"]`` in a ``conftest.py``.

A fixture costs nothing to a test that does not ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspex.simulator import SimulatorThread

__all__ = ["pytest_configure", "simulator"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "simulator(faults=None, key=None, limits=None): how the simulator of this test is set up"
    )


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[SimulatorThread]:
    """A provider in a box, in a thread of its own, set up by the marker of the same name."""
    marker = request.node.get_closest_marker("simulator")
    with SimulatorThread(**(marker.kwargs if marker is not None else {})) as running:
        yield running
