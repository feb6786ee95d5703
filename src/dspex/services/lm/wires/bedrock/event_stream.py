"""
AWS's binary event streams, read from bytes as they come.

Source: AWS, "Amazon event stream specification" (Smithy 2.0): a prelude of two lengths and its CRC, headers, a payload,
and the CRC of all of it. Numbers are big-endian.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["EventStreamParser", "StreamEvent", "StreamEventError", "written"]

_PRELUDE: Final = 12
_AROUND: Final = 16
"""Bytes of a message around its headers and payload."""
_LONGEST_HEADERS: Final = 2**17
_LONGEST: Final = 24 * 2**20
_SIZES: Final = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The kind of a header's value to its length; kinds 0 and 1 are True and False, 6 and 7 have a length of their own."""
_TEXT: Final = 7


class StreamEventError(ValueError):
    """The bytes are not an event stream, or were changed on their way."""


class StreamEvent(NamedTuple):
    """One message: its headers that are texts, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class EventStreamParser:
    """An incremental parser: the bytes may be cut anywhere."""

    __slots__ = ("_needed", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a message whose end has not come; joined once, so long ones stay linear
        self._size = 0
        self._needed = _PRELUDE

    @property
    def rest(self) -> int:
        """The number of bytes of a message that is not whole."""
        return self._size

    def feed(self, data: bytes) -> list[StreamEvent]:
        """
        Take the next bytes and return the messages that became whole.

        Raises:
            StreamEventError: A checksum is wrong, or a length cannot be one.
        """
        self._pieces.append(data)
        self._size += len(data)
        found: list[StreamEvent] = []
        if self._size < self._needed:
            return found
        whole, at, self._needed = b"".join(self._pieces), 0, _PRELUDE
        while len(whole) - at >= _PRELUDE:
            length, headers = _number(whole, at), _number(whole, at + 4)
            if zlib.crc32(whole[at : at + 8]) != _number(whole, at + 8):
                raise StreamEventError("the checksum of a message's lengths is wrong")
            if headers > _LONGEST_HEADERS or not headers + _AROUND <= length <= _LONGEST:
                raise StreamEventError(f"a message of {length} bytes with {headers} of headers cannot be one")
            if len(whole) - at < length:
                self._needed = length
                break
            end, start = at + length, at + _PRELUDE
            if zlib.crc32(whole[at : end - 4]) != _number(whole, end - 4):
                raise StreamEventError("the checksum of a message is wrong")
            payload = whole[start + headers : end - 4]
            found.append(StreamEvent(_headers(whole[start : start + headers]), payload))
            at = end
        self._pieces = [whole[at:]]
        self._size = len(whole) - at
        return found


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = data[at + 1 : at + 1 + size].decode()
            at += 1 + size
            kind = data[at]
            at += 1
            if kind in (6, _TEXT):
                size = int.from_bytes(data[at : at + 2], "big")
                value = data[at + 2 : at + 2 + size]
                if at + 2 > len(data) or len(value) < size:
                    raise StreamEventError("a header is cut off")
                if kind == _TEXT:
                    found[name] = value.decode()
                at += 2 + size
            elif kind in (0, 1):
                continue
            else:
                at += _SIZES[kind]
    except (IndexError, KeyError, UnicodeDecodeError):
        raise StreamEventError("a message's headers cannot be read") from None
    if at != len(data):
        raise StreamEventError("a message's headers cannot be read")
    return found


def written(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return a message as it stands on the wire: the other half, for servers in tests."""
    lines = b"".join(
        bytes([len(name.encode())]) + name.encode() + bytes([_TEXT]) + _short(len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = _long(len(lines) + len(payload) + _AROUND) + _long(len(lines))
    message = prelude + _long(zlib.crc32(prelude)) + lines + payload
    return message + _long(zlib.crc32(message))


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _long(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _short(number: int) -> bytes:
    return number.to_bytes(2, "big")
