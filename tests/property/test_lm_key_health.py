"""The health of a key, against a model of one flag, two numbers and a probe."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.errors import (
    AuthFailed,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    TransportFailed,
)
from dspex.services.lm.key_health import KeyHealth

REFUSALS: list[LMError] = [QuotaExhausted("no credit", status=429), AuthFailed("bad key", status=401)]
ACCEPTED: list[LMError | None] = [None, RateLimited("slow", status=429), RequestRejected("no", status=400)]
SILENT: list[LMError] = [TransportFailed("reset"), ServerFailed("oh", status=500), AuthFailed("no key was given")]


class KeyMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.health = KeyHealth(cooldown=10.0, max_cooldown=40.0)
        self.now = 0.0
        self.error: LMError | None = None
        self.due = self.cooldown = 0.0
        self.probe: int | None = None
        self.others: list[int] = []  # calls sent while the key was good, and probes whose time is over

    @rule(step=st.floats(0, 30, allow_nan=False))
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule()
    def ask(self) -> None:
        may = self.error is None or (self.now >= self.due and self.probe is None)
        refusal = self.health.refusal(self.now)
        assert (refusal is None) == may
        if refusal is not None:
            assert self.error is not None
            assert type(refusal) is type(self.error)
            assert refusal.status == self.error.status
            assert refusal.__traceback__ is None
            assert str(refusal).startswith(str(self.error))
            return
        ticket = self.health.admit()
        assert (ticket == 0) == (self.error is None)
        if ticket:
            self.probe = ticket
        else:
            self.others.append(ticket)

    def refused(self, error: LMError, *, by_probe: bool) -> None:
        if self.error is None:
            self.error, self.cooldown, self.due = error, 10.0, self.now + 10.0
        elif by_probe:
            self.cooldown = min(40.0, self.cooldown * 2)
            self.error, self.due = error, self.now + self.cooldown

    @precondition(lambda self: self.others)
    @rule(error=st.sampled_from([*REFUSALS, *ACCEPTED, *SILENT]))
    def another_call_ends(self, error: LMError | None) -> None:
        """It was sent before: its refusal opens, its success closes nothing."""
        was = self.error
        changed = self.health.ended(self.others.pop(), error, self.now)
        if error in REFUSALS:
            assert error is not None
            self.refused(error, by_probe=False)
        assert changed == (self.error is not was)

    @precondition(lambda self: self.probe is not None)
    @rule(error=st.sampled_from([*REFUSALS, *ACCEPTED, *SILENT]))
    def the_probe_ends(self, error: LMError | None) -> None:
        assert self.probe is not None
        changed = self.health.ended(self.probe, error, self.now)
        self.probe = None
        assert changed == (error in ACCEPTED)
        if error in REFUSALS:
            assert error is not None
            self.refused(error, by_probe=True)
        elif error in ACCEPTED:
            self.error = None

    @precondition(lambda self: self.probe is not None)
    @rule()
    def the_probe_dies(self) -> None:
        assert self.probe is not None
        self.health.forgotten(self.probe)
        self.probe = None

    @invariant()
    def agrees(self) -> None:
        assert (self.health.error is None) == (self.error is None)
        left = max(0.0, self.due - self.now) if self.error is not None else 0.0
        assert abs(self.health.retry_after(self.now) - left) < 1e-6

    @invariant()
    def it_is_found_out_some_day(self) -> None:
        """Whatever happened, a call may go once the cooldown is over and no probe is out."""
        if self.probe is None:
            assert self.health.refusal(self.now + 40.0) is None


TestKeyMachine = KeyMachine.TestCase
