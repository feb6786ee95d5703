"""From bytes to lines, whatever the bytes and however they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex.runtime._os_output import LINE_LIMIT, LINES_A_SECOND, Lines, OutputLog


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_how_they_are_cut(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.end()

    expected = b"".join(pieces).split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])
    assert lines.end() == []


def test_a_line_without_end_takes_no_memory() -> None:
    """Whatever comes of it, its beginning is kept and said to be cut."""
    lines, said = Lines(), list[str]()
    log = OutputLog(lambda: 0.0, lambda _, line: said.append(line), print)
    for _ in range(100):
        log.take("stdout", lines.feed(b"x" * 1_000))
        assert len(lines._begun) <= LINE_LIMIT + 1
    log.take("stdout", lines.feed(b"\nnext\n"))

    assert said == ["x" * LINE_LIMIT + " …", "next"]


def test_each_second_has_its_share() -> None:
    """The number of lines left out is told with the next second's first lines."""
    time, said, dropped = [0.0], list[str](), list[int]()
    log = OutputLog(lambda: time[0], lambda _, line: said.append(line), dropped.append)
    log.take("stdout", [b"a"] * (LINES_A_SECOND + 5))
    log.take("stderr", [b"b"] * 5)
    assert (len(said), dropped) == (LINES_A_SECOND, [])
    time[0] = 1.0
    log.take("stdout", [b"c"])

    assert (said[-1], dropped) == ("c", [10])
    log.tell_dropped()
    assert dropped == [10]


def test_what_is_looked_for_is_shown_every_line_until_it_is_found() -> None:
    """Even those that nobody is told of; empty lines are nothing to remember."""
    shown = list[str]()
    log = OutputLog(lambda: 0.0, lambda *_: None, print)

    def look(line: str) -> None:
        shown.append(line)
        if line == "here":
            log.match = None

    log.match = look
    log.take("stdout", [b"no"] * (LINES_A_SECOND + 1))
    log.take("stdout", [b"", b"here\r", b"after"])

    assert shown == ["no"] * (LINES_A_SECOND + 1) + ["", "here"]
    assert log.last[-2:] == ("here", "after")
