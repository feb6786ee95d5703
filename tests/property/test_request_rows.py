"""Rows of requests that are kept from one look to the next are what they would be if they were made anew."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from dspex.app.dashboard.requests_view import RequestRows, request_row
from dspex.protocols.executor import RunOptions
from dspex.protocols.lm import Attempt, AttemptLog, Usage
from dspex.protocols.model import LM
from dspex.protocols.money import Account
from dspex.requests import RequestRecord

SHOWN = 3
CHANGES = (
    *("step", "end", "fail", "restart", "attempt", "part", "part's attempt", "wire", "cached", "model"),
    *("call", "cached call", "cost", "unpriced", "repair", "resubmit", "death", "nothing"),
)


def change(record: RequestRecord, what: str, number: int) -> None:
    """Do to a record what happens to one that runs."""
    steps = record.steps
    assert steps is not None
    if what == "step" or not steps:
        record.note_step(f"lm {number}", float(number), AttemptLog(f"r1-{number}") if number % 3 else None)
        return
    note = steps[-1 - number % min(2, len(steps))]
    log = note.log
    match what:
        case "end":
            note.ended = float(number)
        case "fail":
            note.error = f"Error{number}"
        case "restart":
            record.note_restart(note.name)
        case "call":
            record.calls += 1
        case "cached call":
            record.cached_calls += 1
        case "cost":
            record.add_cost(Usage(number, 1), Decimal(number))
        case "unpriced":
            record.add_cost(Usage(number, 1), None)
        case "repair":
            record.repairs += 1
        case "resubmit":
            record.resubmitted = 1
    if log is None:
        return
    attempt = Attempt(len(log.attempts) + 1, "ok", 0.5, 200, "", "openai/m", at=float(number))
    match what:
        case "attempt":
            log.attempts.append(attempt)
        case "part":
            log.parts.append(AttemptLog("part"))
        case "part's attempt" if log.parts:
            log.parts[-1].attempts.append(attempt)
        case "wire":
            log.on_wire, log.sent_at = 1 - log.on_wire, float(number)
        case "cached":
            log.cached = "memory"
        case "model":
            log.lm = LM(f"openai/m{number}")


@given(st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 20), st.sampled_from(["waiting", "running"]))))
def test_a_row_is_kept_only_while_nothing_of_it_has_changed(changes: list[tuple[str, int, str]]) -> None:
    record = RequestRecord("r1", object(), {}, RunOptions(), 0.0, Account("App"))
    record.steps = []
    rows = RequestRows(origin=0.0, steps=SHOWN, capture=True)
    before, waited = None, list[str]()
    for what, number, state in changes:
        same = what == "nothing" and bool(record.steps)
        change(record, what, number)
        waited += [f"App/{number}"] if what == "death" else []
        row = rows.row(record, state, waited)
        again = rows.row(record, state, waited)
        rows.end_look()
        assert row == request_row(record, origin=0.0, steps=SHOWN, state=state, capture=True, waited=waited)
        assert again == row
        if same and before is not None and before[0] == state:
            assert row is before[1], "nobody has to compare it with the last one"
        before = state, again


def test_requests_that_are_over_are_forgotten() -> None:
    record = RequestRecord("r1", object(), {}, RunOptions(), 0.0, Account("App"))
    rows = RequestRows(origin=0.0, steps=SHOWN, capture=False)
    first = rows.row(record, "running")
    rows.end_look()
    assert rows.row(record, "running") is first
    rows.end_look()
    rows.end_look()
    assert rows.row(record, "running") is not first
