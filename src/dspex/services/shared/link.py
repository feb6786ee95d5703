"""A connection to a shared store, as the actor that owns it sees it; one module beside this for each kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

__all__ = ["Link", "SchemaPart"]

C = TypeVar("C", contravariant=True)
R = TypeVar("R")


class SchemaPart(NamedTuple):
    """
    Tables and functions of one use of Postgres, all of them in the schema ``dspex``.

    Attributes:
        name: The use: ``cache``, ``limits``.
        version: Raised with every change of ``script``.
        script: Makes them, or brings an older version to this one; run in one transaction, by one process at a time.
    """

    name: str
    version: int
    script: str


class Link(Protocol):
    """One open store, until it fails for the first time; then another link is opened in its place."""

    async def open(self, parts: Sequence[SchemaPart]) -> None:
        """Connect, and make what is missing there; whatever is raised means that the store is down."""
        ...

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        """
        Await ``work`` with a connection that nobody else uses meanwhile.

        Cancellation: the connection is closed, for an answer is still on its way in it.
        """
        ...

    def is_down(self, error: Exception) -> bool:
        """True when an error says that the store cannot be reached; False when it refused one operation."""
        ...

    async def close(self) -> None:
        """Close all connections at once; never waits for the other side."""
        ...
