"""Which rows a job learns from, chooses by, and holds out for its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dspex.evaluation import Row
from dspex.optimizers.fingerprint import fingerprint_examples

__all__ = ["MIN_HOLD", "Split", "split_rows"]

MIN_HOLD = 50
"""Fewer rows held out say too little: then none are, and the job's verdict says so."""

LEARN, CHOOSE = 0.5, 0.8
"""Where the shares of rows to learn from and to choose by end; the rest is held out."""


@dataclass(frozen=True, slots=True)
class Split:
    """
    The rows of a job, by what they are for. Numbers are unique across the three.

    Attributes:
        learn: To learn from.
        choose: To choose by; the rows of ``learn`` where there are too few for both.
        hold: For the verdict alone: no algorithm reads them.
        missing: Why no rows are held out, where none are.
    """

    learn: tuple[Row, ...]
    choose: tuple[Row, ...]
    hold: tuple[Row, ...]
    missing: str = ""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them, each once, by number."""
        return tuple(sorted({row.index: row for row in (*self.learn, *self.choose, *self.hold)}.values(), key=_index))


def split_rows(
    train: Sequence[Row], val: Sequence[Row], hold: Sequence[Row], *, chooses: bool, hold_out: bool = True
) -> Split:
    """
    Return who gets which rows.

    Rows that were given for a purpose serve that purpose. Otherwise the training set is cut by the hash of each row's
    content, so that a row stays where it is when others are added, and equal rows stay together.

    Args:
        train: The training set.
        val: Rows to choose by, if they were given. An algorithm that does not choose leaves them for the verdict.
        hold: Rows to hold out, if they were given.
        chooses: True when the algorithm needs rows to choose by.
        hold_out: True when rows may be taken from the training set for the verdict.
    """
    rows = [replace(row, index=number) for number, row in enumerate((*train, *val, *hold))]
    train, val, hold = rows[: len(train)], rows[len(train) : len(train) + len(val)], rows[len(train) + len(val) :]
    if not chooses and not hold and hold_out:
        hold, val = val, []
    shares = [_share(row) for row in train]
    missing = ""
    if not hold and not hold_out:
        missing = "no rows are held out: holdset= is empty"
    elif not hold:
        held = [row for row, share in zip(train, shares, strict=True) if share >= CHOOSE]
        if len(held) >= MIN_HOLD:
            hold = held
            train = [row for row, share in zip(train, shares, strict=True) if share < CHOOSE]
            shares = [share for share in shares if share < CHOOSE]
        else:
            missing = (
                f"a fifth of the training set is {len(held)} rows, fewer than {MIN_HOLD}: give valset= or holdset="
            )
            if chooses and val:
                missing = f"the rows of valset= are chosen by, and {missing.replace('valset= or ', '')}"
    if chooses and not val:
        limit = LEARN if missing == "" else LEARN / CHOOSE
        val = [row for row, share in zip(train, shares, strict=True) if share >= limit]
        learn = [row for row, share in zip(train, shares, strict=True) if share < limit]
        if len(val) < MIN_HOLD or len(learn) < MIN_HOLD:  # too few for both: the same rows serve both
            return Split(tuple(train), tuple(train), tuple(hold), missing)
        train = learn
    return Split(tuple(train), tuple(val) if val else tuple(train), tuple(hold), missing)


def _share(row: Row) -> float:
    return int(fingerprint_examples([row.example])[:8], 16) / 2**32


def _index(row: Row) -> int:
    return row.index
