"""Where predictors sit in a program, and programs with some of their parts exchanged."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dspex.programs.module import Module
    from dspex.programs.predict import Predict

__all__ = ["PredictorPaths", "substitute", "walk"]

M = TypeVar("M", bound="Module")


def walk(root: Module, module_class: type[Module]) -> Iterator[tuple[str, Module]]:
    """
    Yield every module below ``root`` once, with its path, in the order of the attributes.

    Paths are dotted; elements of lists and tuples are ``[0]``, of dicts ``['key']``.
    """
    seen = {id(root)}
    stack: list[tuple[str, object]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, module_class):
            if path:
                if id(value) in seen:
                    continue
                seen.add(id(value))
                yield path, value
            prefix = f"{path}." if path else ""
            children = [(f"{prefix}{name}", each) for name, each in vars(value).items() if not name.startswith("__")]
        elif type(value) is list or type(value) is tuple:
            children = [(f"{path}[{at}]", each) for at, each in enumerate(value)]
        elif type(value) is dict:
            children = [(f"{path}[{key!r}]", each) for key, each in value.items() if isinstance(key, str)]
        else:
            continue
        stack += reversed(children)


def substitute(root: M, changes: Mapping[int, Module], module_class: type[Module]) -> M:
    """Return ``root`` with every module whose ``id`` is in ``changes`` exchanged; what does not change is shared."""
    memo: dict[int, object] = dict(changes)

    def visit(value: Any) -> Any:
        if isinstance(value, module_class):
            key = id(value)
            if key not in memo:
                memo[key] = value  # a cycle leads back to the original
                attributes = {name: visit(each) for name, each in vars(value).items()}
                if any(attributes[name] is not each for name, each in vars(value).items()):
                    memo[key] = clone(value, attributes)
            return memo[key]
        if type(value) in (list, tuple):
            items = [visit(each) for each in value]
            return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
        if type(value) is dict:
            entries = {key: visit(each) for key, each in value.items()}
            return entries if any(entries[key] is not each for key, each in value.items()) else value
        return value

    changed: M = visit(root)
    return changed


def clone(module: M, attributes: Mapping[str, object]) -> M:
    """Return a frozen module of the same class with these attributes, without running ``__init__``."""
    copy = object.__new__(type(module))
    vars(copy).update(attributes)
    vars(copy).pop(_FOUND, None)
    return copy


_FOUND = "_predictor_paths_"


class _Found:
    """The predictors found in a program with their paths, by identity, and alive as long as this."""

    __slots__ = ("paths",)

    def __init__(self, predictors: Mapping[str, Predict]) -> None:
        self.paths = {id(predictor): (path, predictor) for path, predictor in predictors.items()}

    def get(self, predictor: object) -> str | None:
        path, found = self.paths.get(id(predictor), (None, None))
        return path if found is predictor else None


class PredictorPaths:
    """
    The paths of one program's predictors, by identity: for traces and labels.

    A predictor made inside ``forward`` by ``with_lm``, ``with_demos`` or ``with_config`` has the path of the one it
    was made from. The program is looked through once in its life, when it is first asked, and again only for a
    predictor that it did not have then.
    """

    __slots__ = ("_found", "_program")

    def __init__(self, program: object) -> None:
        self._program = program
        self._found: _Found | None = None

    def _find(self) -> _Found:
        predictors = getattr(self._program, "predictors", None)
        found = self._found = _Found(predictors() if predictors is not None else {})
        if found.paths and id(self._program) not in found.paths:  # a bare predictor must not keep itself alive
            vars(self._program)[_FOUND] = found
        return found

    def path_of(self, predictor: object) -> str:
        """Return where the predictor sits (``answer.predict``); empty when it is not part of the program."""
        found = self._found
        if found is None:
            if predictor is self._program and getattr(predictor, "is_predictor", False):
                return "self"  # a bare predictor, as ``Module.predictors`` names it: nothing to look through
            known = getattr(self._program, "__dict__", {}).get(_FOUND)
            if isinstance(known, _Found):
                found = self._found = known
                path = _path_in(found, predictor)
                if path is not None:
                    return path
            found = self._find()
        return _path_in(found, predictor) or ""


def _path_in(found: _Found, predictor: object) -> str | None:
    path = found.get(predictor)
    if path is not None:
        return path
    lineage: tuple[weakref.ref[object], ...] = getattr(predictor, "_lineage", ())
    for reference in lineage:
        ancestor = reference()
        if ancestor is not None and (path := found.get(ancestor)) is not None:
            return path
    return None
