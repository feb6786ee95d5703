"""A real model's text is read as a person reads it, or refused; no change of a reader makes that worse."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.real_completions import BETTER, CORPUS, Recorded, outputs_of, read_corpus, status_of

ROWS = read_corpus()


@pytest.mark.parametrize(("task", "reader"), sorted({(each.task, each.reader) for each in ROWS}), ids=lambda word: word)
def test_completions_are_read_no_worse_than_before(task: str, reader: str) -> None:
    """A value that changes is a failure; so is one that was read and is refused now, or refused and read wrongly."""
    rows = [each for each in ROWS if (each.task, each.reader) == (task, reader)]

    worse = [(each, status) for each in rows if each.today and BETTER[status := status_of(each)] < BETTER[each.today]]

    assert not worse, _told(*worse[0])


def _told(recorded: Recorded, status: str) -> str:
    read = outputs_of(recorded) if status == "wrong" else "nothing"
    return f"was {recorded.today}, is {status}: {read} of {recorded.expected} in\n{recorded.text}"


def test_better_reading_is_written_down() -> None:
    """Otherwise it could be lost again: ``python -m tests.support.real_completions`` writes it."""
    better = [each for each in ROWS if each.today is None or BETTER[status_of(each)] > BETTER[each.today]]

    assert not better, f"{len(better)} are read better than the file says; the first:\n{better[0].text}"


def test_nothing_is_read_wrongly() -> None:
    """A silent wrong value is worse than a refusal; the file may name those that are still open."""
    assert sum(status_of(each) == "wrong" for each in ROWS) == sum(each.today == "wrong" for each in ROWS)


def test_the_corpus_is_wide_and_small() -> None:
    assert len({(each.task, each.form) for each in ROWS}) >= 12
    assert len({each.digest for each in ROWS}) >= len(ROWS) // 2
    assert {each.today for each in ROWS} <= {"read", "refused", "wrong"}
    assert max(Counter((each.task, each.form) for each in ROWS).values()) <= len(ROWS) // 4
    assert CORPUS.stat().st_size < 2_000_000
