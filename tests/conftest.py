"""Fixtures every test runs under, and how hard hypothesis tries."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "tests.support.leaks", "tests.support.blocked_loop"]

# `make test` gives the same verdict for the same tree; `make test-slow` explores.
settings.register_profile("dev", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "slow", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dev")
