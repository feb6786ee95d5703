"""Progress is shown on terminals and in notebooks, nowhere else, and never ends the work that it tells of."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.evaluation.display import Display, fitted, open_display, time_left
from dspex.testing import ScriptedLM

ROWS = [dspex.Example(question=f"q{n}", answer="yes") for n in range(3)]


async def everything(home: Path, progress: bool | None = None) -> None:
    """Evaluate, map and compile three rows."""
    app = dspex.App(ScriptedLM(lambda _: {"answer": "yes"}), cache=None, home=home)
    async with app:
        program = dspex.Predict("question -> answer")
        await app.evaluate(program, ROWS, dspex.exact_match(), progress=progress)
        async with app.map(program, ROWS, progress=progress) as results:
            async for _ in results:
                pass
        optimizer = dspex.BootstrapFewShot(dspex.exact_match())
        job = await app.compile(program, optimizer, trainset=ROWS, job="j", progress=progress)
        await job.result()


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make standard error a terminal; the value reads what was written to it."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)

        def written() -> str:
            # The kernel hands a terminal's text on in pieces, when it has time: read to a mark of our own.
            stream.write("\x02")
            stream.flush()
            text = b""
            while not text.endswith(b"\x02"):
                text += os.read(ours, 65_536)
            return text[:-1].decode()

        yield written
    os.close(ours)


def test_a_terminal_shows_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with terminal(monkeypatch) as written:
        asyncio.run(everything(tmp_path))
        text = written()

    assert "[####################] 3 of 3 rows, score 1.000, price unknown\r\n" in text
    assert "[####################] 3 of 3 rows, 0 failed\r\n" in text
    assert "job j: " in text
    assert text.rstrip().endswith("3 rows run")  # behind it spaces, where a longer line was shown before


def test_nothing_but_a_carriage_return_moves_the_cursor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also a terminal without a type shows it."""
    with terminal(monkeypatch) as written:
        asyncio.run(everything(tmp_path))
        assert "\x1b" not in written()


def test_a_line_fits_sixty_columns_with_a_shorter_bar() -> None:
    """A text that is too long for a line alone loses its last parts, not half a number."""
    long = "1000 of 4000 rows, 12 failed, score 0.667, 0.012345 USD"
    assert fitted("1000 of 4000 rows, 0 failed", 0.25, 59) == "[#####               ] 1000 of 4000 rows, 0 failed"
    assert fitted("1000 of 4000 rows, 12 failed, score 0.667, 3 min", 0.25, 59) == (
        "[##      ] 1000 of 4000 rows, 12 failed, score 0.667, 3 min"
    )
    assert fitted(long, 0.25, 59) == long
    assert fitted(long, 0.25, 45) == "1000 of 4000 rows, 12 failed, score 0.667"
    assert fitted("one part only", None, 5) == "one p"


@given(st.text("ab ,", max_size=40), st.none() | st.floats(0, 1), st.integers(1, 60))
def test_a_line_is_never_longer_than_its_room(text: str, share: float | None, room: int) -> None:
    assert len(fitted(text, share, room)) <= room


@pytest.mark.parametrize(
    ("passed", "share", "words"),
    [
        (1.0, 0.5, ""),
        (10.0, None, ""),
        (10.0, 0.0, ""),
        (10.0, 1.0, ""),
        (10.0, 0.25, ", 30 s left"),
        (60.0, 0.25, ", 3 min left"),
        (3600.0, 0.25, ", 3 h left"),
    ],
)
def test_the_pace_so_far_says_how_long_it_will_take(passed: float, share: float | None, words: str) -> None:
    assert time_left(passed, share) == words


def test_it_is_silent_when_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with terminal(monkeypatch) as written:
        asyncio.run(everything(tmp_path, progress=False))
        sys.stderr.write("end")
        sys.stderr.flush()
        assert written() == "end"


def test_it_is_silent_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asyncio.run(everything(tmp_path))

    assert capsys.readouterr() == ("", "")


def test_it_is_shown_elsewhere_when_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As lines, without control characters."""
    asyncio.run(everything(tmp_path, progress=True))

    out, err = capsys.readouterr()
    assert out == ""
    assert "[####################] 3 of 3 rows, score 1.000, price unknown\n" in err
    assert "\x1b" not in err


def test_a_notebook_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same place is written again; words are escaped."""
    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown[-1] = html

    def display(html: str, display_id: bool) -> Handle:
        shown.append(html)
        return Handle()

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    screen: Any = types.ModuleType("IPython.display")
    screen.HTML, screen.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", screen)
    found = open_display(None)
    assert found is not None

    found.show("<b>1</b> of 2", 0.5)
    found.show("2 of 2", 1.0)
    assert shown == ['<progress max="1" value="0.5000"></progress> <code>&lt;b&gt;1&lt;/b&gt; of 2</code>']
    found.close()
    assert shown == ['<progress max="1" value="1.0000"></progress> <code>2 of 2</code>']


def test_a_screen_that_is_gone_ends_nothing() -> None:
    def gone(*_: object) -> None:
        raise OSError("it was closed")

    display = Display(gone, gone)
    display.show("1 of 2", 0.5)
    display.close()
