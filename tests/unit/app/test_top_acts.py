"""Keys that do something to the chosen line of ``dspex top``: what each does, and what is asked before. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.app.top.acts import MOST_TYPED, Act, Ask, answered, asked, keys_shown
from tests.support.snapshots import busy_snapshot


def snapshot() -> dict[str, Any]:
    told = busy_snapshot()
    told["jobs"]["capitals"] |= {"status": "running", "held": False, "steered_by": ["drop", "hint"]}
    told["tree"]["App/cache"]["status"] = "suspended"
    told["tree"]["App/requests"]["supervisor"] = True
    return told


@pytest.mark.parametrize(
    ("view", "chosen", "shown"),
    [
        ("now", "r814", ["c cancel"]),
        ("now", "r1", []),  # it has ended since
        ("tree", "App/ledger", ["r restart", "z suspend"]),
        ("tree", "App/cache", ["r restart", "u resume"]),
        ("tree", "App/requests", ["r restart"]),  # a supervisor is not suspended
        ("tree", "App", []),
        ("jobs", "capitals", ["h hold", "c cancel", "i give a hint"]),
        ("models", "small", []),
        ("now", None, []),
    ],
)
def test_the_keys_of_a_line(view: str, chosen: str | None, shown: list[str]) -> None:
    assert keys_shown(view, chosen, snapshot()) == shown


def test_a_job_that_is_held_goes_on_and_one_that_is_over_is_left_alone() -> None:
    told = snapshot()
    told["jobs"]["capitals"]["held"] = True
    act = asked("jobs", "capitals", "h", told)
    assert isinstance(act, Act)
    assert (act.what, act.whom, act.how) == ("jobs", "capitals", "resume")
    told["jobs"]["capitals"]["status"] = "finished"
    assert keys_shown("jobs", "capitals", told) == []


def test_a_candidate_is_dropped_by_its_whole_key() -> None:
    told = snapshot()
    key = told["jobs"]["capitals"]["candidates"][0]["key"]
    ask = asked("jobs", f"capitals {key}", "d", told)
    assert isinstance(ask, Ask)
    act = answered(ask, "y")
    assert isinstance(act, Act)
    assert (act.how, act.more) == ("steer", {"drop": key})


@given(st.text(max_size=3))
def test_only_a_yes_breaks_something_off(key: str) -> None:
    ask = asked("now", "r814", "c", snapshot())
    assert isinstance(ask, Ask)
    assert ask.words.startswith("cancel request r814?")
    assert (answered(ask, key) is None) == (key != "y")


@given(st.lists(st.sampled_from([*"ab é\x00\x1b", "backspace", "up", ""]), max_size=30))
def test_a_hint_is_what_was_typed(keys: list[str]) -> None:
    ask: Ask | Act | None = asked("jobs", "capitals", "i", snapshot())
    expected = ""
    for key in keys:
        assert isinstance(ask, Ask)
        ask = answered(ask, key)
        expected = (
            expected[:-1] if key == "backspace" else expected + (key if len(key) == 1 and key.isprintable() else "")
        )
    assert isinstance(ask, Ask)
    assert ask.typed == expected
    assert answered(ask, "escape") is None
    sent = answered(ask, "enter")
    assert (sent.more if isinstance(sent, Act) else None) == ({"hint": expected.strip()} if expected.strip() else None)


def test_a_hint_ends_somewhere() -> None:
    ask = asked("jobs", "capitals", "i", snapshot())
    assert isinstance(ask, Ask)
    for _ in range(MOST_TYPED + 5):
        found = answered(ask, "x")
        assert isinstance(found, Ask)
        ask = found
    assert ask.typed is not None
    assert len(ask.typed) == MOST_TYPED
