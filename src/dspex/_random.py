"""The only reader of entropy: everything else draws from a generator it was given."""

from __future__ import annotations

import random
import secrets

__all__ = ["fresh_id", "fresh_number", "fresh_token", "generator"]


def generator(seed: int | None = None) -> random.Random:
    """Return a generator: the same seed gives the same numbers; ``None`` gives fresh ones."""
    return random.Random(secrets.randbits(64) if seed is None else seed)


def fresh_id(prefix: str) -> str:
    """Return a short id nobody has had before, such as ``job-3f9a1c02``."""
    return f"{prefix}-{secrets.token_hex(4)}"


def fresh_number(below: int) -> int:
    """Return a whole number from 0 on that nobody can guess."""
    return secrets.randbelow(below)


def fresh_token() -> str:
    """Return a secret that nobody can guess."""
    return secrets.token_urlsafe(24)
