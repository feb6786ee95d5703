"""The parameters of a function as a model is told of them, and the check of what it gives for them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired, Required, get_args, get_origin, get_type_hints

from pydantic import (
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    with_config,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from dspex.errors import ToolArgumentsInvalid, ToolInvalid
from dspex.programs._annotations import parameters_of
from dspex.programs.adapters._exact_json import without_texts
from dspex.programs.adapters._forgive import forgiven, has_dates, refuse_swaps
from dspex.programs.adapters._repair import describe
from dspex.programs.adapters._types import Annotation, without_titles
from dspex.programs.run import Run
from dspex.programs.tools._docstring import Docstring
from dspex.protocols.json_values import Json, JsonDict

__all__ = ["Arguments", "arguments_of"]

_FRAMES = 12
"""
The number of frames in which local names are looked for: functions become tools in the caller of ``tool`` or ``ReAct``.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Arguments:
    """
    The parameters of a function.

    Attributes:
        schema: The JSON schema of the object of arguments.
        run: The parameter that gets the ``Run``; empty where there is none.
        deps: The class that ``Run[…]`` names; ``object`` takes anything.
    """

    schema: Json
    run: str
    deps: Annotation  # a class, a union of classes, or a special form that says nothing about classes
    _adapter: TypeAdapter[dict[str, object]]
    _positional: tuple[str, ...]
    _types: Mapping[str, object]
    _has_dates: bool  # pydantic takes any number for a date

    def check(self, tool: str, given: Mapping[str, object]) -> dict[str, object]:
        """
        Return the arguments as the parameters' types; what was left out is left to the function's defaults.

        Raises:
            ToolArgumentsInvalid: They do not fit; all problems are named.
        """
        try:
            if not self._has_dates:
                plain = without_texts(dict(given))
                found = dict(self._adapter.validate_python(plain))
                put = {name: refuse_swaps(each, self._types.get(name, object)) for name, each in plain.items()}
                return found if put == plain else dict(self._adapter.validate_python(put))
            return self._led(given)
        except Exception as error:  # noqa: BLE001 - validators of the user's run on what a model gave, and may raise anything
            problem = error
        try:
            if not self._has_dates:
                return self._led(given)
        except Exception:  # noqa: BLE001, S110 - as above
            pass  # what the arguments themselves failed with says more
        raise ToolArgumentsInvalid(tool, describe(problem), ", ".join(self.schema.get("properties", {}))) from problem

    def _led(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments with what is forgiven inside of them."""
        led = {name: forgiven(each, self._types[name]) if name in self._types else each for name, each in given.items()}
        return dict(self._adapter.validate_python(without_texts(led), by_alias=True, by_name=True))

    def split(self, values: Mapping[str, object]) -> tuple[list[object], dict[str, object]]:
        """Return the values as positional and keyword arguments; only what must be given by position is."""
        rest = dict(values)
        return [rest.pop(name) for name in self._positional if name in rest], rest


def arguments_of(function: Callable[..., object], name: str, doc: Docstring) -> Arguments:
    """
    Return the arguments of a function, as its signature and its docstring tell.

    Raises:
        ToolInvalid: A parameter cannot be described to a model.
    """
    try:
        parameters = parameters_of(function)
    except (TypeError, ValueError) as error:
        raise ToolInvalid(name, f"its parameters cannot be read: {error}") from error
    hints = _hints(function, name)
    fields: dict[str, object] = {}
    defaults: dict[str, object] = {}
    positional: list[str] = []
    run, deps = "", object
    extra: Literal["allow", "forbid"] = "forbid"
    for parameter in parameters.values():
        annotation = hints.get(parameter.name, parameter.annotation)
        annotation = object if annotation is parameter.empty else annotation
        if _is_run(annotation):
            if run:
                raise ToolInvalid(name, f"both {run} and {parameter.name} are annotated with Run")
            run, deps = parameter.name, (get_args(annotation) or (object,))[0]
        elif parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        elif parameter.kind is parameter.VAR_POSITIONAL:
            raise ToolInvalid(name, f"*{parameter.name} has no names: models give arguments by name")
        else:
            described = _described(annotation, doc.parameters.get(parameter.name, ""))
            required = parameter.default is parameter.empty
            fields[parameter.name] = Required[described] if required else NotRequired[described]
            if not required:
                defaults[parameter.name] = parameter.default
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(parameter.name)
    adapter = _adapter(name, fields, extra)
    types = {each: get_args(required)[0] for each, required in fields.items()}
    dated = any(map(has_dates, types.values()))
    return Arguments(_schema(adapter, name, defaults), run, deps, adapter, tuple(positional), types, dated)


def _adapter(
    name: str, fields: Mapping[str, object], extra: Literal["allow", "forbid"]
) -> TypeAdapter[dict[str, object]]:
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True)
    try:
        shape: Annotation = with_config(config)(TypedDict("Arguments", dict(fields)))  # type: ignore[operator]  # the functional form, with computed fields
        return TypeAdapter(shape)
    except (PydanticUserError, PydanticSchemaGenerationError, TypeError, NameError) as error:
        raise ToolInvalid(name, describe(error)) from error


def _schema(adapter: TypeAdapter[dict[str, object]], name: str, defaults: Mapping[str, object]) -> Mapping[str, object]:
    try:
        schema: JsonDict = without_titles(adapter.json_schema())
    except PydanticUserError as error:
        raise ToolInvalid(name, f"a parameter has no JSON schema: {describe(error)}") from error
    schema.pop("title", None)
    properties = schema.setdefault("properties", {})
    for each in properties.values():
        each.pop("title", None)
    for parameter, default in defaults.items():
        try:
            properties[parameter]["default"] = to_jsonable_python(default)
        except (PydanticSerializationError, ValueError):
            continue  # the function knows its default; the model only knows that there is one
    return schema


def _described(annotation: object, text: str) -> object:
    """Return the annotation with a description, unless it brings its own."""
    if not text or (
        get_origin(annotation) is Annotated and any(getattr(each, "description", None) for each in get_args(annotation))
    ):
        return annotation
    return Annotated[annotation, Field(description=text)]


def _is_run(annotation: object) -> bool:
    return annotation is Run or get_origin(annotation) is Run


def _hints(function: Callable[..., object], name: str) -> Mapping[str, object]:
    """Return the annotations, those written as text resolved; local names are looked up in who calls us."""
    target: object = function.func if isinstance(function, functools.partial) else function
    if isinstance(target, type):
        target = vars(target).get("__init__", object.__init__)
    elif not (inspect.isfunction(target) or inspect.ismethod(target) or inspect.isbuiltin(target)):
        target = type(target).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except NameError:
        pass  # a name of the function that defines it, perhaps
    except TypeError:
        return {}  # a function of an extension module: its signature is all there is
    try:
        return get_type_hints(target, localns=_local_names(), include_extras=True)
    except NameError as error:
        raise ToolInvalid(name, f"an annotation names what is not there: {error}") from error


def _local_names() -> dict[str, object]:
    """Return the local names of the functions that are running, the nearest winning."""
    found: dict[str, object] = {}
    frame = sys._getframe(1)  # noqa: SLF001 - as signatures do: types defined beside the function
    for _ in range(_FRAMES):
        found = {**frame.f_locals, **found}
        if frame.f_back is None:
            break
        frame = frame.f_back
    return found
