"""Rows are made of one look at the tree, and of requests that have ended; no clock and no socket."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dspex.app.dashboard.figures import Durations
from dspex.app.dashboard.requests_view import reasons_of, request_row, waits_for
from dspex.app.dashboard.tree_view import TreeNotes, paths, reason_text
from dspex.errors import TransportFailed
from dspex.protocols.executor import RunOptions
from dspex.protocols.lm import Attempt, AttemptLog
from dspex.protocols.model import LM
from dspex.protocols.money import Account
from dspex.requests import RequestRecord
from dspex.runtime import Crashed, Killed, Shutdown, TreeNode

SECRET = "the words of a user"


def node(label: str, *children: TreeNode, **facts: Any) -> TreeNode:
    return TreeNode(label, facts.pop("pid", 1), facts.pop("status", "running"), children=children, **facts)


def record(**changes: Any) -> RequestRecord:
    made = RequestRecord("r7", object(), {"question": SECRET}, RunOptions(), 100.0, Account("the App"))
    made.steps = []
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def look(notes: TreeNotes, root: TreeNode, now: float = 10.0) -> tuple[dict[str, Any], list[str]]:
    return notes.look(root, now, lambda pid: pid == 77)


# --- the tree -----------------------------------------------------------------------------------------------


def test_every_node_has_a_path_of_its_own() -> None:
    root = node("App", node("pool", node("w", pid=4), node("w", pid=5)), node("pool", pid=6))

    assert [(path, parent) for path, _, parent in paths(root)] == [
        ("App", None),
        ("App/pool", "App"),
        ("App/pool/w", "App/pool"),
        ("App/pool/w#5", "App/pool"),
        ("App/pool#6", "App"),
    ]


def test_a_restart_between_two_looks_is_seen_once_and_the_first_look_does_not_know_when() -> None:
    notes = TreeNotes(origin=0.0, capture=False)
    _, at_first = look(notes, node("App", node("cache", restarts=2)))
    rows, then = look(notes, node("App", node("cache", restarts=3, last_exit=Killed())), 11.0)
    _, later = look(notes, node("App", node("cache", restarts=3, last_exit=Killed())), 12.0)

    assert (at_first, then, later) == ([], ["App/cache"], [])
    assert rows["App/cache"]["restarted"] == 11.0
    assert rows["App/cache"]["exit"] == "killed"
    assert [(each["path"], each["at"]) for each in notes.deaths] == [("App/cache", None), ("App/cache", 11.0)]


def test_an_actor_that_was_not_there_before_and_has_died_is_seen() -> None:
    notes = TreeNotes(origin=0.0, capture=False)
    look(notes, node("App"))
    _, restarted = look(notes, node("App", node("job", restarts=1)))

    assert restarted == ["App/job"]


def test_a_row_is_the_same_object_until_something_of_it_changes() -> None:
    """Whatever is told of an actor; nobody compares again what has not changed."""
    notes = TreeNotes(origin=0.0, capture=False)
    calm: dict[str, Any] = {"pid": 77, "high_water": 3, "note": "3 entries"}
    first, _ = look(notes, node("App", node("cache", **calm)))
    again, _ = look(notes, node("App", node("cache", **calm)), 11.0)
    assert again["App/cache"] is first["App/cache"]
    assert again["App/cache"]["supervisor"] is True
    for change in ({"note": "4 entries"}, {"high_water": 4}, {"status": "suspended"}, {"tasks": 1}, {"restarts": 1}):
        changed, _ = look(notes, node("App", node("cache", **{**calm, **change})), 12.0)
        assert changed["App/cache"] != first["App/cache"]
        first, _ = look(notes, node("App", node("cache", **calm)), 13.0)
    waits, _ = look(notes, node("App", node("cache", **calm, mailbox=1, handled=5)), 14.0)
    assert waits["App/cache"]["oldest"] == 14.0
    gone, _ = look(notes, node("App", node("cache", **calm, handled=6)), 15.0)
    assert "oldest" not in gone["App/cache"]
    busy, _ = look(notes, node("App", node("cache", **calm, busy_since=15.0)), 16.0)
    assert busy["App/cache"]["busy"] == 15.0


def test_the_oldest_message_is_as_old_as_the_look_that_first_saw_it() -> None:
    """Ten messages wait; when eight of them are handled, the oldest left came by the look that saw the ninth."""
    notes = TreeNotes(origin=0.0, capture=False)
    for at, (waiting, handled) in enumerate([(3, 5), (10, 5), (10, 5), (2, 13)]):
        rows, _ = look(notes, node("App", mailbox=waiting, handled=handled), float(at))

    assert rows["App"]["oldest"] == 1.0
    rows, _ = look(notes, node("App", mailbox=0, handled=15), 4.0)
    assert "oldest" not in rows["App"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Crashed(ValueError(SECRET)), "crashed: ValueError"),
        (Shutdown(ValueError(SECRET)), "shutdown: ValueError"),
        (Shutdown(SECRET), "shutdown"),
        (Killed(), "killed"),
        (None, ""),
    ],
)
def test_the_words_of_an_error_are_told_only_where_they_may_be(reason: Any, told: str) -> None:
    assert reason_text(reason, capture=False) == told
    if reason is not None and not isinstance(reason, Killed):
        assert SECRET in reason_text(reason, capture=True)


# --- requests -----------------------------------------------------------------------------------------------


def a_call() -> AttemptLog:
    log = AttemptLog("r7-1", "answer")
    log.lm = LM("openai/small")
    log.attempts = [
        Attempt(1, "RateLimited", 0.25, 429, SECRET, "openai/small", at=100.5),
        Attempt(2, "ok", 0.5, 200, "", "openai/small", 0.125, at=101.0),
    ]
    return log


def test_a_request_is_told_with_its_attempts_and_without_anybodys_words() -> None:
    made = record(ended=101.5, cost=Decimal("0.00012"), calls=1)
    made.note_step("lm answer", 100.25, a_call()).ended = 101.5

    row = request_row(made, origin=100.0, steps=8, state="failed", error=TransportFailed(SECRET))

    assert row["steps"] == [
        {
            "name": "lm answer",
            "at": 0.25,
            "end": 1.5,
            "lm": "openai/small",
            "attempts": [
                {"outcome": "RateLimited", "for": 0.25, "at": 0.5, "status": 429},
                {"outcome": "ok", "for": 0.5, "at": 1.0, "first": 0.125},
            ],
        }
    ]
    assert (row["cost"], row["error"], row["end"]) == ("0.00012", "TransportFailed", 1.5)
    assert SECRET not in json.dumps(row)
    shown = request_row(made, origin=100.0, steps=8, state="failed", error=TransportFailed(SECRET), capture=True)
    assert shown["text"] == SECRET


@pytest.mark.parametrize(
    ("path", "waiting"),
    [
        ("App/cache", {"asks"}),
        ("App/ledger", set()),
        ("App/retrievers/default", {"searches"}),
        ("App/retrievers/gold", set()),
        ("App/retrievers", {"searches"}),
        ("App/lm", {"asks", "is sent", "tries again"}),
        ("App/lm/openai-1", {"asks", "is sent", "tries again"}),
        ("App/lm/openai-1/transport", {"is sent"}),
        ("App/lm/openai-1/small", {"asks", "tries again"}),
        ("App/lm/openai-1/large", {"asks"}),
        ("App", set()),
    ],
)
def test_who_waits_for_an_actor_that_has_died(path: str, waiting: set[str]) -> None:
    """An attempt on the wire waits for the transport alone; one that is tried again has its model already."""
    made = record()
    sent, again, over = AttemptLog("k1"), a_call(), AttemptLog("k2")
    sent.on_wire, sent.lm = 1, LM("openai/small")
    again.attempts.pop()
    notes = {
        "asks": made.note_step("lm asks", 1.0, AttemptLog("k0")),
        "is sent": made.note_step("lm is sent", 1.0, sent),
        "tries again": made.note_step("lm tries again", 1.0, again),
        "searches": made.note_step("retrieve retrieve", 1.0, None),
        "is over": made.note_step("lm is over", 1.0, over),
        "calls": made.note_step("tool call", 1.0, None),
    }
    notes["searches"].retriever = "default"
    notes["is over"].ended = 2.0

    assert {name for name, step in notes.items() if waits_for(path.split("/"), step)} == waiting


def test_of_many_steps_the_latest_are_told_and_the_others_counted() -> None:
    made = record()
    for number in range(20):
        made.note_step(f"tool t{number}", 100.0 + number, None)

    row = request_row(made, origin=0.0, steps=3, state="running")

    assert [step["name"] for step in row["steps"]] == ["tool t17", "tool t18", "tool t19"]
    assert row["more"] == 17


@pytest.mark.parametrize(
    ("changes", "error", "more", "reasons"),
    [
        ({}, None, {}, []),
        ({}, ValueError(), {}, ["failed"]),
        ({"step_restarts": 1}, None, {}, ["killed"]),
        ({}, None, {"retried": True}, ["retried"]),
        ({"repairs": 2}, None, {}, ["repaired"]),
        ({}, None, {"slow": True}, ["slow"]),
        ({}, None, {"waited": True, "retried": True}, ["waited", "retried"]),
        ({"resubmitted": 1, "repairs": 1}, ValueError(), {"slow": True}, ["failed", "killed", "repaired", "slow"]),
    ],
)
def test_requests_are_kept_by_reason(
    changes: dict[str, Any], error: Exception | None, more: dict[str, bool], reasons: list[str]
) -> None:
    told = {"retried": False, "slow": False, **more}

    assert reasons_of(record(**changes), error, **told) == reasons


def test_percentiles_are_of_the_latest() -> None:
    figures = Durations()
    assert figures.plain() == {"count": 0, "failed": 0, "p50": None, "p95": None, "p99": None}
    for number in range(1, 1_001):
        figures.add(float(number), failed=number % 100 == 0)

    assert figures.plain() == {"count": 1_000, "failed": 10, "p50": 744.0, "p95": 975.0, "p99": 995.0}
