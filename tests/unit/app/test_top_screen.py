"""Screens of ``dspex top``: golden files at three widths, hostile texts, and what keys do. No terminal, no clock."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dspex.app.top.acts import Act, answered, asked
from dspex.app.top.cells import Column, TableCell, TableRow, cut, dollars, seconds, table
from dspex.app.top.screen import Look, Screen, State, frame, keys_of, meaning, press
from dspex.app.top.terminal import text_of
from dspex.app.top.views import VIEWS, toll_text
from tests.support.snapshots import busy_snapshot, quiet_snapshot

GOLDEN = Path(__file__).parents[2] / "golden" / "top"
WIDTHS = (60, 100, 160)
STATE = State("shop (process 4711)")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nשלם \u202e\u2066漢字漢字👩‍👩‍👧 é\u0301\u0301\x00\x9b31m<b>[red]x[/red]"


def screen(told: dict[str, Any], look: Look, width: int, height: int | None = None) -> Screen:
    return frame(told, STATE, look, width, height)


def plain(shown: Screen) -> str:
    return "\n".join(each.plain for each in shown.lines)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("view", [each.key for each in VIEWS])
def test_a_view_looks_as_it_did(view: str, width: int) -> None:
    """``DSPEX_GOLDEN=1 pytest`` writes them anew: look at the difference before you commit it."""
    opened = {"now": "r814", "tree": "App/ledger", "models": "small"}.get(view)
    shown = plain(screen(busy_snapshot(), Look(view=view, opened=opened), width)) + "\n"
    path = GOLDEN / f"{view}-{width}.txt"
    if os.environ.get("DSPEX_GOLDEN"):
        path.write_text(shown, "utf-8")
    assert shown == path.read_text("utf-8")


@pytest.mark.parametrize("width", [1, 40, *WIDTHS, 400])
@pytest.mark.parametrize("view", [each.key for each in VIEWS])
def test_no_line_is_wider_than_the_screen_and_no_screen_is_higher(view: str, width: int) -> None:
    for told in (busy_snapshot(), quiet_snapshot()):
        for height in (1, 5, 24):
            shown = screen(told, Look(view=view), width, height)
            assert len(shown.lines) <= max(height, 1)
            assert all(each.cell_len <= max(width, 40) for each in shown.lines)


def poisoned() -> dict[str, Any]:
    told = busy_snapshot()
    for row in told["requests"].values():
        row |= {"program": HOSTILE, "error": HOSTILE, "text": HOSTILE}
        for step in row["steps"]:
            step |= {"name": f"lm {HOSTILE}", "error": HOSTILE}
    for row in told["tree"].values():
        row |= {"label": HOSTILE, "exit": HOSTILE, "note": HOSTILE, "status": HOSTILE}
    for death in told["deaths"].values():
        death |= {"path": HOSTILE, "reason": HOSTILE}
    told["models"]["small"] |= {"lm": HOSTILE, "key_error": HOSTILE, "outcomes": {HOSTILE: 3}}
    told["tools"]["tools"] = {HOSTILE: told["programs"]["AskCapital"]}
    told["budgets"] = {HOSTILE: told["budgets"]["the App"]}
    told["jobs"]["capitals"] |= {"id": HOSTILE, "verdict": HOSTILE, "optimizer": HOSTILE, "told": {"error": HOSTILE}}
    told["jobs"]["capitals"]["candidates"][0]["key"] = HOSTILE
    told["indexings"]["index-birds"] |= {"id": HOSTILE, "index": HOSTILE, "error": HOSTILE}
    told["evaluations"]["e1"] |= {"program": HOSTILE}
    told["app"]["down"] = [HOSTILE]
    return told


@pytest.mark.parametrize("view", [each.key for each in VIEWS])
def test_texts_of_others_are_shown_and_do_nothing(view: str) -> None:
    shown = frame(poisoned(), State(HOSTILE, notice=HOSTILE), Look(view=view, opened="r814"), 160, None)
    text = plain(shown)

    assert "\\x1b" in text
    assert not any(ord(each) < 32 and each != "\n" for each in text)
    assert not set(text) & set("\x7f\x9b\u202e\u2066\u200d")
    assert all(each.cell_len <= 160 and "\n" not in each.plain for each in shown.lines)
    painted = "\n".join(text_of(shown.lines, 160, colours=True))
    assert all(
        piece[0] == "[" and "m" in piece[:12] for piece in painted.split("\x1b")[1:]
    )  # colours, and nothing else
    assert "[red]" in text or view == "stores"


def test_passages_on_their_way_into_an_index_are_counted() -> None:
    told = busy_snapshot()
    assert "1,200 passages read: 1,000 added, 199 unchanged, 1,000 embedded, 1 left out" in plain(
        screen(told, Look(view="jobs"), 120)
    )
    told["indexings"]["index-birds"]["report"] = "3 passages read: 3 added"
    assert "3 passages read: 3 added" in plain(screen(told, Look(view="jobs"), 120))
    del told["indexings"]  # a recording of an older App
    assert "index-birds" not in plain(screen(told, Look(view="jobs"), 120))


def test_nothing_is_written_in_colour_for_whoever_wants_none() -> None:
    assert "\x1b" not in "".join(text_of(screen(busy_snapshot(), Look(), 100).lines, 100, colours=False))


# --- texts and tables ---------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.integers(1, 30))
def test_a_cut_text_fits_and_holds_nothing_that_acts(text: str, width: int) -> None:
    shown = cut(text, width)
    assert cell_len(shown) <= width
    assert not any(ord(each) < 32 for each in shown)


@given(st.lists(st.lists(st.text(max_size=20), min_size=3, max_size=3), max_size=5), st.integers(20, 80))
def test_every_line_of_a_table_fits(rows: list[list[str]], width: int) -> None:
    columns = (Column("one", 8), Column("two", 30, need=1), Column("three", wide=True, need=2))
    lines = table(columns, [TableRow([TableCell(each) for each in row]) for row in rows], width)
    assert all(each.text.cell_len <= width for each in lines)
    assert len(lines) == len(rows) + 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.004, "4 ms"), (0.25, "0.2 s"), (12.4, "12 s"), (125.0, "2 min"), (7_300.0, "2.0 h")],
)
def test_durations(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "unknown"), ("0", "$0"), ("0.00001", "<$0.0001"), ("0.0123", "$0.0123"), ("1234.5", "$1,234.50")],
)
def test_money(value: object, shown: str) -> None:
    assert dollars(value) == shown


def test_the_first_sentence_tells_who_died_who_waited_and_whether_anything_was_lost() -> None:
    told = busy_snapshot()
    assert toll_text(told) == (
        "retrievers/default, small and ledger died and were restarted; 5 requests waited for them: 3 answered, "
        "1 failed, 1 under way; nothing was lost; 1 call may be paid twice ($0.0003)"
    )
    for unpriced, price in ((1, "1 call may be paid twice (price unknown)"), (0, "1 call may be paid twice ($0.0003)")):
        assert toll_text({**told, "toll": {**told["toll"], "unpriced": unpriced}}).endswith(price)
    some = {**told, "toll": {**told["toll"], "again": 3, "unpriced": 1}}
    assert toll_text(some).endswith("3 calls may be paid twice ($0.0003 and more)")
    told["toll"]["who"] |= {"App/cache": 4, "App/watch": 1}
    assert toll_text(told).startswith("cache 4x, retrievers/default, small and 2 more died and were restarted; ")
    del told["toll"]["who"]  # as in recordings of older releases
    assert toll_text(told).startswith("3 actors died and were restarted; ")
    told["app"]["lost"] = 2
    assert "2 requests were LOST" in toll_text(told)
    assert toll_text(quiet_snapshot()) == "no actor has died; nothing was lost"


# --- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "keys", "rest"),
    [
        ("2q", ["2", "q"], ""),
        ("\x1b[A\x1b[B\x1bOA", ["up", "down", "up"], ""),
        ("\x1b[5~\x1b[6~\r", ["pageup", "pagedown", "\r"], ""),
        ("\x1b[", [], "\x1b["),
        ("a\x1b", ["a"], "\x1b"),  # alone it may be the key, or the beginning of one
        ("\x1bq", ["escape", "q"], ""),
        ("\x1b[200~", [""], ""),
        ("k \x03", ["k", " ", "\x03"], ""),
    ],
)
def test_keys_by_name(typed: str, keys: list[str], rest: str) -> None:
    assert keys_of(typed) == (keys, rest)


@given(st.text(max_size=40))
def test_whatever_is_typed_is_taken(text: str) -> None:
    keys, rest = keys_of(text)
    shown = screen(busy_snapshot(), Look(), 100, 24)
    look: Look | None = Look()
    for key in keys:
        if look is None:
            break
        look = press(look, key, shown)
    assert len(rest) <= 20


def test_keys_choose_views_lines_orders_and_what_is_opened() -> None:
    told = busy_snapshot()
    look = Look()
    shown = screen(told, look, 100, 30)
    assert shown.keys == ["r811", "r814", "r815", "r818"]

    for key in ("down", "down", "enter"):
        pressed = press(look, key, shown)
        assert pressed is not None
        look = pressed
        shown = screen(told, look, 100, 30)
    assert (look.chosen, look.opened) == ("r814", "r814")
    assert "killed 0.3 s" in plain(shown)

    ordered = press(look, "s", shown)
    assert ordered is not None
    assert screen(told, ordered, 100, 30).keys[:2] == ["r811", "r815"]  # by program
    beside = press(look, "right", shown)
    assert beside is not None
    assert (beside.view, beside.opened) == ("tree", None)
    assert press(look, "q", shown) is None
    helped = press(look, "?", shown)
    assert helped is not None
    assert "Page up" in plain(screen(told, helped, 100, 30))


def test_a_sign_is_a_key_or_a_part_of_a_text() -> None:
    signs = ("k", " ", "\r", "\x7f", "\x03", "up", "é")
    assert [meaning(each, typed=False) for each in signs] == ["up", "p", "enter", "\x7f", "q", "up", "é"]
    assert [meaning(each, typed=True) for each in signs] == ["k", " ", "enter", "backspace", "escape", "up", "é"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "view", "chosen", "key"),
    [
        ("acts", "now", "r814", ""),
        ("acts-asked", "tree", "App/cache", "r"),
        ("acts-typed", "jobs", "capitals", "i"),
    ],
)
def test_what_can_be_done_is_on_the_last_line(name: str, view: str, chosen: str, key: str, width: int) -> None:
    told = busy_snapshot()
    ask = asked(view, chosen, key, told)
    assert not isinstance(ask, Act)
    for letter in "say less":
        ask = answered(ask, letter) if ask is not None and ask.typed is not None else ask
        assert not isinstance(ask, Act)
    shown = frame(told, replace(STATE, acts=True), Look(view=view, chosen=chosen, ask=ask), width, 24)
    path = GOLDEN / f"{name}-{width}.txt"
    if os.environ.get("DSPEX_GOLDEN"):
        path.write_text(plain(shown) + "\n", "utf-8")
    assert plain(shown) + "\n" == path.read_text("utf-8")
    if not key:  # of an App that cannot be told to do something, no key is shown that would
        assert "c cancel" in shown.lines[-1].plain
        assert "c cancel" not in screen(told, Look(view=view, chosen=chosen), width, 24).lines[-1].plain


def test_the_chosen_line_is_on_the_screen() -> None:
    told = busy_snapshot()
    look = Look(view="tree")
    for _ in range(12):
        shown = screen(told, look, 100, 14)
        pressed = press(look, "down", shown)
        assert pressed is not None
        look = pressed
        shown = screen(told, look, 100, 14)
        assert look.chosen is not None
        marked = [each for each in shown.lines if any(span.style == "reverse" for span in each.spans)]
        assert len(marked) >= 1
    assert look.chosen == "App/requests"
