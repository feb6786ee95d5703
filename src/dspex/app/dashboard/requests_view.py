"""One request as a row: its steps and their attempts, with times; and why it is worth keeping. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dspex._guard import class_name, text_of
from dspex.app.dashboard.shapes import Plain
from dspex.protocols.lm import Attempt, AttemptLog
from dspex.requests import RequestRecord, StepNote

__all__ = [
    "BROKEN_OFF",
    "REASONS",
    "RequestRows",
    "attempts_of",
    "exact",
    "money",
    "reasons_of",
    "request_row",
    "waits_for",
]

REASONS: Final = ("failed", "killed", "waited", "retried", "repaired", "slow")
"""Why a request that has ended is kept, the strongest first."""

MOST_TEXT: Final = 400
"""Characters of an error that are shown, where words may be shown at all."""

BROKEN_OFF: Final = frozenset({"killed", "TransportFailed"})
"""Outcomes of attempts whose step, or whose transport, has died under them."""

FINE: Final = frozenset({"ok", "resent", "cancelled"})
"""Outcomes of attempts after which nothing is tried again: ``cancelled`` lost a race."""


def request_row(
    record: RequestRecord,
    *,
    origin: float,
    steps: int,
    state: str,
    error: Exception | None = None,
    capture: bool = False,
    waited: Sequence[str] = (),
) -> Plain:
    """
    Return a request as JSON values; times are seconds after ``origin``, by the runtime's clock.

    Args:
        record: The request.
        origin: Where times begin.
        steps: The latest steps that are told one by one; ``more`` counts those before.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        error: How it ended.
        capture: True where words of users and models may be shown: the texts of errors.
        waited: The paths of actors that died while it was at them.
    """
    notes = record.steps or []
    first = max(0, len(notes) - steps)
    row: Plain = {
        "id": record.id,
        "program": class_name(record.program),
        "state": state,
        "at": round(record.started - origin, 3),
        "deadline": round(record.deadline - origin, 3),
        "steps": [_step(note, origin, capture=capture) for note in notes[first:]],
    }
    more = {
        "end": round(record.ended - origin, 3) if record.ended is not None else None,
        "priority": record.options.priority,
        "calls": record.calls,
        "cached": record.cached_calls,
        "tokens": record.usage.total_tokens,
        "restarts": record.step_restarts,
        "resubmitted": record.resubmitted,
        "repairs": record.repairs,
        "more": first,
        "waited": list(waited),
    }
    row |= {name: value for name, value in more.items() if value}
    row["cost"] = money(record.cost)
    if error is not None:
        row["error"] = class_name(error)
        if capture:
            row["text"] = text_of(error)[:MOST_TEXT]
    return row


class RequestRows:
    """
    The rows of requests in flight, each made anew only when something of it has changed since the last look.

    Args:
        origin: Where times begin.
        steps: As for ``request_row``.
        capture: As for ``request_row``.
    """

    __slots__ = ("_capture", "_known", "_next", "_origin", "_steps")

    def __init__(self, *, origin: float, steps: int, capture: bool) -> None:
        self._origin = origin
        self._steps = steps
        self._capture = capture
        self._known: dict[str, tuple[object, Plain]] = {}
        self._next: dict[str, tuple[object, Plain]] = {}

    def row(self, record: RequestRecord, state: str, waited: Sequence[str] = ()) -> Plain:
        """Return the row of a request; the same object as at the last look where nothing has changed."""
        mark = self._mark(record, state, len(waited))
        known = self._known.get(record.id)
        if known is None or known[0] != mark:
            how: dict[str, Any] = {
                "origin": self._origin,
                "steps": self._steps,
                "state": state,
                "capture": self._capture,
            }
            row = request_row(record, **how, waited=waited)
            known = mark, row
        self._next[record.id] = known
        return known[1]

    def end_look(self) -> None:
        """Forget the requests that were not looked at this time."""
        self._known, self._next = self._next, {}

    def _mark(self, record: RequestRecord, state: str, waited: int) -> object:
        """Return what changes whenever a row does: all that ``request_row`` reads and that is not final."""
        notes = record.steps or []
        counts = (record.calls, record.cached_calls, record.step_restarts, record.resubmitted, record.repairs)
        mark: list[object] = [state, waited, len(notes), counts, record.usage, record.cost]
        for note in notes[-self._steps :]:
            log = note.log
            mark += (note.ended, note.error, note.restarts)
            if log is not None:
                mark += (log.on_wire, log.sent_at, log.cached, log.lm, len(log.attempts))
                if log.parts:
                    mark.append(len(attempts_of(log)))
        return mark


def _step(note: StepNote, origin: float, *, capture: bool) -> Plain:
    row: Plain = {"name": note.name, "at": round(note.begun - origin, 3)}
    if note.ended is not None:
        row["end"] = round(note.ended - origin, 3)
    if note.error:
        row["error"] = note.error
    if note.restarts:
        row["restarts"] = note.restarts
    log = note.log
    if log is not None:
        if log.lm is not None:
            row["lm"] = log.lm.model
        if log.cached is not None:
            row["cached"] = log.cached
        attempts = attempts_of(log)
        if attempts:
            row["attempts"] = [_attempt(each, origin, capture=capture) for each in attempts]
        if log.on_wire and log.sent_at is not None:
            row["wire"] = round(log.sent_at - origin, 3)
    return row


def _attempt(attempt: Attempt, origin: float, *, capture: bool) -> Plain:
    row: Plain = {"outcome": attempt.outcome, "for": round(attempt.duration, 3)}
    if attempt.at is not None:
        row["at"] = round(attempt.at - origin, 3)
    if attempt.status is not None and attempt.outcome != "ok":
        row["status"] = attempt.status
    if attempt.first_byte is not None:
        row["first"] = round(attempt.first_byte, 3)
    if capture and attempt.message:
        row["text"] = attempt.message[:MOST_TEXT]
    return row


def waits_for(rooms: Sequence[str], step: StepNote) -> bool:
    """
    Return whether a step is at an actor that has died, and so waits until it is back.

    Args:
        rooms: The actor's path, room by room: ``["App", "lm", "openai-1", "gpt-5-mini"]``.
        step: One of a request in flight.
    """
    if step.ended is not None or len(rooms) < 2:
        return False
    log, room = step.log, rooms[1]
    if log is None:
        return room == "retrievers" and bool(step.retriever) and (len(rooms) == 2 or step.retriever == rooms[2])
    sent, begun = _is_sent(log), bool(attempts_of(log))
    if room == "cache":
        return not sent and not begun  # it is looked up, or another one's call is waited for
    if room != "lm":
        return False
    if len(rooms) < 4:
        return True  # all below it died as well
    if rooms[3] == "transport":
        attempts = attempts_of(log)  # by the time the death is told, its attempts may have ended and wait to be sent
        return sent or bool(attempts and attempts[-1].outcome in BROKEN_OFF)
    # An attempt on the wire is untouched by the death of the client that granted it.
    return not sent and (log.lm is None or log.lm.model.rpartition("/")[2] == rooms[-1])


def _is_sent(log: AttemptLog) -> bool:
    return log.on_wire > 0 or any(_is_sent(part) for part in log.parts)


def attempts_of(log: AttemptLog) -> list[Attempt]:
    """Return the attempts of a logical call, then those of the calls that it was made of."""
    found = list(log.attempts)
    for part in log.parts:
        found += attempts_of(part)
    return found


def reasons_of(
    record: RequestRecord, error: Exception | None, *, retried: bool, slow: bool, waited: bool = False
) -> list[str]:
    """
    Return why a request that has ended is kept, the strongest first; nothing for one that went as it should.

    Args:
        record: The request.
        error: How it ended.
        retried: True when an attempt of it has failed.
        slow: True when it took longer than others of its program.
        waited: True when an actor died while it was at it.
    """
    killed = record.step_restarts > 0 or record.resubmitted > 0
    if not (error is not None or killed or waited or retried or record.repairs or slow):
        return []
    found = (error is not None, killed, waited, retried, record.repairs > 0, slow)
    return [name for name, holds in zip(REASONS, found, strict=True) if holds]


def money(amount: object) -> str | None:
    """Return dollars as text, exactly; None where they are not known."""
    return None if amount is None else exact(amount)


def exact(amount: object) -> str:
    """Return a Decimal without the exponent that people stumble over."""
    return f"{amount:f}"
