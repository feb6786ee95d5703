"""Undoing one ``content-encoding`` while the answer comes, in steps of a bounded size."""

from __future__ import annotations

import zlib
from typing import Final

from dspex.services.lm._failures import NotUnpacked

__all__ = ["Unpacker", "layers_of"]

_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15
_MAX_MEMBERS: Final = 256
"""Gzip members of one body; empty ones cost time and give nothing."""


def layers_of(content_encoding: str) -> list[str]:
    """Return the encodings that a header names, in lower case, without those that change nothing."""
    names = [each.strip().lower() for each in content_encoding.split(",")]
    return [each for each in names if each not in ("", "identity")]


class Unpacker:
    """
    One layer of gzip or deflate.

    Attributes:
        has_more: True when a step ended at its limit: ``more`` gives the rest, before anything else is fed.
    """

    __slots__ = ("_begun", "_is_gzip", "_members", "_rest", "_start", "_stream", "has_more")

    KNOWN: Final = frozenset({"gzip", "x-gzip", "deflate"})

    def __init__(self, encoding: str) -> None:
        self._is_gzip = encoding != "deflate"
        self._stream = zlib.decompressobj(_GZIP) if self._is_gzip else None
        self._start = b""  # of a deflate body: two bytes tell whether it has zlib's header, which some servers omit
        self._begun = False
        self._rest = b""
        self._members = 1
        self.has_more = False

    def feed(self, packed: bytes, at_most: int) -> bytes:
        """
        Return what ``packed`` unpacks to, ``at_most`` bytes of it.

        Raises:
            NotUnpacked: It is not in this encoding.
        """
        self._begun = self._begun or bool(packed)
        if self._stream is None:
            packed = self._start = self._start + packed
            if len(packed) < 2:
                return b""
            has_header = packed[0] & 15 == 8 and not int.from_bytes(packed[:2], "big") % 31
            self._stream = zlib.decompressobj(_ZLIB if has_header else _RAW)
            self._start = b""
        return self._step(self._stream, packed, at_most)

    def more(self, at_most: int) -> bytes:
        """Return the next bytes after a step that ended at its limit; raises as ``feed``."""
        assert self._stream is not None
        return self._step(self._stream, self._rest, at_most)

    def finish(self) -> None:
        """
        Note the end of the body; an empty body unpacks to nothing.

        Raises:
            NotUnpacked: It came too early.
        """
        if self._begun and (self._stream is None or not self._stream.eof):
            raise NotUnpacked("it ends early")

    def _step(self, stream: zlib._Decompress, packed: bytes, at_most: int) -> bytes:
        found = b""
        while True:
            try:
                found += stream.decompress(packed, at_most - len(found))
                is_good = self._is_gzip or not stream.unused_data
            except zlib.error:
                is_good = False
            if not is_good:
                raise NotUnpacked("it is corrupt")
            packed = stream.unused_data
            if not packed:
                self._rest = stream.unconsumed_tail
                self.has_more = len(found) >= at_most and not stream.eof
                return found
            # Behind a gzip member there may be another one, and nothing else.
            self._members += 1
            if self._members > _MAX_MEMBERS:
                raise NotUnpacked(f"it has more than {_MAX_MEMBERS} parts")
            stream = self._stream = zlib.decompressobj(_GZIP)
            if len(found) >= at_most:  # a step with nothing left would be one without a limit to zlib
                self._rest, self.has_more = packed, True
                return found
