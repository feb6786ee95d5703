"""From a provider's error answer to our typed error: reading what it says, in whatever form it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from dspex.errors import AuthFailed, LMError, PermissionDenied, RequestRejected, ResponseInvalid, ServerFailed
from dspex.protocols.lm import Usage
from dspex.protocols.text_shapes import Grammar, TextChoice
from dspex.services.lm.wires._error_table import ErrorBody, classify
from dspex.services.lm.wires._headers import duration, parse_retry_after, set_key, should_retry
from dspex.services.lm.wires._json import SHOWN, parse, shown, string

__all__ = [
    "billed",
    "completed",
    "document_of",
    "error_body",
    "failure",
    "inner_status",
    "openai_failure",
    "unsayable",
]

E = TypeVar("E", bound=LMError)


def failure(
    status: int,
    headers: Mapping[str, str],
    found: ErrorBody,
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
    in_stream: bool = False,
) -> LMError:
    """
    Return the typed error of a failure answer, or of an error event inside a stream.

    Args:
        status: The HTTP status, or the one that the body claims.
        headers: Response headers, names in lower case.
        found: The content of the body.
        request_id: The provider's id of the request.
        retry_after: The wait that the body asks for; without one its message is read.
        in_stream: It came under a success status, after the answer had begun: an unknown reason is then the
            provider's failure.
    """
    error_class = classify(status, found) or (ServerFailed if in_stream else ResponseInvalid)
    what = "failed in the middle of its answer" if in_stream else f"answered {status}"
    message = f"the provider {what}: {found.message[:SHOWN] or 'no reason given'}"
    if 300 <= status < 400:
        message = f"the server redirects ({status}) to {headers.get('location', 'nowhere')}"
    if error_class is AuthFailed:
        # The provider's own words often repeat part of the key: they are left out.
        message = f"the provider refused the API key ({status}{f', {found.code}' if found.code else ''})"
    elif error_class is PermissionDenied:
        message = f"the provider does not permit this request ({status}): {_without_keys(found.message[:SHOWN])}"
    error = error_class(
        message,
        status=status,
        code=found.code or found.type or None,
        request_id=request_id,
        retry_after=_asked_wait(found.message) if retry_after is None else retry_after,
        should_retry=should_retry(headers),
    )
    if isinstance(error, RequestRejected):
        error.parameter = _parameter(found)
    return error


def completed(error: E, headers: Mapping[str, str], *, now: float, key_hint: str) -> E:
    """
    Add to an error of a wire what only the caller knows: the clock, and where the user keeps the key.

    Args:
        error: As the wire raised it.
        headers: Of the answer, names in lower case; empty where none came.
        now: Wall time, for a Retry-After that is a date.
        key_hint: Where the user can set the key.
    """
    told = parse_retry_after(headers, now)
    error.retry_after = error.retry_after if told is None or error.status is None else told
    if error.status is None and isinstance(error, (AuthFailed, RequestRejected)):
        error.may_be_charged = False  # a key or a request that cannot be written: nothing was sent
    if type(error) is AuthFailed:
        error.args = (f"{error}{set_key(key_hint)}",)
    return error


_WAIT: Final = re.compile(
    r"(?:again|retry|retrying) in ([0-9][0-9.a-zµ]{0,20}?)(?: (second|minute|hour)s?)?[.,;)]?(?:\s|$)", re.IGNORECASE
)
_UNITS: Final = {"": 1.0, "second": 1.0, "minute": 60.0, "hour": 3600.0}
_KEYS: Final = re.compile(r"\b(?:sk|pk|rk|gsk|xai|key|AIza|hf|nvapi)[-_A-Za-z0-9*.]{8,}|Bearer \S+")


def _asked_wait(message: str) -> float | None:
    """Return the seconds that a message asks us to wait: ``Please try again in 7.66s``."""
    found = _WAIT.search(message[:SHOWN])
    wait = duration(found[1]) if found is not None else None
    return wait * _UNITS[(found[2] or "").lower()] if found is not None and wait is not None else None


def _without_keys(message: str) -> str:
    return _KEYS.sub("…", message) or "no reason given"


_FORMS: Final = re.compile(
    r"response_?format|json_schema|json_object|structured.?outputs?|response_?(?:json_?)?schema|response_?mime_?type|output_config"
    r"|text\.format|guided_|grammar|\bebnf\b|json mode",
    re.IGNORECASE,
)
_TOOLS: Final = re.compile(
    r"(?:does not|do not|doesn't) support (?:tools|tool use|tool calling|function calling)|support tool use"
    r"|tool choice requires|tools? (?:is|are) not supported|requires --jinja|tools param requires",
    re.IGNORECASE,
)
_LENGTH: Final = re.compile(r"max_tokens.{0,80}(?:use|instead).{0,40}max_completion_tokens", re.IGNORECASE | re.DOTALL)


def _parameter(found: ErrorBody) -> str | None:
    """Return the parameter at fault, in the words of the chat protocol; None where nothing is said of it."""
    message = found.message[:SHOWN]
    if _LENGTH.search(message):
        return "max_tokens"
    if _TOOLS.search(message):
        return "tools"
    if _FORMS.search(found.parameter) or (not found.parameter and _FORMS.search(message)):
        return "response_format"
    return found.parameter or None


def openai_failure(status: int, headers: Mapping[str, str], document: object, body: bytes) -> LMError:
    """Return the typed error of a failure answer in OpenAI's form; ``body`` is shown where it is in no form."""
    found = error_body(document) or ErrorBody(message=shown(body))
    request_id = headers.get("x-request-id")
    return failure(status, headers, found, request_id=request_id)


