"""
Vectors without a model: the stems of a text, each hashed to a dimension and a sign.

Similar texts share stems, so their vectors are near; texts that say the same in other words are not. The same text has
the same vector in any process. This is feature hashing (Weinberger et al., 2009), no more.
"""

import hashlib
import math

from dspex.simulator.learner._text import stems

__all__ = ["EMBEDDING_MODEL", "embed"]

EMBEDDING_MODEL = "stems-1"  # the version: it changes when any vector changes


def embed(text: str, dimensions: int) -> list[float]:
    """
    Return a vector of unit length.

    Args:
        text: Any text; one without words is hashed as a whole.
        dimensions: The length of the vector.
    """
    counts = stems(text) or {text: 1}
    vector = [0.0] * dimensions
    for word, count in counts.items():
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        at = int.from_bytes(digest[:8], "big") % dimensions
        vector[at] += (1 + math.log(count)) * (1 if digest[8] & 1 else -1)
    length = math.sqrt(math.fsum(value * value for value in vector))
    if length == 0:  # two words that cancel out
        return [1.0, *vector[1:]]
    return [value / length for value in vector]
