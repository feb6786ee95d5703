"""The inputs and the answer of a program as types: what a service checks, and what its OpenAPI document says."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic import Field as PydanticField

from dspex.app._rows import result_type
from dspex.errors import ConfigError
from dspex.programs import Signature
from dspex.programs.fields import Field
from dspex.programs.inputs import inputs_of

__all__ = ["Invalid", "Problem", "ServedProgram", "openapi_of"]

_REF = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that says what is wrong, as RFC 9457 has it; ``type`` is a word that programs can go by."""

    status: int
    type: str
    title: str
    detail: str = ""
    errors: tuple[Mapping[str, str], ...] = ()
    retry_after: float | None = None

    def plain(self) -> dict[str, object]:
        """Return the JSON object."""
        found: dict[str, object] = {"type": self.type, "title": self.title, "status": self.status}
        return (
            found | ({"detail": self.detail} if self.detail else {}) | ({"errors": self.errors} if self.errors else {})
        )


class Invalid(Exception):
    """The inputs do not fit; ``problem`` says how."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.title)


class ServedProgram:
    """
    A program with its types.

    Args:
        program: A Module, or any object with an async ``forward``.
        name: Its name in the document.

    Raises:
        ConfigError: A type of its inputs cannot come as JSON.
    """

    def __init__(self, program: Any, name: str) -> None:
        self.program = program
        self.name = name
        self.about = inspect.cleandoc(_words(program))
        spec = inputs_of(program)
        fields: dict[str, Any] = {**_fields(program, spec.names, spec.required)}
        config = ConfigDict(extra="allow" if spec.takes_any else "forbid", arbitrary_types_allowed=False)
        try:
            self._inputs = create_model(f"{name}Inputs", __config__=config, **fields)
            self.inputs_schema = self._inputs.model_json_schema(ref_template=_REF)
        except Exception as error:  # pydantic raises many things for what is not a type of data
            problem = f"the inputs of {name} cannot come as JSON: {type(error).__name__}: {error}"
            raise ConfigError(problem) from error
        self._answer = result_type(program).adapter
        try:
            self.answer_schema = self._answer.json_schema(ref_template=_REF, mode="serialization")
        except Exception:  # noqa: BLE001 - as above; the document then promises nothing
            self.answer_schema = {}

    def read(self, body: bytes) -> dict[str, object]:
        """
        Return the inputs in a request's body, of their types.

        Raises:
            Invalid: It is not a JSON object, or its members do not fit.
        """
        try:
            checked = self._inputs.model_validate_json(body)
        except ValidationError as error:
            raise Invalid(_problem_of(error)) from error
        given = {
            name: getattr(checked, name) for name in checked.model_fields_set if name in type(checked).model_fields
        }
        return {**given, **(checked.model_extra or {})}

    def write(self, value: object) -> bytes:
        """Return an answer as JSON; what has no form of its own there is written as text."""
        adapter = self._answer if isinstance(value, Signature) else _ANY
        return adapter.dump_json(value, fallback=str, warnings=False)


_ANY: TypeAdapter[object] = TypeAdapter(object)


def _words(program: object) -> str:
    signature = getattr(program, "signature", None)
    words = getattr(signature, "instructions", None) if signature is not None else type(program).__doc__
    return words if isinstance(words, str) else ""


def _fields(program: object, names: tuple[str, ...], required: frozenset[str]) -> dict[str, tuple[object, object]]:
    """Return pydantic's words for each input: those of a signature, else the parameters of ``forward``."""
    signature = getattr(program, "signature", None)
    if isinstance(signature, type) and issubclass(signature, Signature):
        known = signature.fields
        return {name: _field_of(known[name]) if name in known else (object, ...) for name in names}
    forward = inspect.unwrap(type(program).forward)  # type: ignore[attr-defined]  # looked at by inputs_of
    try:
        hints = typing.get_type_hints(forward)
    except (NameError, TypeError):
        hints = {}
    defaults = {name: each.default for name, each in inspect.signature(forward).parameters.items()}
    return {
        name: (hints.get(name, object), ... if name in required else PydanticField(default=defaults.get(name)))
        for name in names
    }


def _field_of(field: Field) -> tuple[object, object]:
    if field.has_default:
        return (
            field.codec.annotation,
            PydanticField(default_factory=field.make_default, description=field.desc or None),
        )
    return (field.codec.annotation, PydanticField(..., description=field.desc or None))


def _problem_of(error: ValidationError) -> Problem:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(each["type"] == "json_invalid" for each in found):
        return Problem(400, "not-json", "the body is not JSON", str(found[0]["msg"]))
    errors = tuple([{"field": ".".join(map(str, each["loc"])), "problem": str(each["msg"])} for each in found[:100]])
    return Problem(422, "wrong-inputs", "the inputs do not fit the program", errors=errors)


# --- the document ---------------------------------------------------------------------------------------------


def openapi_of(served: ServedProgram, version: str) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of a service."""
    schemas: dict[str, object] = {"Problem": _PROBLEM}
    inputs, answer = (_lifted(each, schemas) for each in (served.inputs_schema, served.answer_schema))
    schemas["Inputs"], schemas["Answer"] = inputs, answer
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": _REF.format(model="Inputs")}}}}
    answered = {"application/json": {"schema": {"$ref": _REF.format(model="Answer")}}}
    problems = {
        code: {
            "description": words,
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
        for code, words in _CODES.items()
    }
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    streams = "the answer as it is written: events `delta`, `reset`, then `done` or `error`"
    return {
        "openapi": "3.1.0",
        "info": {"title": served.name, "version": version, "description": served.about},
        "paths": {
            "/run": {
                "post": {
                    "operationId": "run",
                    "summary": f"Run {served.name}",
                    "requestBody": body,
                    "responses": {"200": {"description": "the answer", "content": answered}, **problems},
                }
            },
            "/stream": {
                "post": {
                    "operationId": "stream",
                    "summary": f"Run {served.name} and read its answers as they are written",
                    "requestBody": body,
                    "responses": {"200": {"description": streams, "content": events}, **problems},
                }
            },
            "/health/live": {"get": {"responses": {"200": {"description": "the process answers"}}}},
            "/health/ready": {
                "get": {"responses": {"200": {"description": "it takes requests"}, "503": {"description": "not now"}}}
            },
        },
        "components": {"schemas": schemas},
    }


def _lifted(schema: Mapping[str, object], into: dict[str, object]) -> dict[str, object]:
    """Move a schema's definitions to where its references point; return the rest."""
    definitions = schema.get("$defs", {})
    if isinstance(definitions, dict):
        into |= definitions
    return {name: value for name, value in schema.items() if name != "$defs"}


_CODES = {
    "400": "the body is not JSON",
    "413": "the body is too large",
    "415": "the body is not said to be JSON",
    "422": "the inputs do not fit the program",
    "500": "the program failed",
    "502": "the model, or what else the program asks, does not answer",
    "503": "the service is full, or closing",
    "504": "there was no answer in time",
}

_PROBLEM: Mapping[str, object] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
