"""Failures of retrievers: passages, filters, vectors and index files that are not what they should be."""

from __future__ import annotations

from dspex.errors._services import RetrievalError

__all__ = [
    "DimensionMismatch",
    "FilterInvalid",
    "IndexDamaged",
    "PassageInvalid",
    "RetrieverLacks",
    "VectorInvalid",
]


class PassageInvalid(RetrievalError, ValueError):
    """A passage cannot be kept: its metadata is not a small JSON mapping, or a text has no UTF-8 form."""


class FilterInvalid(RetrievalError, ValueError):
    """A filter cannot be asked: a name, a value or a bound of it is of the wrong kind, or it is too large."""


class RetrieverLacks(RetrievalError):
    """
    A retriever was asked for an operation that it does not have.

    Attributes:
        retriever: Its name in the App, or its class.
        operation: ``filter``, ``add`` or ``delete``.
    """

    def __init__(self, retriever: str, operation: str, remedy: str) -> None:
        self.retriever = retriever
        self.operation = operation
        super().__init__(f"retriever {retriever!r} cannot {operation}: {remedy}")


class IndexDamaged(RetrievalError):
    """An index file is cut off, changed by somebody else, or of a format that this dspex does not read."""


class VectorInvalid(RetrievalError, ValueError):
    """A vector has no direction, or is none: it is all zeros, holds NaN or infinity, or is not a list of numbers."""


class DimensionMismatch(VectorInvalid):
    """
    A vector has another length than those of the index.

    Attributes:
        expected: The length of the index's vectors.
        found: The length of the one that was given.
    """

    def __init__(self, expected: int, found: int, about: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"{about} has {found} numbers, the index holds vectors of {expected}: use the embedder that the index was "
            "made with, or build the index again"
        )
