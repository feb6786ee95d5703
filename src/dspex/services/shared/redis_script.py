"""Scripts that run inside Redis, sent by their digest."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

__all__ = ["RedisScript", "script"]


class RedisScript(NamedTuple):
    """A script, and the name by which a server knows it that has seen it."""

    text: str
    sha: str


def script(text: str) -> RedisScript:
    """Return a script for its text."""
    return RedisScript(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
