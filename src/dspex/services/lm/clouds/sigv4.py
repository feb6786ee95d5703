"""
AWS's Signature Version 4, pure: no clock, no environment, no socket.

Source: AWS, "Create a signed AWS API request" (Identity and Access Management, User Guide).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from dspex._clock import stamp_text
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.secret import Secret
from dspex.services.lm._address import read_address

__all__ = ["AwsKeys", "canonical_request", "signed_headers"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-._~"


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """
    An access key; its repr shows the id alone.

    Attributes:
        id: The public half.
        secret: Requests are signed with it; it is never sent.
        token: Of a session, sent along; None for the keys of a user.
    """

    id: str
    secret: Secret
    token: Secret | None = None


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: AwsKeys,
    *,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """
    Return the headers to add to a request: its time, the session's token, the signature.

    Signed are the host, the content type, and every ``x-amz-…`` header; the others may change on the way.

    Args:
        method: In capitals.
        url: As it is sent.
        headers: That the request has already, names in lower case.
        body: As it is sent.
        keys: Whose signature it is.
        region: For example ``us-east-1``.
        service: The service's name in signatures, for example ``bedrock``.
        now: Wall time, seconds since the epoch; AWS takes no request that is five minutes off.
    """
    moment = stamp_text(now)
    made = HiddenHeaders()
    made["x-amz-date"] = moment
    if keys.token is not None:
        made["x-amz-security-token"] = keys.token.reveal()
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    request, names = canonical_request(method, url, {**headers, **made}, body)
    to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_signing_key(keys.secret, scope), to_sign.encode(), hashlib.sha256).hexdigest()
    made["authorization"] = f"{_ALGORITHM} Credential={keys.id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return made


def canonical_request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Return the text whose digest is signed, and the names of the headers in it."""
    target = read_address(url)
    path, _, query = target.path.decode("ascii").partition("?")
    chosen = {name: value for name, value in headers.items() if name == "content-type" or name.startswith("x-amz-")}
    chosen["host"] = target.authority.decode("ascii")
    names = sorted(chosen)
    lines = "".join(f"{name}:{' '.join(chosen[name].split())}\n" for name in names)
    signed = ";".join(names)
    digest = hashlib.sha256(body).hexdigest()
    # The address is encoded once more: so all services have it but S3.
    return f"{method}\n{quote(path, safe='/' + _UNRESERVED)}\n{_query(query)}\n{lines}\n{signed}\n{digest}", signed


def _query(query: str) -> str:
    pairs = (each.partition("=") for each in query.split("&") if each)
    coded = sorted((_coded(name), _coded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in coded)


def _coded(text: str) -> str:
    return quote(unquote(text), safe=_UNRESERVED)


def _signing_key(secret: Secret, scope: str) -> bytes:
    key = b"AWS4" + secret.reveal().encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
