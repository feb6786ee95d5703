"""The common part of OpenAI's dialects: keys, errors, rate-limit headers, tools and schemas."""

import math
from collections.abc import Mapping
from datetime import datetime

from dspex.simulator.dialects._checks import Json, plain_schema
from dspex.simulator.dialects._dialect import BodyInvalid, ErrorAnswer, RateAllowance, Response
from dspex.simulator.dialects._prompt import compact, event

__all__ = [
    "CREATED",
    "JSON",
    "STREAM",
    "OpenAI",
    "error_of",
    "function_of",
    "schema_of",
    "tool_choice_of",
    "whole_response",
]

CREATED = 1_700_000_000  # the same body gives the same bytes, whenever
JSON = ("content-type", "application/json")
STREAM = ("content-type", "text/event-stream")
_STATUS = {"insufficient_quota": 429, "billing": 429, "overloaded": 503, "timeout": 504}
_CODES = {"billing": "credit_balance_exhausted", "overloaded": "server_is_overloaded", "timeout": None}
_TYPES = {
    "insufficient_quota": "insufficient_quota",
    "billing": "insufficient_quota",
    "slow_down": "requests",
    "overloaded": "service_unavailable_error",
}


class OpenAI:
    """The base of OpenAI's dialects."""

    name = "openai"
    base = "/v1"
    request_id_header = "x-request-id"

    def key(self, headers: Mapping[str, str], query: str = "") -> str | None:
        """Return the bearer token of a request."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else None

    def lacks(self, headers: Mapping[str, str]) -> str | None:
        """Need no header."""
        return None

    def failure(self, failure: ErrorAnswer) -> Response:
        """Say in OpenAI's form that a request failed."""
        wait = failure.retry_after
        after = () if wait is None else (("retry-after", str(math.ceil(wait))), ("retry-after-ms", f"{wait * 1000:g}"))
        status = _STATUS.get(failure.code or "", failure.status)
        return whole_response(status, {"error": error_of(failure)}, *after)

    def broken(self, failure: ErrorAnswer, at: int) -> bytes:
        """Say it inside a stream."""
        return event("", {"error": error_of(failure)})

    def allowance(self, limits: Mapping[str, RateAllowance], now: datetime) -> tuple[tuple[str, str], ...]:
        """Write what is left of each limit."""
        return tuple(
            (f"x-ratelimit-{what}-{counted}", value)
            for counted, one in limits.items()
            for what, value in (
                ("limit", str(one.limit)),
                ("remaining", str(one.remaining)),
                ("reset", _duration(one.reset)),
            )
        )


def error_of(failure: ErrorAnswer) -> dict[str, object]:
    """Return the error object."""
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    if failure.status == 429:
        kind = failure.counted
    code = failure.code or ""
    return {
        "message": failure.message,
        "type": _TYPES.get(code, kind),
        "param": failure.param,
        "code": _CODES.get(code, failure.code),
    }


def _duration(seconds: float) -> str:
    """Write a duration as OpenAI does: ``6m0s``, ``1.5s``, ``20ms``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, left = divmod(round(seconds, 3), 60)
    return f"{int(minutes)}m{left:g}s" if minutes else f"{left:g}s"


def whole_response(status: int, value: object, *headers: tuple[str, str]) -> Response:
    """Return a response of one JSON value."""
    return Response(status, (JSON, *headers), (compact(value),))


def function_of(function: object, at: str) -> Json:
    """Read what a tool is called, what it is for and what it takes."""
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise BodyInvalid(at, "a list of functions with names")
    schema = function.get("parameters")
    parameters = plain_schema(schema) if isinstance(schema, Mapping) else {}
    return {"name": name, "description": str(function.get("description") or ""), "parameters": parameters}


def tool_choice_of(value: object, name: object) -> str:
    """Read which tool has to be called; `name` is that of a function the choice holds, if any."""
    if isinstance(name, str):
        return f"={name}"
    if value is None or (isinstance(value, str) and value in ("auto", "none", "required")):
        return value or "auto"
    raise BodyInvalid("tool_choice", "auto, none, required or a function")


def schema_of(form: object, at: str, inside: str) -> Json | None:
    """Read a response format; its schema stands under `inside`, or beside the type when that is empty."""
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, Mapping) else None
    if not isinstance(form, Mapping) or kind not in ("text", "json_object", "json_schema"):
        raise BodyInvalid(at, "an object with a known type")
    if kind != "json_schema":
        return None if kind == "text" else {}
    holder = form.get(inside) if inside else form
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        raise BodyInvalid(f"{at}.{inside}" if inside else f"{at}.schema", "an object with a schema")
    return plain_schema(schema)
