"""Fixtures every test runs under, and how hard hypothesis tries."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator

import pytest
import structlog  # noqa: F401 - pytest listens to every log: it is loaded here, and not while the first loop runs
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "tests.support.leaks", "tests.support.blocked_loop", "tests.support.stores"]

# A shell makes its background jobs ignore Ctrl-C, and what they start inherits that: not what tests start to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` gives the same verdict for the same tree, and so does CI; `make test-slow` by hand explores.
settings.register_profile("dev", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "slow",
    deadline=None,
    max_examples=2000,
    derandomize=bool(os.environ.get("CI")),
    print_blob=not os.environ.get("CI"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("dev")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """
    Collect without the garbage collector, then take what collecting has made out of its sight: it stays to the end.

    Otherwise it looks at more and more objects, none of which can go, for half of the time that collecting takes;
    and later each full collection looks at all that no code under test has made, and holds the loop of whichever
    test comes to collect, a good part of a second on a busy machine.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
