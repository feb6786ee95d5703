"""Questions of a test that its stand-in cannot answer."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors._base import DspexError

__all__ = ["CassetteMiss", "ScriptExhausted", "ScriptMisspelt", "StandInError"]


class StandInError(DspexError, LookupError):
    """A stand-in of a test (a script, a cassette) has no answer: the test is wrong, or the program has changed."""


class ScriptExhausted(StandInError):
    """
    A ``ScriptedLM`` has no answer left for a predictor.

    Attributes:
        path: Where the predictor sits in the program; empty when it is not part of one.
        call: Which call of this predictor it was, from 1.
        known: The paths that the script has answers for.
    """

    def __init__(self, path: str, call: int, known: Sequence[str]) -> None:
        self.path = path
        self.call = call
        self.known = tuple(known)
        who = repr(path) if path else "a predictor that is not part of the program"
        have = f" (it has answers for {', '.join(map(repr, known))})" if known and path not in known else ""
        super().__init__(
            f"the script has no answer left for {who}, call {call}{have}; an answer that cannot be read is asked for "
            f"again, which with_config(repair_turns=0) turns off"
        )


class ScriptMisspelt(StandInError):
    """
    A ``ScriptedLM`` has an answer whose field is spelt otherwise than the one that is asked for.

    Attributes:
        path: Where the predictor sits in the program; empty when it is not part of one.
        field: The field of the script.
        meant: The field that is asked for.
    """

    def __init__(self, path: str, field: str, meant: str) -> None:
        self.path = path
        self.field = field
        self.meant = meant
        who = repr(path) if path else "a predictor that is not part of the program"
        super().__init__(f"the script answers {who} with {field!r}, but {meant!r} is asked for")


class CassetteMiss(StandInError):
    """
    A cassette has no answer for a request, and may not or cannot record one.

    Attributes:
        file: The cassette.
        digest: Names the request: of its address and its body.
        number: Which request with this digest it was, from 1.
    """

    def __init__(self, file: str, digest: str, number: int, request: str, advice: str) -> None:
        self.file = file
        self.digest = digest
        self.number = number
        again = "" if number == 1 else f" (number {number} of its kind)"
        super().__init__(f"{file} has no answer for the request {digest}{again}, {request}; {advice}")
