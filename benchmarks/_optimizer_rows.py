"""The measurements of optimizers: the time of a call while they search, and the cost of their journals. They inform."""

from __future__ import annotations

from benchmarks._row import Group, Row, Size

__all__ = ["OPTIMIZER_GROUPS"]


def _search(name: str, title: str, ours: str, theirs: str) -> Row:
    return Row(
        name,
        f"a call of {title}, 50 ms provider, 64 in flight, throughput: core dependencies alone",
        f"optimizing:{ours}@asyncio",
        f"optimizing:{theirs}@asyncio",
        "DSPy 3.4.1's, 64 threads",
        None,
        clock="wall",
        reads="gain",
    )


OPTIMIZER_GROUPS: tuple[Group, ...] = (
    Group(
        "optimize",
        (
            _search("optimize-random", "BootstrapFewShotWithRandomSearch", "random_search", "dspy_random"),
            _search("optimize-mipro", "MIPROv2", "mipro", "dspy_mipro"),
        ),
        server=True,
        size=Size(200, 40, rounds=3, starts=1),
    ),
    Group(
        "journal",
        (
            Row(
                "journal",
                "a row's result in a job's journal, committed",
                "optimizing:journal@asyncio",
                "optimizing:lines@asyncio",
                "a line of JSON, flushed",
                None,
            ),
        ),
        seconds=0.3,
    ),
)
