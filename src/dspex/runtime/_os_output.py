"""From the bytes that a program writes to lines of text: bounded in length, in number a second, and in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["LINE_LIMIT", "Lines", "OutputLog"]

LINE_LIMIT: Final = 4_096
"""Bytes of one line that are kept; the rest of a longer one is dropped."""

LINES_A_SECOND: Final = 500
"""Lines that are passed on each second; more are counted."""

_LAST: Final = 10
"""Lines that are remembered, for whoever asks why the program has ended."""


class Lines:
    """Cuts one stream of bytes into lines, and holds no more than the beginning of one."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes."""
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = self._begun + whole[0]
            self._begun = rest[: LINE_LIMIT + 1]
        else:
            self._begun = (self._begun + rest)[: LINE_LIMIT + 1]
        return whole

    def end(self) -> list[bytes]:
        """Return the line that was begun and never completed, if there is one."""
        begun, self._begun = self._begun, b""
        return [begun] if begun else []


class OutputLog:
    """
    Passes lines on, as many a second as a reader can bear, and remembers the last ones.

    A flood costs no more than counting it: nobody waits, so that the program is never held up by its own output.

    Args:
        now: Seconds.
        say: Takes each line that is passed on, with the name of its stream.
        dropped: Takes the number of lines that were not.

    Attributes:
        match: While it is set, it is shown every line, even those that are not passed on.
    """

    def __init__(
        self, now: Callable[[], float], say: Callable[[str, str], object], dropped: Callable[[int], object]
    ) -> None:
        self.match: Callable[[str], object] | None = None
        self._now = now
        self._say = say
        self._dropped = dropped
        self._last: deque[bytes] = deque(maxlen=_LAST)
        self._second = now()
        self._said = 0
        self._left_out = 0

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines of all streams, the oldest first."""
        return tuple(text for line in self._last if (text := _text(line)))

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Take the lines that have come."""
        self._last.extend(lines[-_LAST:])
        if self.match is not None:
            for line in lines:
                self.match(_text(line))
                if self.match is None:  # it has found what it looked for
                    break
        if self._now() - self._second >= 1.0:
            self.tell_dropped()
            self._second = self._now()
            self._said = 0
        room = LINES_A_SECOND - self._said
        for line in lines[:room]:
            self._say(stream, _text(line))
        passed = min(room, len(lines))
        self._said += passed
        self._left_out += len(lines) - passed

    def tell_dropped(self) -> None:
        """Tell how many lines were not passed on since this was last told."""
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self._dropped(left_out)


def _text(line: bytes) -> str:
    text = line[:LINE_LIMIT].decode("utf-8", "backslashreplace").rstrip("\r")
    return f"{text} …" if len(line) > LINE_LIMIT else text
