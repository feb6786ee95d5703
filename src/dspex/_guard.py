"""
Code of others at places that nothing may break: what it raises is contained here.

A dying process runs code that it did not write: ``terminate``, closers, telemetry and log handlers, ``__str__`` and
``__repr__`` of whatever it was sent. None of it may stop the death, so whoever calls such code from there catches
``BaseException`` and says so with ``contained``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

__all__ = ["LONGEST_SHOWN", "class_name", "contained", "exact_text", "shown", "text_of"]

_NAME: Final = type.__dict__["__name__"]

LONGEST_SHOWN: Final = 500
"""Characters of a value that a report shows."""


def contained(error: BaseException) -> None:
    """
    Let ``error`` go no further, unless it is a KeyboardInterrupt.

    An interrupt is meant for the program: it leaves the running loop in its next turn, when the caller has done what
    it must do. Without a running loop it is raised here.
    """
    if issubclass(type(error), KeyboardInterrupt):  # its class may say of itself what it likes
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise error from None
        loop.call_soon(_raise, error)


def shown(value: object) -> str:
    """Return the beginning of ``repr(value)``, whatever its class makes of that."""
    return _guarded(repr, value)[:LONGEST_SHOWN]


def text_of(value: object) -> str:
    """Return ``str(value)``, whatever its class makes of that."""
    return _guarded(str, value)


def exact_text(value: str) -> str:
    """Return ``value`` as a ``str`` proper: a subclass may do anything when it is printed, compared or hashed."""
    return value if type(value) is str else str.__str__(value)


def class_name(value: object) -> str:
    """Return the name of the class of ``value``, past whatever its metaclass makes of that."""
    name: str = _NAME.__get__(type(value))
    return name


def _guarded(render: Callable[[object], str], value: object) -> str:
    try:
        return exact_text(render(value))
    except BaseException as error:  # noqa: BLE001 - a report about a value must not fail because of the value
        contained(error)
        return f"<{class_name(value)} that cannot be shown>"


def _raise(error: BaseException) -> NoReturn:
    raise error
