"""Decide who may run now, who waits, and who is refused: pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from dspex.errors import Overloaded

__all__ = ["Admission", "Ticket"]


@dataclass(slots=True, order=True)
class Ticket:
    """A place in the waiting room; lower ``priority`` first, then first come first served."""

    priority: int
    number: int
    gone: bool = False


class Admission:
    """
    A bounded number of running requests and a bounded waiting room.

    Args:
        max_running: Requests at once.
        max_waiting: Requests waiting; one more is Overloaded.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.running = 0
        self._waiting: list[tuple[Ticket, Callable[[], None]]] = []
        self._gone = 0
        self._number = 0

    @property
    def waiting(self) -> int:
        """Requests in the waiting room."""
        return len(self._waiting) - self._gone

    def enter(self, priority: int, start: Callable[[], None]) -> Ticket | None:
        """
        Take a place if there is one, and return None; or have ``start`` called later: the ticket takes the wish back.

        Raises:
            Overloaded: The waiting room is full.
        """
        if self.running < self.max_running:
            self.running += 1
            return None
        if self.waiting >= self.max_waiting:
            raise Overloaded(self.running, self.waiting, 1.0)
        self._number += 1
        ticket = Ticket(priority, self._number)
        heapq.heappush(self._waiting, (ticket, start))
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Leave the waiting room; a second time does nothing."""
        if not ticket.gone:
            ticket.gone = True
            self._gone += 1

    def leave(self) -> None:
        """Give a place back; who has waited longest at the best priority gets it."""
        self.running -= 1
        while self._waiting and self.running < self.max_running:
            ticket, start = heapq.heappop(self._waiting)
            if ticket.gone:
                self._gone -= 1
                continue
            ticket.gone = True
            self.running += 1
            start()
