"""The users' own code behind a program: its classes, the functions they call, and the constants they read."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import sys
import textwrap
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, get_args

from dspex.programs import Module

__all__ = ["is_users", "path_of", "sources_of"]

_LIBRARIES = ("site-packages", "dist-packages")
_FIXED = (str, bytes, bool, int, float, complex, type(None))
_MOST = 2_000
"""So many classes, functions and constants are looked at; a program that has more is known by these."""


def path_of(thing: object) -> str:
    """Return where a class or function was defined, of an object where its class was."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def is_users(module: str | None) -> bool:
    """True for a module that is neither dspex, nor the standard library, nor an installed package."""
    top = (module or "").partition(".")[0]
    if top in ("", "dspex") or (top in sys.stdlib_module_names and top != "__main__"):
        return False
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return not any(each in file for each in _LIBRARIES)


def sources_of(things: Iterable[object]) -> dict[str, list[str]]:
    """
    Return the lines of each class, function and constant that these lead to, by ``module:name``.

    The lines are those of the parsed source: comments and layout take no part. Where there is no source (a prompt of
    the interpreter), a hash of the compiled code stands for it. Code of libraries is not looked into, and neither is
    what a name leads to only at run time (``getattr``, a registry).
    """
    found: dict[str, list[str]] = {}
    waiting: deque[object] = deque(things)
    seen: set[int] = set()
    kept: list[object] = []  # an id is one object's for as long as that lives

    def look_into(function: types.FunctionType) -> None:
        for where, value in _used_by(function):
            if isinstance(value, _FIXED):
                found[where] = [repr(value)]
            elif isinstance(value, (list, dict, set, tuple, frozenset)):
                found[where] = _assigned(where) or [type(value).__name__]
                waiting.extend(_inside(value))
            elif isinstance(value, Module):
                found[where] = [json.dumps(each, sort_keys=True) for each in value.dump_state().items()]
                waiting.append(type(value))
            else:
                waiting.append(value)

    while waiting and len(seen) < _MOST:
        thing = _plain_function(waiting.popleft())
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kept.append(thing)
        if isinstance(thing, type):
            waiting += get_args(thing)
            if is_users(thing.__module__):
                found[path_of(thing)] = _lines(thing)
                waiting += thing.__bases__
                for method in map(_plain_function, vars(thing).values()):
                    if inspect.isfunction(method) and is_users(method.__module__):
                        look_into(method)
        elif inspect.isfunction(thing):
            if is_users(thing.__module__):
                found[path_of(thing)] = _lines(thing)
                look_into(thing)
        elif not isinstance(thing, types.ModuleType):
            waiting += get_args(thing)
            waiting.append(type(thing))
    return found


def _plain_function(thing: object) -> object:
    """Return the function beneath wrappers of Python's own."""
    while True:
        if isinstance(thing, functools.partial):
            thing = thing.func
        elif isinstance(thing, (staticmethod, classmethod)) or inspect.ismethod(thing):
            thing = thing.__func__
        elif isinstance(thing, property):
            thing = thing.fget
        elif isinstance(thing, functools.cached_property):
            thing = thing.func
        elif inspect.isfunction(thing) and hasattr(thing, "__wrapped__"):
            thing = thing.__wrapped__
        else:
            return thing


def _used_by(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the global names, closure cells and attributes of modules that a function reads, with their values."""
    names = frozenset(_names(function.__code__))
    own = function.__globals__
    for name in sorted(names & own.keys()):
        value = own[name]
        if not isinstance(value, types.ModuleType):
            yield f"{function.__module__}:{name}", value
        elif is_users(value.__name__):
            for part in sorted(names & vars(value).keys()):
                yield f"{value.__name__}:{part}", vars(value)[part]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{path_of(function)}:{name}", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for number, default in enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())):
        yield f"{path_of(function)}:default {number}", default


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def _inside(value: Iterable[object]) -> Iterator[object]:
    """Yield the functions and classes in a table, one level deep."""
    for each in value.values() if isinstance(value, Mapping) else value:
        if callable(each):
            yield each


def _lines(thing: type | types.FunctionType) -> list[str]:
    """Return the source of a class or function without comments and layout; of compiled code a hash."""
    try:
        text = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return [f"compiled code {_code_hash(thing)}"]
    try:
        return ast.unparse(ast.parse(text)).splitlines()
    except (SyntaxError, ValueError, RecursionError):  # a lambda in the middle of an expression
        return text.strip().splitlines()


def _code_hash(thing: type | types.FunctionType) -> str:
    functions = [thing] if inspect.isfunction(thing) else [_plain_function(each) for each in vars(thing).values()]
    found = hashlib.sha256()
    for each in functions:
        if inspect.isfunction(each):
            _add_code(found, each.__code__)
    return found.hexdigest()[:16]


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...


def _add_code(found: _Hash, code: types.CodeType) -> None:
    found.update(code.co_code)
    found.update(repr(code.co_names).encode("utf-8", "backslashreplace"))
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            _add_code(found, each)
        else:
            text = repr(sorted(map(repr, each)) if isinstance(each, frozenset) else each)
            found.update(text.encode("utf-8", "backslashreplace"))


def _assigned(where: str) -> list[str]:
    """Return the statements that give a module's name its value; a table may change while the program runs."""
    module, _, name = where.partition(":")
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return []
    found: list[str] = []
    for each in tree.body:
        targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found += ast.unparse(each).splitlines()
    return found
