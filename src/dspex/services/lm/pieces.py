"""Pieces of an answer that came together: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dspex.protocols.lm import LMDelta

__all__ = ["joined"]


def joined(deltas: Iterable[LMDelta]) -> list[LMDelta]:
    """
    Join neighbours that add to the same text, the same thoughts or the arguments of the same call.

    Pieces that arrive in one read cannot be told apart by a reader: a piece costs the same however long it is, so one
    of a hundred tokens is handed on a hundred times cheaper. Order, texts and the beginnings of calls stay.

    Args:
        deltas: The pieces of one read, in their order.
    """
    made: list[LMDelta] = []
    run: list[LMDelta] = []
    first: LMDelta | None = None  # of the run, that says something: what is empty goes with text and with thoughts
    for delta in deltas:
        if first is not None and not _goes_on(first, delta):
            made.append(_one(run))
            run, first = [], None
        run.append(delta)
        if first is None or not (first.text or first.reasoning or first.arguments):
            first = delta
    if run:
        made.append(_one(run))
    return made


def _goes_on(first: LMDelta, delta: LMDelta) -> bool:
    if delta.index != first.index or delta.tool != first.tool or delta.tool_name:
        return False
    if delta.tool is not None:
        return not (delta.text or delta.reasoning or first.text or first.reasoning)
    if first.arguments or delta.arguments:
        return False
    return not (first.reasoning or delta.reasoning) or not (first.text or delta.text)


def _one(run: list[LMDelta]) -> LMDelta:
    first = run[0]
    if len(run) == 1:
        return first
    return replace(
        first,
        text="".join(each.text for each in run),
        reasoning="".join(each.reasoning for each in run),
        arguments="".join(each.arguments for each in run),
    )
