"""The root of the tree, and the class that blames dspex itself."""

from __future__ import annotations

__all__ = [
    "DspexError",
    "InternalError",
]


class DspexError(Exception):
    """Base of everything dspex raises on purpose; copied and pickled by its text and its attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[DspexError], args: tuple[object, ...], attributes: dict[str, object]) -> DspexError:
    error = kind.__new__(kind, *args)  # not by its constructor, which makes the text from the attributes
    error.args = args  # some built-in bases leave that to their constructors
    error.__dict__.update(attributes)
    return error


class InternalError(DspexError):
    """An invariant of dspex itself does not hold: this is a bug in dspex, please report it."""

    def __init__(self, message: str) -> None:
        super().__init__(f"this is a bug in dspex, please report it: {message}")
