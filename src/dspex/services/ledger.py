"""The ledger: what has been used, per App; budgets will be enforced here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dspex.protocols.lm import Usage
from dspex.runtime import Actor, ChildSpec, From, Next, Reply

__all__ = ["LEDGER", "Booking", "LedgerBook", "LedgerServer"]

LEDGER = "ledger"
"""The name under which the ledger's actor is registered."""


@dataclass(frozen=True, slots=True)
class Booking:
    """One logical LM call that was paid for."""

    model: str
    usage: Usage
    attempts: int


@dataclass(slots=True)
class LedgerBook:
    """The totals; they outlive the actor that writes them."""

    calls: int = 0
    attempts: int = 0
    usage: Usage = field(default_factory=Usage)
    by_model: dict[str, Usage] = field(default_factory=dict)

    def add(self, booking: Booking) -> None:
        """Add one call."""
        self.calls += 1
        self.attempts += booking.attempts
        self.usage += booking.usage
        self.by_model[booking.model] = self.by_model.get(booking.model, Usage()) + booking.usage


class LedgerServer(Actor):
    """Adds up bookings; answers any call with the book."""

    def __init__(self, book: LedgerBook) -> None:
        self._book = book

    @staticmethod
    def spec(book: LedgerBook) -> ChildSpec:
        """Return the child spec of the ledger's actor."""
        return ChildSpec(LEDGER, LedgerServer, (book,), name=LEDGER)

    async def handle_cast(self, message: Any) -> Next:
        """Book one call."""
        assert isinstance(message, Booking)
        self._book.add(message)
        return None

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Answer with the book."""
        return Reply(self._book)

    def describe(self) -> str:
        """Tell calls and tokens."""
        return f"{self._book.calls} calls, {self._book.usage.total_tokens:,} tokens"
