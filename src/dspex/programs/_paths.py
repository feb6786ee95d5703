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
    stack: list[tuple[str, Any]] = [("", root)]
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
        elif type(value) in (list, tuple):
            children = [(f"{path}[{at}]", each) for at, each in enumerate(value)]
        elif type(value) is dict:
            children = [(f"{path}[{key!r}]", each) for key, each in value.items() if isinstance(key, str)]
        else:
            continue
        stack += reversed(children)


def substitute(root: M, changes: Mapping[int, Module], module_class: type[Module]) -> M:
    """Return ``root`` with every module whose ``id`` is in ``changes`` exchanged; what does not change is shared."""
    memo: dict[int, Any] = dict(changes)

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


def clone(module: M, attributes: Mapping[str, Any]) -> M:
    """Return a frozen module of the same class with these attributes, without running ``__init__``."""
    copy = object.__new__(type(module))
    vars(copy).update(attributes)
    return copy


class PredictorPaths:
    """
    The paths of one program's predictors, by identity: for traces and labels.

    A predictor made inside ``forward`` by ``with_lm``, ``with_demos`` or ``with_config`` has the path of the one it
    was made from. Build one per request; it looks at the program when it is first asked.
    """

    __slots__ = ("_paths", "_program")

    def __init__(self, program: object) -> None:
        self._program = program  # ids stay theirs as long as the program lives
        self._paths: dict[int, str] | None = None

    def _find(self) -> dict[int, str]:
        predictors = getattr(self._program, "predictors", None)
        found: Mapping[str, Predict[Any, ...]] = predictors() if predictors is not None else {}
        self._paths = {id(predictor): path for path, predictor in found.items()}
        return self._paths

    def path_of(self, predictor: object) -> str:
        """Return where the predictor sits (``answer.predict``); empty when it is no part of the program."""
        paths = self._paths if self._paths is not None else self._find()
        path = paths.get(id(predictor))
        if path is not None:
            return path
        lineage: tuple[weakref.ref[object], ...] = getattr(predictor, "_lineage", ())
        for reference in lineage:
            ancestor = reference()
            if ancestor is not None and id(ancestor) in paths:
                return paths[id(ancestor)]
        return ""
