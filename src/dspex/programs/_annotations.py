"""Read authors' annotations in the same way whenever Python evaluates them: at once, as text, or (3.14) when asked."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex.errors import SignatureError
from dspex.programs.fields import FieldSpec

__all__ = ["ClassAnnotations", "parameters_of", "read_annotations", "resolve_annotations"]


@dataclass(frozen=True, slots=True)
class ClassAnnotations:
    """
    The own annotations of a class statement.

    Attributes:
        written: By name: the type, or its text where that is what Python has.
        names: The names that such text may use beside those of the module and of the function around the class.
    """

    written: Mapping[str, object]
    names: Mapping[str, object]


def read_annotations(body: Mapping[str, Any]) -> ClassAnnotations:
    """
    Return the annotations in a class body, before there is a class.

    From Python 3.14 on they are evaluated here, for a class has its fields as attributes, which would hide types of
    the same name (``date: date``). If one of them names what is not known, all are read as text, as everywhere
    under ``from __future__ import annotations``: what is not a field's need not be known.
    """
    names = {name: value for name, value in body.items() if not hasattr(value, "__get__")}  # no methods
    annotate = _annotate_of(body)
    if annotate is None:
        return ClassAnnotations(body.get("__annotations__", {}), names)
    own = body.get("__classdictcell__")
    if own is not None:  # the annotations look here first; ``type.__new__`` puts the class's attributes in
        own.cell_contents = names
    try:
        return ClassAnnotations(_evaluate(annotate, as_text=False), names)
    except (NameError, TypeError, AttributeError):
        return ClassAnnotations(_evaluate(annotate, as_text=True), _closure(annotate) | names)


def resolve_annotations(
    cls: type, found: ClassAnnotations, names: Iterable[str], caller: types.FrameType | None
) -> dict[str, object]:
    """
    Return the class's own annotations for ``names`` as types.

    Text is looked up in the class body, in the function around the class statement, then in its module.

    Raises:
        SignatureError: A name has no annotation, or one that cannot be resolved here.
    """
    for name in names:
        if name not in found.written:
            raise SignatureError(f"{cls.__name__}.{name} has no annotation: write `{name}: str = ...`")
        if isinstance(found.written[name], FieldSpec):  # before Python 3.14, and not under the import named here
            raise SignatureError(
                f"{cls.__name__}.{name}: its type is read as the field of the same name above it; "
                f"put `from __future__ import annotations` at the top of the module"
            )

    def holder() -> None: ...

    module = sys.modules.get(cls.__module__)
    scope = dict(caller.f_locals) if caller is not None else {}
    scope |= _type_parameters(cls) | dict(found.names)
    resolved: dict[str, object] = {}
    for name in names:
        holder.__annotations__ = {name: found.written[name]}
        try:
            resolved |= typing.get_type_hints(holder, vars(module) if module else {}, scope, include_extras=True)
        except (NameError, SyntaxError, TypeError, AttributeError) as error:
            raise SignatureError(
                f"{cls.__name__}.{name}: the type {found.written[name]!r} cannot be resolved ({error}); "
                f"define or import it before the signature"
            ) from error
    return resolved


def parameters_of(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """
    Return the parameters of a function, in order; what its annotations name need not be known.

    Raises:
        TypeError, ValueError: It is not callable, or Python does not know its parameters.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF).parameters
    return inspect.signature(function).parameters


def _annotate_of(body: Mapping[str, object]) -> Callable[..., object] | None:
    """Return what evaluates the annotations of a class body, where Python leaves that until they are read."""
    if sys.version_info >= (3, 14):
        from annotationlib import get_annotate_from_class_namespace

        return get_annotate_from_class_namespace(body)
    return None


def _evaluate(annotate: Callable[..., object], *, as_text: bool) -> Mapping[str, object]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, call_annotate_function

        return call_annotate_function(annotate, Format.STRING if as_text else Format.VALUE)
    return {}


def _closure(annotate: Callable[..., object]) -> dict[str, object]:
    """Return the names of the functions around a class that its annotations use, as far as they are set."""
    found: dict[str, object] = {}
    code = getattr(annotate, "__code__", None)
    cells = getattr(annotate, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not yet
            continue
    return found


def _type_parameters(cls: type) -> dict[str, object]:
    """Names of Python 3.12 type parameters of the class, which no module holds."""
    return {each.__name__: each for each in getattr(cls, "__type_params__", ())}
