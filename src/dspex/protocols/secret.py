"""A value that is never shown."""

from __future__ import annotations

import hashlib
from typing import NoReturn

__all__ = ["Secret"]


class Secret:
    """A string that never shows itself: not in ``repr``, ``str``, logs, tracebacks or comparisons by others."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself; only a transport that is about to send it calls this."""
        return self._value

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell keys apart without telling the key."""
        return hashlib.sha256(self._value.encode()).hexdigest()[:8]

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a secret is never pickled: leave out api_key and headers; each App reads its key from its environment"
        )

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
