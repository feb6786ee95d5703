"""The meaning of Bedrock's error answers: AWS's exceptions told in the words of the shared table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dspex.errors import AuthFailed, LMError
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import failure
from dspex.services.lm.wires._json import string

__all__ = ["bedrock_failure", "kind_of", "request_id"]

_STATUSES: Final = {
    "AccessDeniedException": 403,
    "InternalServerException": 500,
    "ModelErrorException": 502,
    "ModelNotReadyException": 503,
    "ModelStreamErrorException": 502,
    "ModelTimeoutException": 504,
    "ServiceQuotaExceededException": 429,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "ValidationException": 400,
}
"""
The status that says what an exception means. Bedrock's own differs for some: 424 is the model's failure and not the
request's, and 429 is also said of a model that is being loaded.
"""
_REFUSED: Final = {
    "ExpiredTokenException": "they have expired",
    "IncompleteSignatureException": "they are not complete",
    "InvalidClientTokenId": "AWS does not know the access key, or the session token is missing",
    "InvalidSignatureException": "the secret key does not fit, or this machine's clock is wrong",
    "MissingAuthenticationTokenException": "the request carried none",
    "SignatureDoesNotMatch": "the secret key does not fit, or this machine's clock is wrong",
    "UnrecognizedClientException": "AWS does not know the access key, or the session token is missing",
}
"""Exceptions about the credentials themselves, which AWS sends as 403."""


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request."""
    return headers.get("x-amzn-requestid")


def kind_of(headers: Mapping[str, str], document: object) -> str:
    """Return the exception's name, from the answer's header or from its body."""
    found = headers.get("x-amzn-errortype", "") or string(document, "__type") or string(document, "code")
    return found.partition(":")[0].rpartition("#")[2].strip()


def bedrock_failure(
    status: int,
    headers: Mapping[str, str],
    document: object,
    *,
    kind: str = "",
    otherwise: str = "",
    in_stream: bool = False,
) -> LMError:
    """
    Return the typed error of an error answer, or of an exception in a stream.

    Args:
        status: The HTTP status.
        headers: The answer's, names in lower case.
        document: Its body.
        kind: The exception's name, if a stream tells it.
        otherwise: Shown where the body has no message.
        in_stream: It came in a stream, under a success status.
    """
    kind = kind or kind_of(headers, document)
    kind = kind[:1].upper() + kind[1:]  # streams begin it with a small letter
    message = string(document, "message") or string(document, "Message") or otherwise
    body = ErrorBody(message, kind)
    if kind in _REFUSED:
        body = replace(body, code="invalid_api_key", type=kind)
    elif kind in ("ThrottlingException", "ServiceQuotaExceededException") and "per day" in message.lower():
        body = replace(body, code="quota_exceeded", type=kind)  # no wait of a few minutes helps
    meant = _STATUSES.get(kind, status)
    if meant < 300:
        meant = 500
    error = failure(meant, headers, body, request_id=request_id(headers), in_stream=in_stream)
    if not in_stream and meant != status:
        error.status = status
    error.code = kind or error.code
    if type(error) is AuthFailed:
        why = _REFUSED.get(kind)
        error.args = (
            f"AWS refused the credentials ({status}{f', {kind}' if kind else ''}){f': {why}' if why else ''}",
        )
    return error
