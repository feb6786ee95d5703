"""
RS256, the signature that service accounts of Google prove themselves with, in a few lines and pure.

Source: RFC 8017, section 8.2.1 (RSASSA-PKCS1-v1_5) and appendix A.1.2 (the key); RFC 5208 (its envelope). About one
signature an hour is made, on the user's own machine. The number that is raised to the secret power is blinded, and each
signature is checked before it leaves: one that was computed wrong would give the key away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from typing import Final

from dspex._random import fresh_number

__all__ = ["RsaKey"]

_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""How SHA-256 is named in front of a digest (RFC 8017, section 9.2, note 1)."""
_PEM: Final = re.compile(r"-----BEGIN (RSA )?PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END (?:RSA )?PRIVATE KEY-----")
_SHORTEST: Final = 2048
_LONGEST: Final = 16384
_INTEGER, _OCTETS, _SEQUENCE = 2, 4, 48


class RsaKey:
    """
    A private key; its repr shows its length alone.

    Args:
        pem: The key as service accounts have it: PKCS #8, or PKCS #1, without a password.

    Raises:
        ValueError: It is none. The message does not show it.
    """

    __slots__ = ("_exponent", "_modulus", "_public", "_size")

    def __init__(self, pem: str) -> None:
        found = _PEM.search(pem)
        if found is None:
            raise ValueError("it is not an RSA key in PEM without a password")
        try:
            der = base64.b64decode("".join(found[2].split()), validate=True)
            numbers = _numbers(der if found[1] else _unwrapped(der))
        except (binascii.Error, IndexError, ValueError):
            raise ValueError("the key is damaged") from None
        self._modulus, self._public, self._exponent = numbers
        bits = self._modulus.bit_length()
        if not _SHORTEST <= bits <= _LONGEST:
            raise ValueError(f"an RSA key of {bits} bits is not taken")
        self._size = (bits + 7) // 8

    def sign(self, message: bytes) -> bytes:
        """Return the RS256 signature of a message; raises ``ValueError`` where the halves of the key do not match."""
        digest = _SHA256 + hashlib.sha256(message).digest()
        padding = b"\xff" * (self._size - len(digest) - 3)
        number = int.from_bytes(b"\0\1" + padding + b"\0" + digest, "big")
        modulus = self._modulus
        while True:
            blind = fresh_number(modulus - 2) + 2
            if math.gcd(blind, modulus) == 1:
                break
        blinded = number * pow(blind, self._public, modulus) % modulus
        signature = pow(blinded, self._exponent, modulus) * pow(blind, -1, modulus) % modulus
        if pow(signature, self._public, modulus) != number:
            raise ValueError("the halves of the key do not match")
        return signature.to_bytes(self._size, "big")

    def __repr__(self) -> str:
        return f"<RsaKey, {self._modulus.bit_length()} bits>"


def _unwrapped(der: bytes) -> bytes:
    """Return the key in its envelope: a version, the algorithm, and the octets that are asked for."""
    inner = _content(der, 0, _SEQUENCE)[0]
    at = _content(inner, 0, _INTEGER)[1]
    at = _content(inner, at, _SEQUENCE)[1]
    return _content(inner, at, _OCTETS)[0]


def _numbers(der: bytes) -> tuple[int, int, int]:
    """Return modulus, public and private exponent, which stand behind the version."""
    inner = _content(der, 0, _SEQUENCE)[0]
    at = _content(inner, 0, _INTEGER)[1]
    found = []
    for _ in range(3):
        content, at = _content(inner, at, _INTEGER)
        found.append(int.from_bytes(content, "big"))
    modulus, public, private = found
    if not (modulus % 2 and 2 < public < modulus and 2 < private < modulus):
        raise ValueError
    return modulus, public, private


def _content(der: bytes, at: int, kind: int) -> tuple[bytes, int]:
    """Return the content of the element at a place, and where the next one is."""
    if der[at] != kind:
        raise ValueError
    length, start = der[at + 1], at + 2
    if length & 128:
        more = length & 127
        if not 0 < more <= 4:
            raise ValueError
        length, start = int.from_bytes(der[start : start + more], "big"), start + more
    if start + length > len(der):
        raise ValueError
    return der[start : start + length], start + length
