"""An embedder without a model: features of the text, hashed into a fixed number of dimensions."""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["HashingEmbedder"]

_WORD: Final = re.compile(r"[^\W_]+")
_SIZES: Final = (3, 4)
"""Lengths of the pieces of words: they make ``sleeping`` and ``sleeps`` alike."""
_PIECE_WEIGHT: Final = 1.0
"""How much the pieces of a word weigh together, beside the word itself."""


class HashingEmbedder:
    """
    Turns texts into vectors of length 1 by their words and the pieces of their words, without a model.

    It needs no network and no library, and gives the same vector for the same text on every machine, for
    ever: for tests, benchmarks, and work offline. It knows spelling and no meaning: a model finds far more.

    The hashing trick with signs is that of Weinberger et al., 2009 (Feature hashing for large scale multitask
    learning); a word counts by one plus the logarithm of its number.

    Args:
        dimensions: The length of the vectors, at least 16.

    Raises:
        ValueError: ``dimensions`` is below 16.
    """

    __slots__ = ("dimensions",)

    def __init__(self, dimensions: int = 512) -> None:
        if dimensions < 16:
            raise ValueError(f"dimensions={dimensions!r}: expected 16 or more")
        self.dimensions = dimensions

    def __call__(self, texts: Sequence[str]) -> list[array[float]]:
        """Return a vector for each text, in their order; one without a word is like such texts alone."""
        return [self._vector(text) for text in texts]

    def __repr__(self) -> str:
        return f"HashingEmbedder({self.dimensions})"

    def _vector(self, text: str) -> array[float]:
        # The first dimension is kept for texts without a word: no vector is ever all zeros.
        vector = [0.0] * self.dimensions
        room = self.dimensions - 1
        for word, count in Counter(_words(text)).items():
            weight = 1.0 + math.log(count)
            for feature, part in _features(word):
                vector[1 + (feature >> 1) % room] += weight * (part if feature & 1 else -part)
        length = math.sqrt(math.fsum(each * each for each in vector))
        if not length:
            vector[0] = length = 1.0
        return array("f", [each / length for each in vector])


def _words(text: str) -> Iterator[str]:
    return (match[0] for match in _WORD.finditer(unicodedata.normalize("NFKC", text).lower()))


@lru_cache(maxsize=65_536)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Return the hash and the weight of a word's features: the word itself, and its pieces with its borders."""
    framed = f"<{word}>"
    pieces = [framed[at : at + size] for size in _SIZES for at in range(len(framed) - size + 1) if size < len(framed)]
    share = _PIECE_WEIGHT / math.sqrt(len(pieces)) if pieces else 0.0
    features = [(framed, 1.0), *((piece, share) for piece in pieces)]
    return tuple((zlib.crc32(feature.encode("utf-8", "surrogatepass")), weight) for feature, weight in features)
