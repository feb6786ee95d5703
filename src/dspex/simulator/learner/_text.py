"""Words, sentences, numbers and shapes: everything the learner knows about language."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_SMALL = (
    "a an the of in on at to for from by with as and or not no",
    "is are was were be been it its this that these those which",
    "who what when where how do does did has have had if but",
)
FUNCTION_WORDS = frozenset(word for line in _SMALL for word in line.split())
_WORD = re.compile(r"[^\W\d_]+|\d+")
PHRASE = re.compile(r"[A-ZÀ-Þ][\w'-]*(?: [A-ZÀ-Þ][\w'-]*)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_NUMBER = re.compile(r"(?<!\w)-?\d+(?:,\d{3})*(?:\.\d+)?")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ers", "er", "ies", "ied", "es", "ed", "s", "y", "e")


def tokens(text: str) -> int:
    """Count tokens: bytes of UTF-8 divided by four, rounded up."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def cut(text: str, limit: int) -> str:
    """Return the longest start of `text` that is at most `limit` tokens."""
    return text.encode("utf-8", "surrogatepass")[: 4 * limit].decode("utf-8", "ignore")


def stem(word: str) -> str:
    """Strip one inflection from a lower-case word, leaving at least three letters."""
    fitting = (suffix for suffix in _SUFFIXES if word.endswith(suffix) and len(word) - len(suffix) >= 3)
    return word.removesuffix(next(fitting, ""))


def stems(text: str) -> Counter[str]:
    """Count the stems of the content words and the digit runs of a text."""
    words = (match.group().lower() for match in _WORD.finditer(text))
    return Counter(stem(word) for word in words if word not in FUNCTION_WORDS)


def idf_of(documents: Iterable[Iterable[str]]) -> dict[str, float]:
    """Weigh each stem by how few of the documents have it; every weight is positive."""
    seen = [set(document) for document in documents]
    frequency = Counter(word for document in seen for word in document)
    return {word: math.log(1 + len(seen) / count) for word, count in frequency.items()}


def overlap(part: str, text: Counter[str], idf: Mapping[str, float]) -> float:
    """Sum the weights of the stems that a part and a text share."""
    return math.fsum(idf[word] for word in stems(part) if word in text)


def cosine(a: Counter[str], b: Counter[str], idf: Mapping[str, float]) -> float:
    """Return the cosine of two weighted stem counts; 0.0 when they share nothing."""
    dot = math.fsum(count * b[word] * idf[word] ** 2 for word, count in a.items() if word in b)
    lengths = (math.fsum((count * idf[word]) ** 2 for word, count in one.items()) for one in (a, b))
    return dot / math.sqrt(math.prod(lengths)) if dot else 0.0


def sentences(text: str) -> list[str]:
    """Split a text after full stops, question and exclamation marks, and at blank lines."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def numbers(text: str) -> list[float]:
    """Return the finite numbers of a text in order; thousands may be set off by commas."""
    found = (float(match.group().replace(",", "")) for match in _NUMBER.finditer(text))
    return [number for number in found if math.isfinite(number)]


def is_number(value: str) -> bool:
    """Say whether a whole value is one finite number."""
    return _NUMBER.fullmatch(value) is not None and bool(numbers(value))


def number_text(value: float) -> str:
    """Write a number without a needless fraction."""
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def normalise(value: str) -> str:
    """Fold case and white space and drop punctuation at both ends; numbers lose commas and zeros."""
    folded = " ".join(value.casefold().split()).strip(" .,;:!?\"'`")
    return number_text(numbers(folded)[0]) if is_number(folded) else folded


def shape(value: str) -> str:
    """Reduce a value to its shape: letter runs (a name's underscores too) become ``a``, digits ``9``."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d]+", "a", " ".join(value.split())))
