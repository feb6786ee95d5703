"""Admission against a model: never more than its bounds, best priority first, nobody forgotten."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dspex.errors import Overloaded
from dspex.requests import Admission
from dspex.requests._admission import Ticket


class AdmissionMachine(RuleBasedStateMachine):
    """Requests enter, leave and give up in any order."""

    tickets: Bundle[tuple[int, Ticket]] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(max_running=2, max_waiting=3)
        self.running: list[int] = []
        self.waiting: list[tuple[int, int]] = []
        self.number = 0

    @rule(target=tickets, priority=st.integers(0, 2))
    def enter(self, priority: int) -> tuple[int, Ticket]:
        """Somebody asks for a place."""
        self.number += 1
        number = self.number
        full = len(self.running) == 2
        if full and len(self.waiting) == 3:
            with pytest.raises(Overloaded) as caught:
                self.admission.enter(priority, lambda: None)
            assert caught.value.retry_after > 0
            return -1, Ticket(0, 0, gone=True)
        ticket = self.admission.enter(priority, lambda: self.running.append(number))
        if full:
            assert ticket is not None
            self.waiting.append((priority, number))
            return number, ticket
        assert ticket is None  # the place is taken: who asked starts at once
        self.running.append(number)
        return -1, Ticket(0, 0, gone=True)

    @rule()
    def leave(self) -> None:
        """Somebody who runs ends; the best of the waiting takes the place."""
        if not self.running:
            return
        self.running.pop(0)
        expected = min(self.waiting, default=None)
        before = list(self.running)
        self.admission.leave()
        if expected is None:
            assert self.running == before
        else:
            self.waiting.remove(expected)
            assert self.running == [*before, expected[1]]

    @rule(entry=consumes(tickets))
    def withdraw(self, entry: tuple[int, Ticket]) -> None:
        """Somebody who waits gives up; a ticket that has been used is no longer theirs."""
        number, ticket = entry
        if any(waiting == number for _, waiting in self.waiting):
            self.admission.withdraw(ticket)
            self.admission.withdraw(ticket)
            self.waiting = [each for each in self.waiting if each[1] != number]

    @invariant()
    def counts_agree(self) -> None:
        """The numbers shown are the numbers there are."""
        assert self.admission.running == len(self.running) <= 2
        assert self.admission.waiting == len(self.waiting) <= 3


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(stateful_step_count=40)
