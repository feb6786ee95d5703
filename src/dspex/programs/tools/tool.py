"""Tools: functions that a model may have called."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, cast, overload

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, SchemaSerializer, core_schema
from typing_extensions import ParamSpec, TypeVar

from dspex.errors import DepsError, ToolInvalid
from dspex.programs.module import Module
from dspex.programs.run import Run
from dspex.programs.tools._arguments import Arguments, arguments_of
from dspex.programs.tools._docstring import Docstring, read_docstring
from dspex.protocols.json_values import Json
from dspex.protocols.lm import ToolSpec
from dspex.protocols.scope import Scope

__all__ = ["DEFAULT_TIMEOUT", "Tool", "as_tools", "tool"]

P = ParamSpec("P", default=...)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True, default=Any)
"""``Tool`` alone is any tool."""

DEFAULT_TIMEOUT = 30.0
"""Seconds a tool has, unless it says otherwise."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tool(Generic[P, R_co]):
    """
    A function that a model may have called, with what the model is told of it.

    Name and description come from the function and its docstring, the parameters from its signature; a parameter
    annotated ``dspex.Run[Deps]`` is injected and hidden. Arguments are checked and converted before a call. The
    function may be synchronous or not: one that blocks is called in a thread of the App's, never on its loop. Besides
    functions and methods it may be an object with ``__call__``, a pydantic model (the call gives a checked record), or
    a Module, whose ``forward`` is called as a part of the request.

    Args:
        function: The function to call.
        idempotent: True when a call may be made a second time after its step was killed under it.
        timeout: Seconds a call may take; None leaves it to the request's deadline.
        name: Its name for the model: letters, digits, ``_`` and ``-``, at most 64.
        description: Its description for the model.

    Attributes:
        spec: Name, description and JSON schema, as a model is told of them.

    Raises:
        ToolInvalid: The function cannot be described to a model.
    """

    __slots__ = ("_arguments", "_function", "_is_async", "idempotent", "spec", "timeout")

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        idempotent: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        called = _called(function)
        name = name if name is not None else _name_of(function)
        if not callable(called):
            raise ToolInvalid(name, f"{function!r:.60} cannot be called")
        if not _NAME.fullmatch(name):
            raise ToolInvalid(name, "give a name= of letters, digits, _ and -, at most 64 of them")
        if timeout is not None and not timeout > 0:
            raise ToolInvalid(name, f"timeout={timeout!r} must be a positive number of seconds, or None")
        doc = _doc_of(function)
        self._function = called
        self._is_async = _is_async(called)
        self._arguments: Arguments = arguments_of(called, name, doc)
        self.idempotent = idempotent
        self.timeout = timeout
        self.spec = ToolSpec(name, doc.summary if description is None else description, self._arguments.schema)

    @classmethod
    def from_spec(
        cls,
        spec: ToolSpec,
        call: Callable[[Mapping[str, object]], Awaitable[object]],
        *,
        idempotent: bool = False,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Tool:
        """
        Return a tool that somebody else describes, a server for example.

        Args:
            spec: Name, description and JSON schema; arguments are not checked against it here.
            call: Given the arguments as the model gave them.
            idempotent: As for ``Tool``.
            timeout: As for ``Tool``.

        Raises:
            ToolInvalid: Models do not take the name.
        """

        async def function(**arguments: object) -> object:
            return await call(arguments)

        made = Tool(function, name=spec.name, description=spec.description, idempotent=idempotent, timeout=timeout)
        made.spec = spec
        return made

    @property
    def name(self) -> str:
        """Its name for the model."""
        return self.spec.name

    @property
    def description(self) -> str:
        """Its description for the model."""
        return self.spec.description

    @property
    def parameters(self) -> Json:
        """The JSON schema of its arguments."""
        return self.spec.parameters

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself, arguments unchecked: a tool is still the function it was made from."""
        return cast("R_co", self._function(*args, **kwargs))

    def check_deps(self, deps: object) -> None:
        """
        Look whether ``deps`` is what the function's ``Run[…]`` parameter names.

        Raises:
            DepsError: It is of another class, or was not given.
        """
        wanted = self._arguments.deps
        if not self._arguments.run or wanted is Any or wanted is object:
            return
        try:
            fits = isinstance(deps, wanted if not hasattr(wanted, "__origin__") else wanted.__origin__)
        except TypeError:
            return  # a Protocol that cannot be looked at, or a form that says nothing about classes
        if not fits:
            given = "nothing" if deps is None else f"a {type(deps).__name__}"
            shown = getattr(wanted, "__name__", str(wanted))
            raise DepsError(f"tool {self.name} needs options(deps=…) of class {shown}; it was given {given}")

    def check(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """
        Return the arguments as the parameters' types.

        Raises:
            ToolArgumentsInvalid: They do not fit.
        """
        return self._arguments.check(self.name, arguments)

    @property
    def function(self) -> Callable[..., object]:
        """The function, or the method of an object, that a call runs."""
        return self._function

    async def invoke(self, values: Mapping[str, object], scope: Scope) -> object:
        """
        Call the function on checked arguments, within a step of ``scope``.

        Cancellation: the function is cancelled; one that blocks is left to itself and its result dropped.
        """
        arguments = dict(values)
        if self._arguments.run:
            arguments[self._arguments.run] = Run(scope.deps, scope.deadline, scope.totals().request_id)
        args, kwargs = self._arguments.split(arguments)
        call = functools.partial(self._function, *args, **kwargs)
        result = call() if self._is_async else await scope.in_thread(call, self.name)
        return await result if inspect.isawaitable(result) else result

    def __eq__(self, other: object) -> bool:
        """Tools are equal when a model is told the same of them."""
        return self.spec == other.spec if isinstance(other, Tool) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.spec.name, self.spec.description))

    def __repr__(self) -> str:
        return f"Tool({self.name}({', '.join(self.spec.parameters.get('properties', {}))}))"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let tools, and functions that become tools, be inputs; written as what a model is told of them."""
        return core_schema.no_info_before_validator_function(
            _made,
            core_schema.is_instance_schema(cls),
            serialization=_WRITING,
        )


@overload
def tool(
    function: Callable[P, R],
    *,
    idempotent: bool = False,
    timeout: float | None = DEFAULT_TIMEOUT,
    name: str | None = None,
    description: str | None = None,
) -> Tool[P, R]: ...
@overload
def tool(
    *,
    idempotent: bool = False,
    timeout: float | None = DEFAULT_TIMEOUT,
    name: str | None = None,
    description: str | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., object] | None = None,
    *,
    idempotent: bool = False,
    timeout: float | None = DEFAULT_TIMEOUT,
    name: str | None = None,
    description: str | None = None,
) -> object:
    """
    Make a tool of a function: ``dspex.tool(search, timeout=5)``, or ``@dspex.tool`` above it.

    Takes what ``Tool`` takes; without a function it returns the decorator.

    Raises:
        ToolInvalid: The function cannot be described to a model.
    """

    def made(each: Callable[..., object]) -> Tool:
        return Tool(each, idempotent=idempotent, timeout=timeout, name=name, description=description)

    return made if function is None else made(function)


