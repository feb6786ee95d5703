"""Vectors in memory, and the best of them: exact search with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias

from dspex.errors import DimensionMismatch, MissingExtra, VectorInvalid

if TYPE_CHECKING:
    import numpy  # noqa: ICN001 - see library()

    from dspex.protocols.retrieval import Vector

__all__ = ["Floats", "Matrix", "Numbers", "library", "units"]

Floats: TypeAlias = "numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]"
Numbers: TypeAlias = "numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.int64]]"
_FEW: Final = 0.25
"""Where a filter leaves a smaller share of the vectors, theirs alone are compared."""


def library() -> ModuleType:
    """Return numpy; MissingExtra where it is not installed."""
    try:
        import numpy  # noqa: ICN001 - an extra, and 0.1 s to import
    except ImportError as error:
        raise MissingExtra("vectors", "searching by vectors") from error
    return numpy


class Matrix:
    """
    The vectors of an index, one row each, in any order.

    Args:
        dimensions: Their length.
    """

    def __init__(self, dimensions: int) -> None:
        self._np = np = library()
        self.dimensions = dimensions
        self._rows: Floats = np.empty((0, dimensions), np.float32)  # with room behind the last one
        self._numbers: Numbers = np.empty(0, np.int64)
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, number: int) -> bool:
        return number in self._place

    def snapshot(self) -> tuple[Floats, Numbers]:
        """Return all vectors and their numbers; a vector that is written over later may change there, too."""
        return self._rows[: len(self)], self._numbers[: len(self)].copy()

    def put(self, numbers: Sequence[int], data: Sequence[bytes]) -> bool:
        """Add vectors or write over them; False when one is not a finite vector of the right length."""
        if not numbers:
            return True
        if any(not isinstance(each, bytes) or len(each) != 4 * self.dimensions for each in data):
            return False
        rows = self._np.frombuffer(b"".join(data), "<f4").reshape(len(data), self.dimensions)
        if not self._np.isfinite(rows).all():
            return False
        places = [self._place.setdefault(number, len(self._place)) for number in numbers]
        self._make_room(len(self._place))
        self._rows[places] = rows
        self._numbers[places] = numbers
        return True

    def keep(self, numbers: Sequence[int]) -> None:
        """Forget all other vectors."""
        kept = self._np.isin(self._numbers[: len(self)], self._np.asarray(numbers, self._np.int64))
        self._rows = self._rows[: len(kept)][kept]
        self._numbers = self._numbers[: len(kept)][kept]
        self._place = {number: place for place, number in enumerate(self._numbers.tolist())}

    def best(self, vector: Vector, k: int, among: Sequence[int] | None) -> tuple[list[int], list[float]]:
        """
        Return the numbers and the scores of the ``k`` vectors most like one, best first, equals by their number.

        Args:
            vector: The vector that they are compared with.
            k: The most to return.
            among: The numbers that count; None for all.

        Raises:
            DimensionMismatch: It has another length.
            VectorInvalid: It is none.
        """
        (asked,) = units([vector], self.dimensions, "the query's vector")
        count = len(self)
        numbers = self._numbers[:count]
        if among is None:
            scores = self._rows[:count] @ asked
        else:
            places = self._np.asarray([self._place[each] for each in among if each in self._place], self._np.int64)
            few = len(places) < _FEW * count
            scores = self._rows[places] @ asked if few else (self._rows[:count] @ asked)[places]
            numbers = numbers[places]
        if k < len(scores):
            worst = self._np.partition(scores, len(scores) - k)[len(scores) - k]
            chosen = self._np.flatnonzero(scores >= worst)
            scores, numbers = scores[chosen], numbers[chosen]
        order = self._np.lexsort((numbers, -scores))[:k]
        return numbers[order].tolist(), [float(each) for each in scores[order]]

    def _make_room(self, count: int) -> None:
        if count > len(self._numbers):
            room = max(count, len(self._numbers) * 3 // 2)
            rows, numbers = self._rows, self._numbers
            self._rows, self._numbers = (
                self._np.empty((room, self.dimensions), self._np.float32),
                self._np.empty(room, self._np.int64),
            )
            self._rows[: len(numbers)], self._numbers[: len(numbers)] = rows, numbers


def units(vectors: Sequence[Vector], dimensions: int, about: str) -> Floats:
    """
    Return vectors of length 1, as rows of little-endian float32.

    Args:
        vectors: At least one.
        dimensions: The length that they must have; 0 for that of the first.
        about: The subject of an error's sentence: ``the query's vector``.

    Raises:
        DimensionMismatch: One has another length.
        VectorInvalid: One is not a list of numbers, is all zeros, or holds NaN or infinity.
    """
    np = library()
    try:
        lengths = [len(each) for each in vectors]
        for found in lengths:
            if found != (dimensions or lengths[0]):
                raise DimensionMismatch(dimensions or lengths[0], found, about)
        rows = np.asarray(vectors, np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, VectorInvalid):
            raise
        raise VectorInvalid(f"{about} is not a list of numbers: {error}") from error
    if rows.ndim != 2 or not rows.shape[1]:
        raise VectorInvalid(f"{about} is not a list of numbers")
    largest = np.abs(rows).max(axis=1)
    if not np.isfinite(largest).all():
        raise VectorInvalid(f"{about} holds NaN or infinity")
    if not largest.all():
        raise VectorInvalid(f"{about} is all zeros: it has no direction")
    rows = rows / largest[:, None]  # or squares of tiny or huge numbers would be zero or infinity
    made: Floats = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype("<f4")
    return made
