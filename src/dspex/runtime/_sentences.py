"""The words of a log record: what happened, to whom and why, in one line of a bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dspex._guard import class_name, text_of
from dspex.runtime._exit import Crashed

if TYPE_CHECKING:
    from dspex.runtime._process import Process

__all__ = ["SAYS", "nth", "path_of", "said", "sentence", "where", "why"]

SAYS: Final = "says"
"""The field of a record that says how its sentence is made, with the names of other fields in braces."""

_LONGEST: Final = 300
"""Characters of one field in a sentence."""
_LABEL: Final = 80
_LEVELS: Final = 12
"""Ancestors that a path names."""


def said(value: object, longest: int = _LONGEST) -> str:
    """Return the beginning of ``str(value)`` in one line, whatever its class makes of that."""
    text = " ".join(text_of(value)[: 4 * longest].split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def why(reason: object) -> str:
    """Return what ended a process, or kept it from starting: a crash by its error alone."""
    while type(reason) is Crashed:
        reason = reason.error
    if issubclass(type(reason), BaseException):
        text = said(reason)
        return f"{class_name(reason)}: {text}" if text else class_name(reason)
    return said(reason)


def path_of(process: Process) -> str:
    """Return the labels of those above a process and its own, the topmost first; of a deep tree the lower end."""
    labels: list[str] = []
    each: Process | None = process
    while each is not None and len(labels) < _LEVELS:
        labels.append(said(each.label, _LABEL))
        each = each.parent
    if each is not None:
        labels.append("…")
    return "/".join(reversed(labels))


def nth(number: int) -> str:
    """Return ``number`` as an ordinal: ``1st``."""
    teens = 10 < number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def where(stack: str) -> str:
    """Return the innermost place of a printed stack."""
    places = [line.strip() for line in stack.splitlines() if line.lstrip().startswith("File ")]
    return places[-1] if places else "an unknown place"


def sentence(event: str, fields: Mapping[str, object]) -> str:
    """Return the sentence that ``fields`` ask for, the event itself where they do not, or where it cannot be made."""
    template = fields.get(SAYS)
    if template is None:
        return event
    texts = {name: said(value) for name, value in fields.items()}
    error = fields.get("exc_info")
    if issubclass(type(error), BaseException):
        texts["error"] = why(error)
    try:
        return str(template).format_map(texts)
    except (LookupError, ValueError, AttributeError):  # the template is wrong: what happened is still to be heard
        return event
