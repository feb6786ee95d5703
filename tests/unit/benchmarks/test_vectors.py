"""The benchmark of searches by vectors: every side answers the same questions."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import vectors

np = pytest.importorskip("numpy")
pytest.importorskip("usearch")


def test_each_side_is_told_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        vectors.measure(300, tmp_path, stack)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]

    told = {name: float(share.rstrip("%")) for _, name, _, _, share, _ in rows}
    assert told["numpy alone"] == told["`VectorIndex`, exact"] == 100.0
    assert told["`VectorIndex`, graph"] >= 95.0


def test_the_heaps_are_the_same_for_each_seed_and_the_vectors_are_not() -> None:
    one, again, other = vectors.heaps(50, 1), vectors.heaps(50, 1), vectors.heaps(50, 2)

    assert (one == again).all()
    assert (one != other).any()
    assert np.linalg.norm(one, axis=1) == pytest.approx(np.ones(50), abs=1e-5)
