"""The mark ``[[ ## completed ## ]]`` behind an answer that was not asked for in header lines: taken off."""

from __future__ import annotations

from dspex.programs.adapters._headers import CLOSING, header

__all__ = ["ClosingFilter", "keep_closing", "without_closing"]

_MARK = header(CLOSING).rstrip()


def keep_closing(text: str) -> str:
    """Put a backslash before what would be taken for the mark."""
    bare = text.rstrip()
    return f"{bare[: -len(_MARK)]}\\{text[len(bare) - len(_MARK) :]}" if bare.endswith(_MARK) else text


def without_closing(text: str) -> tuple[str, bool]:
    """Return an answer without the mark behind it, and whether there was one; a backslash before it is taken away."""
    bare = text.rstrip()
    if not bare.endswith(_MARK):
        return text, False
    before = bare[: -len(_MARK)]
    return (before[:-1] + _MARK, False) if before.endswith("\\") else (before, True)


class ClosingFilter:
    """Does for a text that comes in pieces what ``without_closing`` does for a whole one."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Take what was added; return what of it is known not to be the mark."""
        text = self._held + text
        at = text.rfind("[[")
        if at < 0 or not (_MARK.startswith(text[at:]) or text[at:].rstrip() == _MARK):
            at = len(text) - text.endswith("[")
        while at and text[at - 1] == "\\":  # it may be the one that makes the mark a text
            at -= 1
        self._held = text[at:]
        return text[:at]

    def finish(self) -> str:
        """Take note that the text has ended; return what was held back and is not the mark."""
        held, self._held = self._held, ""
        return without_closing(held)[0]
