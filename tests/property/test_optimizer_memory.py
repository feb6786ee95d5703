"""A search over a thousand candidates and ten thousand rows fits into a small process."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections.abc import Mapping

import pytest

import dspex
from dspex.evaluation import Row
from dspex.optimizers import Candidate, InferRules
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

CANDIDATES, ROWS = 1_000, 10_000
MOST = 120
"""MiB that the search may need beyond its rows; about 40 were measured."""


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class Field(ScriptedWorld):
    """A few candidates in a thousand are as good as each other, and run on every row; the others fall behind."""

    def quality(self, candidate: Candidate) -> float:
        return 0.9 if int(candidate.key[:4], 16) % 300 == 0 else 0.5

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float:
        if candidate.key == "student":
            return float(row.index % 2)
        return float((int(candidate.key[:8], 16) * 31 + row.index * 7_919) % 1_000 < 1_000 * self.quality(candidate))


class Unread(dict[str, Mapping[str, object]]):
    """A journal on disk, as far as memory goes: what is written is not kept, and nothing is read back here."""

    written = 0

    def __setitem__(self, key: str, value: Mapping[str, object]) -> None:
        self.written += 1
        self.last = (key, value)

    def __getitem__(self, key: str) -> Mapping[str, object]:
        assert key == self.last[0], "only the answer that has just come is handed over"
        return self.last[1]


def measured() -> tuple[int, int]:
    """Return how many answers were written, and by how many MiB the process has grown."""
    rows = rows_of(ROWS + 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    journal = Unread()
    search = InferRules(metric, num_candidates=CANDIDATES, max_bootstrapped_demos=2, max_labeled_demos=2)
    simulate(search, Field(), order=random.Random(0), learn=rows[:40], choose=rows[40:], pool=64, journal=journal)
    return journal.written, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def test_a_thousand_candidates_on_ten_thousand_rows() -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom {__name__} import measured\nprint(*measured())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written, grown = map(int, done.stdout.split())

    assert written > 30_000
    assert grown < MOST
