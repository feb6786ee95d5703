"""Names that a subclass must leave alone: the base class, or the runtime, counts on what they mean."""

from __future__ import annotations

import inspect
from typing import Final

from dspex.errors import SpecError
from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._ref import ActorRef

__all__ = ["refuse_shadows"]

_LIBRARY: Final = "dspex."
_RESERVED: Final = frozenset(("own", "priority_ref", "ref", "runtime", "send_after", "spawn_task"))
"""Members that every actor has, to be called and not to be replaced."""


def refuse_shadows(cls: type, root: type) -> None:
    """
    Check the names that a new class of users' defines, and those it has from other bases.

    Args:
        cls: The new class.
        root: The class at the top, ``Actor``.

    Raises:
        SpecError: A name of ``root``, or a private name of one of the library's classes, would mean something else;
            or ``ref_class`` is not a plain kind of ActorRef.
    """
    if cls.__module__.startswith(_LIBRARY):
        return
    ours = [base for base in cls.__mro__ if base.__module__.startswith(_LIBRARY) and issubclass(base, root)]
    theirs = [base for base in cls.__mro__ if base not in ours and base is not object]
    annotated = {name for base in theirs for name in inspect.get_annotations(base)}  # a dataclass sets them later
    for name in sorted(annotated.union(*map(vars, theirs))):
        if name in _RESERVED or name.startswith("_dspex_"):
            raise SpecError(
                name, f"{cls.__qualname__}.{name}", f"another name: every {root.__name__} has its own {name}"
            )
        private = name.startswith("_") and not name.startswith("__")
        owner = next((base for base in ours if name in vars(base)), None) if private else None
        if owner is not None:
            raise SpecError(name, f"{cls.__qualname__}.{name}", f"another name: it is private to {owner.__qualname__}")
    _check_values(cls)
    ref_class: object = getattr(cls, "ref_class", None)
    if not isinstance(ref_class, type) or not issubclass(ref_class, ActorRef) or _made_otherwise(ref_class):
        raise SpecError("ref_class", ref_class, "a subclass of ActorRef that is made as ActorRef is")


def _check_values(cls: type) -> None:
    """Refuse what the runtime cannot work with, before it is at work."""
    seconds = getattr(cls, "terminate_timeout", None)
    if not isinstance(seconds, property):
        finite = finite_timeout(seconds)
        if finite is not None and finite < 0.0:
            raise SpecError("terminate_timeout", seconds, "None or a number of seconds >= 0")
    limit = getattr(cls, "mailbox_limit", None)
    number = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    if limit is not None and not number and not isinstance(limit, property):
        raise SpecError("mailbox_limit", limit, "None or an int >= 0")


def _made_otherwise(ref_class: type) -> bool:
    below = ref_class.__mro__[: ref_class.__mro__.index(ActorRef)]
    return any("__init__" in vars(each) or "__new__" in vars(each) for each in below)
