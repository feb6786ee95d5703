"""How the demo is shown: whole at 60 columns, without colours where none are wanted, or as plain lines."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.cells import cell_len
from rich.console import Console

from dspex.app.demo.board import Board, Cell
from dspex.app.demo.ending import YOURS
from dspex.app.demo.plain import PlainShow
from dspex.app.demo.screen import ScreenShow
from dspex.app.demo.show import ScoreRow
from dspex.protocols.executor import Failed, Ok
from dspex.requests import Request

ROWS = [
    ScoreRow(
        "no demonstrations",
        0.32,
        (0.26, 0.39),
        "title_first 43, title_tail 39, echo 38, title 35, sentence 35, span 10",
    ),
    ScoreRow(
        "bootstrapped, swapped answers", 0.0, (0.0, 0.02), "title 37, sentence 35, nearest 35, title_tail 31, echo 25"
    ),
    ScoreRow("bootstrapped, gold passage", 1.0, (0.98, 1.0), "title 105, title_first 93"),
]
TREE = """\
App  (mailbox max 1)
  lm
    openai-140bedbf
      rules-1  (restarts 2, mailbox max 23, 0 of 179 in flight, 0 waiting)"""


def screen(width: int, **options: Any) -> tuple[ScreenShow, io.StringIO]:
    out = io.StringIO()
    return ScreenShow(Console(file=out, width=width, height=40, force_terminal=True, highlight=False, **options)), out


def lines_of(out: io.StringIO) -> list[str]:
    return [line.rstrip() for line in out.getvalue().splitlines()]


def request(attempts: int = 0, step_restarts: int = 0) -> Request[Any]:
    totals = SimpleNamespace(attempts=("failed",) * attempts, step_restarts=step_restarts)
    return cast("Request[Any]", SimpleNamespace(details=totals))


@pytest.fixture
def board() -> Board:
    """300 questions in every state, after seven kills of which one is not back, ten seconds in."""
    times = iter([0.0])
    found = Board(300, lambda: next(times, 10.0))
    for place in range(200):
        found.requests[place] = request(attempts=place % 2)
        if place < 150:
            found.ends[place] = Ok(None) if place else Failed(ValueError("no answer"))
    for number in range(7):
        found.killed("lm/openai-140bedbf/rules-1" if number % 2 else "cache")
        if number < 6:
            found.handle("dspex.process.start", {}, {"label": "rules-1" if number % 2 else "cache"})
    for error in ("RateLimited", "RateLimited", "ServerFailed", "TransportFailed", "ResponseInvalid"):
        found.handle("dspex.lm.attempt.exception", {}, {"error": error})
        found.handle("dspex.lm.retry", {}, {})
    return found


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_line_of_the_demo_fits(width: int, board: Board) -> None:
    show, out = screen(width, no_color=True, color_system=None)
    show.title(3, "300 questions, 48 at once, while one call in five fails and an actor is killed every 2 s")
    show.say("300 of 300 answered in 13.0 s, 6 actors killed and restarted")
    show.block(TREE)
    show.table(ROWS)
    show.block(YOURS, code=True)
    with show.board(board) as draw:
        draw()

    assert max(cell_len(line) for line in lines_of(out) if "\x1b" not in line) <= width


def test_the_table_keeps_a_row_on_a_line_at_60_columns() -> None:
    show, out = screen(60, color_system=None)
    show.table(ROWS)

    lines = lines_of(out)
    for row, percents in zip(ROWS, ("32 %  26 to 39 %", "0 %  0 to 2 %", "100 %  98 to 100 %"), strict=True):
        assert any(row.name in line and line.endswith(percents) for line in lines)


@pytest.mark.parametrize("width", [60, 100])
def test_no_rule_is_parted_from_its_number(width: int) -> None:
    show, out = screen(width, color_system=None)
    show.table(ROWS)

    assert not [line for line in lines_of(out) if line.strip()[:1].isdigit()]


def test_the_code_is_whole_at_60_columns() -> None:
    show, out = screen(60, color_system=None)
    show.block(YOURS, code=True)

    assert [line[3:] for line in lines_of(out)] == [line.rstrip() for line in YOURS.rstrip().splitlines()]


def test_the_board_counts_every_question_and_names_the_last_kills(board: Board) -> None:
    show, out = screen(60, color_system=None)
    with show.board(board) as draw:
        draw()

    text = out.getvalue()
    assert "149 answered" in text
    assert "1 failed" in text
    assert "25 asking" in text
    assert "25 again" in text
    assert "2x 429" in text
    assert "back in" in text
    assert "…" in text


def test_a_cell_tells_where_a_question_is(board: Board) -> None:
    cells = board.cells

    assert (cells[0], cells[1], cells[150], cells[151], cells[299]) == (
        Cell.FAILED,
        Cell.ANSWERED,
        Cell.ASKING,
        Cell.AGAIN,
        Cell.WAITING,
    )


def test_a_kill_is_back_once_its_own_actor_is(board: Board) -> None:
    board.handle("dspex.process.start", {}, {"label": "default"})
    assert board.kills[-1].back is None
    board.handle("dspex.process.start", {}, {"label": "cache"})
    assert board.kills[-1].back is not None


def test_no_color_means_none() -> None:
    show, out = screen(80, no_color=True)
    show.title(1, "Title")
    show.notice("Notice")
    show.table(ROWS)
    show.block(YOURS, code=True)

    colours = [f"\x1b[{code}m" for code in (*range(30, 38), *range(90, 98))]
    assert not [code for code in colours if code in out.getvalue()]
    assert "38;5" not in out.getvalue()


# --- plain --------------------------------------------------------------------------------------------------


def test_plain_lines_hold_no_control_characters(board: Board) -> None:
    out = io.StringIO()
    show = PlainShow(out)
    show.title(1, "Title")
    show.table(ROWS)
    show.block(TREE)
    with show.progress("reading", 10) as tell:
        tell(10)
    with show.board(board) as draw:
        draw()
        board.handle("dspex.process.start", {}, {"label": "cache"})

    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    assert "killed cache, back in" in out.getvalue()
    assert "149 of 300 answered, 5 calls tried again" in out.getvalue()
