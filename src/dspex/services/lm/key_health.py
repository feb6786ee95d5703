"""
The health of a key, by which it is asked or not: pure, driven with an explicit ``now``.

An empty balance and a refused key are the same for every call with that key, so the first one to hear of it answers for
all, until somebody has paid: one call is let through from time to time to find out.
"""

from __future__ import annotations

from dspex.errors import LMError
from dspex.services.lm.retry import is_key_failure, reworded

__all__ = ["KeyHealth"]


class KeyHealth:
    """
    Closed, or refusing with the provider's own error.

    After ``cooldown`` seconds one call is the probe. It closes when the key was accepted; when the key was refused
    again the cooldown doubles, up to ``max_cooldown``; when the probe tells nothing its place is free again.
    """

    __slots__ = ("_base", "_cooldown", "_max", "_opened_at", "_probe", "_tickets", "error")

    def __init__(self, *, cooldown: float = 30.0, max_cooldown: float = 600.0) -> None:
        if not 0 < cooldown <= max_cooldown:
            raise ValueError("key health needs 0 < cooldown <= max_cooldown")
        self.error: LMError | None = None
        """The provider's error about the key, while it is refused."""
        self._base = self._cooldown = cooldown
        self._max = max_cooldown
        self._opened_at = 0.0
        self._probe: int | None = None
        self._tickets = 0

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is due; 0 while the key is good, or when one is due or out."""
        return max(0.0, self._opened_at + self._cooldown - now) if self.error is not None else 0.0

    def refusal(self, now: float) -> LMError | None:
        """Return the error for a call that is not to be sent, or ``None`` when it may go."""
        error = self.error
        if error is None or (self.retry_after(now) == 0.0 and self._probe is None):
            return None
        left = self.retry_after(now)
        when = f"the key is tried again in {left:.0f} s" if left else "the key is being tried again"
        refusal = reworded(error, f" (heard before, nothing was sent; {when})")
        refusal.retry_after = left
        return refusal

    def admit(self) -> int:
        """Note a call that ``refusal`` let through, and return its ticket: 0 while the key is good."""
        if self.error is None:
            return 0
        self._tickets += 1
        self._probe = self._tickets
        return self._tickets

    def ended(self, ticket: int, error: LMError | None, now: float) -> bool:
        """
        Note what a call that was sent came to; True when the key's state has changed.

        A refusal opens whoever hears it; only the probe closes, and only when the provider looked at the key.
        """
        if error is not None and is_key_failure(error):
            if self.error is None:
                self.error, self._cooldown, self._opened_at = reworded(error, ""), self._base, now
                return True
            if ticket and ticket == self._probe:
                self.error, self._opened_at, self._probe = reworded(error, ""), now, None
                self._cooldown = min(self._max, self._cooldown * 2)
            return False
        if not ticket or ticket != self._probe:
            return False
        self._probe = None
        if error is not None and (error.status is None or error.status >= 500):
            return False
        self.error = None
        return True

    def forgotten(self, ticket: int) -> None:
        """Note that a call ended without telling anything: a probe's place is free again."""
        if ticket and ticket == self._probe:
            self._probe = None

    def __repr__(self) -> str:
        return f"<KeyHealth {type(self.error).__name__ if self.error is not None else 'good'}>"