def as_tools(functions: Iterable[object], owner: str) -> dict[str, Tool]:
    """
    Return tools by name, those that are plain functions made into tools.

    Raises:
        ToolInvalid: One cannot be a tool, or two have one name.
    """
    tools: dict[str, Tool] = {}
    if not isinstance(functions, Iterable) or isinstance(functions, (str, Mapping)):
        raise ToolInvalid(_name_of(functions), f"give {owner} a list of tools")
    for each in functions:
        made = each if isinstance(each, Tool) else Tool(cast("Callable[..., object]", each))
        if made.name in tools:
            raise ToolInvalid(made.name, f"{owner} has two tools of this name")
        tools[made.name] = made
    return tools


def _is_async(function: object) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ToolInvalid(_name_of(function), "a generator gives many results; return a list")
    call = getattr(type(function), "__call__", None)  # noqa: B004 - whether that is a coroutine function
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _name_of(function: object) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def _called(function: object) -> object:
    """Return what is called: a Module's ``forward``, and everything else itself."""
    return _call_of(function) if isinstance(function, Module) else function


def _call_of(function: object) -> object:
    forward = getattr(function, "forward", None) if isinstance(function, Module) else None
    return forward if forward is not None else type(function).__call__


def _doc_of(function: object) -> Docstring:
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return read_docstring(inspect.getdoc(function))
    doc = read_docstring(function.__doc__)
    if not isinstance(function, type):  # an object: its call says the rest
        of_call = read_docstring(_call_of(function).__doc__)
        doc.parameters = {**of_call.parameters, **doc.parameters}
        doc.summary = doc.summary or of_call.summary
    elif issubclass(function, BaseModel):
        said = {field.alias or name: field.description for name, field in function.model_fields.items()}
        doc.parameters |= {name: text for name, text in said.items() if text}
    return doc


def _made(given: object) -> object:
    """Return a function, or what was written of a tool, as a tool, and anything else as it is."""
    if isinstance(given, Mapping) and given.keys() == {"name", "description", "parameters"}:
        name, description, parameters = given["name"], given["description"], given["parameters"]
        if isinstance(name, str) and isinstance(description, str) and isinstance(parameters, Mapping):
            return Tool.from_spec(ToolSpec(name, description, dict(parameters)), _not_here(name))
    return Tool(given) if inspect.isroutine(given) else given


def _not_here(name: str) -> Callable[[Mapping[str, object]], Awaitable[object]]:
    """Return what a tool calls that was read from a file: there is no function in one."""

    async def call(_arguments: Mapping[str, object]) -> object:
        raise ToolInvalid(
            name, "it was read from a file, which holds no function: give the tool itself to have it called"
        )

    return call


def _dump(each: Tool[..., object]) -> dict[str, object]:
    return {
        "name": each.spec.name,
        "description": each.spec.description,
        "parameters": dict(each.spec.parameters),
    }


_WRITING = core_schema.plain_serializer_function_ser_schema(_dump, when_used="json")

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
Tool.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)
