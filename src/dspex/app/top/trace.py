"""A recording, to be looked at from any moment on: its lines are read when they are needed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from dspex._files import parse_json
from dspex.app.dashboard.delta import apply
from dspex.app.dashboard.shapes import VERSION, Plain
from dspex.app.top.record import EVERY
from dspex.errors import ConfigError, FileError

__all__ = ["Trace"]

_LINE: Final = re.compile(rb'\{"at":(-?\d+(?:\.\d+)?(?:e-?\d+)?),"(snapshot|delta)":')

MOST_LINE: Final = 64 * 2**20
"""Bytes of one line."""

LONGEST_GAP: Final = 10.0
"""Seconds that a gap takes at most: an App that was started again begins anew, one that was away for a night too."""


class Trace:
    """
    A file that ``dspex top --record`` has written.

    Args:
        path: The file; only its places are kept in memory.

    Raises:
        ConfigError: It is not a recording, or another version's.
        FileError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.times: list[float] = []
        """When each picture was taken, in seconds after the first."""
        self._places: list[int] = []
        self._wholes: list[int] = []
        self._known: tuple[int, Plain] | None = None
        self.broken = False
        """True when the last line is not whole: whoever wrote it was killed."""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise FileError(path, f"it cannot be read: {error.strerror or error}") from error
        try:
            self._read()
        except BaseException:  # whatever it is: closed, then raised on
            self._file.close()
            raise

    def _read(self) -> None:
        head = self._file.readline(4_096)
        try:
            told = parse_json(head)
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("dspex") != "trace":
            raise ConfigError(f"{self._path} is not a recording: `dspex top --record {self._path.name}` makes one")
        if told.get("version") != VERSION:
            raise ConfigError(f"{self._path} was recorded by another version of dspex")
        self.title = str(told.get("title", ""))[:200]
        base, last, place = 0.0, None, self._file.tell()
        while line := self._file.readline(MOST_LINE):
            found = _LINE.match(line)
            if found is None or not line.endswith(b"}\n"):
                self.broken = True
                break
            at = float(found[1])
            if last is None:
                base = -at
            elif not 0 <= at - last <= LONGEST_GAP:
                base = self.times[-1] + EVERY - at
            last = at
            if found[2] == b"snapshot":
                self._wholes.append(len(self.times))
            elif not self._wholes:
                raise ConfigError(f"{self._path}: it does not begin with a whole snapshot")
            self.times.append(at + base)
            self._places.append(place)
            place = self._file.tell()
        if not self.times:
            raise ConfigError(f"{self._path}: there is no picture in this recording")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def length(self) -> float:
        """Seconds from the first picture to the last."""
        return self.times[-1]

    def number(self, time: float) -> int:
        """Return the number of the picture that is to be seen at a time."""
        return max(0, bisect_right(self.times, time) - 1)

    def picture(self, number: int) -> Plain:
        """
        Return one snapshot.

        Raises:
            ConfigError: The file has been changed, or was damaged.
        """
        whole = self._wholes[bisect_right(self._wholes, number) - 1]
        begin, state = whole, None
        if self._known is not None and whole <= self._known[0] <= number:
            begin, state = self._known[0] + 1, self._known[1]
        try:
            for each in range(begin, number + 1):
                state = self._step(each, state)
            assert state is not None  # a whole snapshot, or the one that was known
            state["app"]["completed"], state["at"], state["toll"]
        except (ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
            raise ConfigError(f"{self._path}: picture {number + 1} cannot be read: {error!r:.100}") from error
        self._known = number, state
        return state

    def _step(self, number: int, state: Plain | None) -> Plain:
        self._file.seek(self._places[number])
        told: Any = parse_json(self._file.readline(MOST_LINE))
        if "snapshot" in told:
            found: Plain = told["snapshot"]
            return found
        if state is None:
            raise ValueError("its beginning is missing")
        return apply(state, told["delta"])

    def pictures(self, every: float) -> Iterator[tuple[float, Plain]]:
        """Yield pictures with their times, at least ``every`` seconds apart; the first and the last are among them."""
        last = float("-inf")
        for number, time in enumerate(self.times):
            if time - last >= every or number == len(self.times) - 1:
                last = time
                yield time, self.picture(number)
