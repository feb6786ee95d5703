"""Errors in a program, its inputs or the model's answer to it."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors._base import DspexError

__all__ = [
    "AnswerRejected",
    "DepsError",
    "MissingInput",
    "OutputNotSet",
    "ProgramError",
    "ProgramFrozen",
    "ResponseUnparsable",
    "SignatureError",
    "StateError",
]


class ProgramError(DspexError):
    """A program, its signature or its inputs are wrong, or the model's answer does not fit them."""


class SignatureError(ProgramError, ValueError):
    """A signature cannot be compiled; the message names the part and what was expected."""


class MissingInput(ProgramError, TypeError):
    """
    Inputs do not fit the program: ``missing`` are absent, ``unexpected`` unknown, ``invalid`` of a wrong type.

    ``known`` are the inputs that it takes, for the message of unexpected ones.
    """

    def __init__(
        self,
        program: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        invalid: Sequence[str] = (),
        where: str = "",
        known: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.invalid = tuple(invalid)
        parts = []
        if missing:
            parts.append("missing " + ", ".join(missing))
        if unexpected:
            parts.append("unexpected " + ", ".join(unexpected))
        if invalid:
            parts.append("; ".join(invalid))
        if unexpected and known:
            parts.append(f"it takes {', '.join(known)}")
        super().__init__(f"{where}{program}: " + "; ".join(parts))


class ResponseUnparsable(ProgramError):
    """
    The completion does not give the signature's outputs.

    Attributes:
        raw: The completion as it came.
        missing_fields: Outputs for which there was no value.
        invalid_fields: Field name to what was wrong with its value.
    """

    def __init__(
        self,
        signature: str,
        raw: str,
        missing_fields: Sequence[str] = (),
        invalid_fields: dict[str, str] | None = None,
    ) -> None:
        self.signature = signature
        self.raw = raw
        self.missing_fields = tuple(missing_fields)
        self.invalid_fields = dict(invalid_fields or {})
        wrong = [f"no value for {name}" for name in self.missing_fields]
        wrong += [f"{name}: {problem}" for name, problem in self.invalid_fields.items()]
        shown = raw if len(raw) <= 200 else raw[:200] + "…"
        super().__init__(f"the completion does not fit {signature} ({'; '.join(wrong)}); it was: {shown!r}")


class AnswerRejected(ProgramError):
    """
    Every answer was refused by the check of a ``Retry``.

    Attributes:
        complaints: The complaints about the last one.
        answer: The last one.
    """

    def __init__(self, program: str, complaints: Sequence[str], answer: object) -> None:
        self.program = program
        self.complaints = tuple(complaints)
        self.answer = answer
        super().__init__(f"no answer of {program} was accepted; the last: {'; '.join(self.complaints)}")


class ProgramFrozen(ProgramError, AttributeError):
    """A module was assigned to after ``__init__``; programs are values."""

    def __init__(self, program: str, name: str) -> None:
        super().__init__(
            f"{program}.{name} cannot be assigned: programs are frozen after __init__; "
            f"use with_lm(), with_demos(), with_config() or replace() to get a changed copy"
        )


class OutputNotSet(ProgramError, AttributeError):
    """An output was read that was never set."""

    def __init__(self, signature: str, field: str) -> None:
        self.signature = signature
        self.field = field
        super().__init__(f"{signature}.{field} is an output and has not been set")


class StateError(ProgramError, ValueError):
    """A saved program is damaged or belongs to another program; the program it was loaded into is untouched."""


class DepsError(ProgramError, TypeError):
    """``options(deps=…)`` is missing or not of the class that a tool declared."""
