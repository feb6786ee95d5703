"""The pure parts of contenders."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks._erlang import command_of
from benchmarks._idle import Pauses
from benchmarks.contenders.load_floors import shares
from benchmarks.contenders.storms import percentile


@given(st.integers(0, 10_000), st.integers(1, 1_000))
def test_shares_are_even_and_complete(operations: int, senders: int) -> None:
    """Both sides of a row send the same number, and nobody is asked to send nothing."""
    divided = shares(operations, senders)

    assert sum(divided) == operations
    assert len(divided) == min(operations, senders)
    assert not divided or 0 < min(divided) >= max(divided) - 1


def test_percentiles_are_values_that_occurred() -> None:
    """No interpolation: somebody waited that long."""
    assert percentile([float(number) for number in range(100, 0, -1)], 0.99) == 100.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([7.0], 0.99) == 7.0


def test_the_longest_pause_is_kept() -> None:
    """Later, shorter ones do not hide it."""
    pauses = Pauses()
    pauses("start", {})
    pauses("stop", {})
    first = pauses.longest
    pauses("start", {})
    pauses("stop", {})

    assert pauses.longest >= first > 0.0


def test_erlang_runs_on_one_scheduler() -> None:
    """As dspex runs on one loop."""
    command = command_of("erlang:ring@beam", Path("beams"))

    assert command[:4] == ["erl", "-noshell", "+S", "1:1"]
    assert command[-4:] == ["-run", "bench", "main", "ring"]
