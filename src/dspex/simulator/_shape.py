"""Shape an answer by its fault before any byte of it is sent: pure, dialect by dialect."""

from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime

from dspex.simulator.dialects import Dialect, ErrorAnswer, Response, Twist
from dspex.simulator.faults import Fault, FaultKind

__all__ = ["REFUSED", "failure_of", "refusal", "shaped", "twist_of"]

_TWISTS = {
    FaultKind.EMPTY: Twist.EMPTY,
    FaultKind.REFUSAL: Twist.REFUSAL,
    FaultKind.FILTERED: Twist.FILTERED,
}
_BUSY = "The server is overloaded. Please try again later."
_FAILURES = {
    FaultKind.RATE_LIMIT: ErrorAnswer(status=429, code="rate_limit_exceeded", message="Rate limit reached."),
    FaultKind.SLOW_DOWN: ErrorAnswer(
        status=429, code="slow_down", message="Your request rate rose too fast: slow down, then rise more slowly."
    ),
    FaultKind.QUOTA: ErrorAnswer(
        status=429, code="insufficient_quota", message="You exceeded your current quota, check your plan and billing."
    ),
    FaultKind.BILLING: ErrorAnswer(status=402, code="billing", message="Your credit balance is too low."),
    FaultKind.SERVER_ERROR: ErrorAnswer(status=500, message="The server had an error while processing your request."),
    FaultKind.OVERLOADED: ErrorAnswer(status=503, code="overloaded", message=_BUSY),
    FaultKind.TIMEOUT: ErrorAnswer(status=504, code="timeout", message="The request took too long."),
    FaultKind.INVALID: ErrorAnswer(status=400, code="invalid_request", message="The request is wrong, says the plan."),
    FaultKind.UNAUTHORIZED: ErrorAnswer(status=401, code="invalid_api_key", message="Incorrect API key provided."),
    FaultKind.FORBIDDEN: ErrorAnswer(status=403, code="permission_denied", message="Your key may not use this model."),
    FaultKind.NOT_FOUND: ErrorAnswer(status=404, code="model_not_found", message="The model does not exist."),
    FaultKind.CONTEXT: ErrorAnswer(
        status=400,
        code="context_length_exceeded",
        param="messages",
        message="This model's maximum context length is exceeded, says the plan.",
    ),
}
REFUSED = frozenset(_FAILURES)
_ASKS_TO_WAIT = (FaultKind.RATE_LIMIT, FaultKind.SLOW_DOWN, FaultKind.OVERLOADED)
_PAGE = b"<!DOCTYPE html><html><body><h1>Scheduled maintenance</h1></body></html>"


def twist_of(fault: Fault) -> Twist:
    """Return the form an answer takes under a fault."""
    return _TWISTS.get(fault.kind, Twist.PLAIN)


def failure_of(fault: Fault) -> ErrorAnswer | None:
    """Return what a fault refuses a request with; None for those that let it be answered."""
    failure = _FAILURES.get(fault.kind)
    if failure is None:
        return None
    if fault.status is not None:
        failure = replace(failure, status=fault.status)
    if fault.kind not in _ASKS_TO_WAIT or fault.retry_form == "none":
        return failure
    message = f"{failure.message} Please try again in {fault.retry_after:g}s."
    return replace(failure, message=message, retry_after=fault.retry_after)


def refusal(dialect: Dialect, failure: ErrorAnswer, fault: Fault, now: datetime) -> Response:
    """Word a refusal, with the time to wait in the form the fault asks for."""
    response = dialect.failure(failure)
    headers = response.headers
    if fault.retry_form != "native" and failure.retry_after is not None:
        headers = tuple(one for one in headers if not one[0].startswith("retry-after"))
        headers += _wait(fault, now)
    if fault.should_retry is not None:
        headers += (("x-should-retry", "true" if fault.should_retry else "false"),)
    return replace(response, headers=headers)


def _wait(fault: Fault, now: datetime) -> tuple[tuple[str, str], ...]:
    match fault.retry_form:
        case "milliseconds":
            return (("retry-after-ms", f"{fault.retry_after * 1000:g}"),)
        case "date":  # whole seconds: a date that is not too early
            at = (now + timedelta(seconds=fault.retry_after + 1)).replace(microsecond=0)
            return (("retry-after", format_datetime(at, usegmt=True)),)
    return (("retry-after", f"{fault.retry_after:g}"),)


def shaped(dialect: Dialect, response: Response, fault: Fault, target: str) -> tuple[Response, Fault]:
    """Make of a good answer what the fault wants, and return with it what is left to be done on the socket."""
    parts = response.parts
    whole = len(parts) - response.ending  # an empty answer may be nothing but its end
    at = min(max(1, whole // 2), whole)  # where a stream goes wrong
    match fault.kind:
        case FaultKind.HTML:
            return Response(200, (("content-type", "text/html; charset=utf-8"),), (_PAGE,)), fault
        case FaultKind.REDIRECT:
            return Response(307, (("location", target),), (b"",)), fault
        case FaultKind.CUT_STREAM if response.is_stream:
            return replace(response, parts=parts[:at]), fault
        case FaultKind.CUT_STREAM:
            return response, replace(fault, kind=FaultKind.TRUNCATE)
        case FaultKind.STREAM_ERROR if response.is_stream:
            return replace(response, parts=(*parts[:at], dialect.broken(_FAILURES[FaultKind.OVERLOADED], at))), fault
        case FaultKind.STREAM_ERROR:
            return dialect.failure(_FAILURES[FaultKind.OVERLOADED]), fault
        case FaultKind.MALFORMED:
            which = max(0, at - 1)
            return replace(response, parts=(*parts[:which], _garbled(parts[which]), *parts[which + 1 :])), fault
    return response, fault


def _garbled(part: bytes) -> bytes:
    """Cut the JSON of a part in half; what frames it stays."""
    head, data, text = part.rpartition(b"data: ")
    end = text[len(text.rstrip(b"\r\n")) :] if data else b""
    return head + data + text[: len(text.rstrip()) // 2] + end
