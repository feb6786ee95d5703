"""
``dataclass``: the standard library's, made in a third of the time.

The standard library writes six methods of each class as text and compiles every one of them. In a package of four
hundred small records that was a third of its import. Here only ``__init__`` is written, the others are closures. The
classes are dataclasses in all respects: ``fields``, ``replace``, ``asdict``, ``copy`` and type checkers know them.
(``InitVar`` is not supported, and nothing here has one.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, **options):
        """Return the class as a dataclass, or a decorator that does; the options are the standard library's."""
        return (lambda each: _made(each, **options)) if cls is None else _made(cls, **options)


__all__ = ["dataclass"]

_T = TypeVar("_T")
_standard: Final[Callable[..., Callable[[type], type]]] = dataclasses.dataclass


class _Factory:
    """Stands in a signature for a value that is made for each object."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY: Final = _Factory()


def _made(
    cls: type[_T],
    *,
    init: bool = True,
    repr: bool = True,  # noqa: A002 - the standard library's name
    eq: bool = True,
    frozen: bool = False,
    **others: bool,
) -> type[_T]:
    own = frozenset(cls.__dict__)
    is_derived = any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])
    if is_derived or others.keys() & {"order", "unsafe_hash"} or own & {"__setattr__", "__delattr__"}:
        return _standard(init=init, repr=repr, eq=eq, frozen=frozen, **others)(cls)  # there is more to decide
    has_hash = "__hash__" in own and not (cls.__dict__["__hash__"] is None and "__eq__" in own)
    is_described = bool(cls.__doc__)
    if not is_described:
        cls.__doc__ = cls.__name__  # so that no signature is made for it
    made = _standard(init=False, repr=False, eq=False, **others)(cls)
    found = dataclasses.fields(made)
    parameters = made.__dataclass_params__  # type: ignore[attr-defined]  # each dataclass has them
    parameters.init, parameters.repr, parameters.eq, parameters.frozen = init, repr, eq, frozen
    if not is_described:
        made.__doc__ = f"{made.__name__}({', '.join(each.name for each in found if each.init)})"
    methods: dict[str, object] = {}
    if init:
        methods["__init__"] = _init(made, found, frozen=frozen, slots=others.get("slots", False))
    if repr:
        methods["__repr__"] = _repr([each.name for each in found if each.repr])
    if eq:
        values = _values([each.name for each in found if each.compare])
        methods["__eq__"] = _eq(values)
        if not has_hash:
            hashed = _values([each.name for each in found if (each.compare if each.hash is None else each.hash)])
            made.__hash__ = _hash(hashed) if frozen else None  # type: ignore[assignment, method-assign]  # so Python says it
    if frozen:
        methods |= _frozen(made, frozenset(each.name for each in found))
        if others.get("slots"):
            methods |= {"__getstate__": _state, "__setstate__": _set_state}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


def _init(cls: type, found: tuple[Field[object], ...], *, frozen: bool, slots: bool) -> Callable[..., None]:
    """Return the method that takes the fields; its text holds their names and nothing else of them."""
    given: dict[str, object] = {"_set": object.__setattr__, "_MADE": _FACTORY}
    ordered: list[str] = []
    by_name: list[str] = []
    lines: list[str] = []
    for each in found:
        name, value = each.name, each.name
        given[f"_of_{name}"] = each.default if each.default_factory is MISSING else each.default_factory
        if each.default_factory is not MISSING:
            value = f"_of_{name}() if {name} is _MADE else {name}" if each.init else f"_of_{name}()"
        elif not each.init:
            if each.default is MISSING or not slots:
                continue
            value = f"_of_{name}"
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if each.init:
            has_default = each.default is not MISSING or each.default_factory is not MISSING
            default = "" if not has_default else "=_MADE" if each.default_factory is not MISSING else f"=_of_{name}"
            (by_name if each.kw_only else ordered).append(name + default)
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters = ", ".join(["self", *ordered, *(["*", *by_name] if by_name else [])])
    text = "".join(f"\n  {line}" for line in lines or ["pass"])
    written: dict[str, Callable[..., None]] = {}
    exec(f"def __init__({parameters}):{text}", given, written)  # noqa: S102 - names of fields, as the standard library does
    init = written["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = {each.name: each.type for each in found if each.init} | {"return": None}
    return init


def _repr(names: list[str]) -> Callable[[object], str]:
    def __repr__(self: object) -> str:  # noqa: N807 - it becomes one
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return recursive_repr()(__repr__)


def _values(names: list[str]) -> Callable[[object], object]:
    """Return what reads fields as a tuple: it compares identical values as equal, NaN among them."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda each: tuple(getattr(each, name) for name in names)


def _eq(values: Callable[[object], object]) -> Callable[[object, object], bool]:
    def __eq__(self: object, other: object) -> bool:  # noqa: N807 - it becomes one
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hash(values: Callable[[object], object]) -> Callable[[object], int]:
    def __hash__(self: object) -> int:  # noqa: N807 - it becomes one
        return hash(values(self))

    return __hash__


def _frozen(cls: type, names: frozenset[str]) -> dict[str, object]:
    """Return the methods that refuse to change a field; a subclass may have attributes of its own."""

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807 - it becomes one
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)  # type: ignore[arg-type]  # the class that is being made

    def __delattr__(self: object, name: str) -> None:  # noqa: N807 - it becomes one
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)  # type: ignore[arg-type]  # the class that is being made

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _state(self: object) -> list[object]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]  # type: ignore[arg-type]  # a method of dataclasses


def _set_state(self: object, state: list[object]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):  # type: ignore[arg-type]  # a method of dataclasses
        object.__setattr__(self, each.name, value)