def document_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    invalid: Callable[[str, Mapping[str, str], int], LMError],
) -> Any:  # whatever the other side sent
    """
    Return the JSON of an answer; of a failure that is none, nothing.

    Raises:
        LMError: A success that is none: what ``invalid`` makes of it.
    """
    try:
        return parse(body)
    except ValueError as error:
        if 200 <= status < 300:
            raise invalid(f"not JSON: {shown(body)}", headers, status) from error
        return None


def error_body(document: object) -> ErrorBody | None:
    """
    Read what OpenAI, and the servers that speak its protocol, say in an error answer; None where it is not an object.

    That is ``{"error": {…}}``, ``{"error": "text"}``, the flat ``{"message": …}`` and ``{"detail": …}``, any of them
    in a list, and an upstream's error that a gateway passes on as JSON inside the message or in ``metadata.raw``.
    """
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error = document.get("error", document)
    if isinstance(error, str):
        return ErrorBody(message=error)
    if not isinstance(error, dict):
        return None
    inner, metadata = error.get("innererror"), error.get("metadata")
    code = string(error, "code") or string(inner, "code")
    if not code and isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata):
        code = "content_policy_violation"  # OpenRouter's moderation, told as a 403
    found = ErrorBody(string(error, "message"), code, string(error, "type"), string(error, "param"))
    if not found.message and isinstance(error.get("detail"), (str, list)):
        found = replace(found, message=str(error["detail"]))
    return _with_upstream(found, metadata)


def _with_upstream(found: ErrorBody, metadata: object) -> ErrorBody:
    """Add the words of the error that a gateway wrapped; its own words stay where it has some."""
    raw = string(metadata, "raw") or found.message
    if not raw.lstrip().startswith("{"):
        return found
    try:
        inner = parse(raw)
    except ValueError:
        return found
    error = inner.get("error", inner) if isinstance(inner, dict) else None
    if not isinstance(error, dict) or not string(error, "message"):
        return found
    code, kind = string(error, "code"), string(error, "type")
    parameter = found.parameter or string(error, "param")
    return ErrorBody(string(error, "message"), found.code or code, found.type or kind, parameter)


def inner_status(document: object, status: int) -> int:
    """Return the status that the error itself claims, as some gateways send failures under 200."""
    error = document.get("error", document) if isinstance(document, dict) else None
    for name in ("code", "status"):
        code = error.get(name) if isinstance(error, dict) else None
        if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
            code = int(code)
        if type(code) is int and 400 <= code < 600:
            return code
    return status


def billed(error: E, usage: Usage) -> E:
    """Note on an error what the provider counted for the answer that is none; no count at all says nothing."""
    if usage.total_tokens:
        error.usage = usage
    return error


TEXT_FORMS: Final = "an answer that is one of some texts or follows a grammar"


def check_form(output: object, protocol: str) -> None:
    """
    Check that the form of an answer is one of JSON.

    Raises:
        RequestRejected: It is a form of a text.
    """
    if isinstance(output, (TextChoice, Grammar)):
        raise unsayable(TEXT_FORMS, protocol)


def unsayable(what: str, protocol: str) -> RequestRejected:
    """Return the error for a part of a request that the protocol does not support."""
    return RequestRejected(f"{protocol} does not support {what}; nothing was sent")
