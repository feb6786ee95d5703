"""Which tests of the contracts are slow."""

from __future__ import annotations

import pytest

STARTS_A_PROCESS = "test_another_process_finds_the_same"
FAST = ("TestBootstrapFewShot", "TestMIPROv2")
"""For these the test that starts a process is among the fast ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name == STARTS_A_PROCESS and isinstance(item.parent, pytest.Class) and item.parent.name not in FAST:
            item.add_marker(pytest.mark.slow)
