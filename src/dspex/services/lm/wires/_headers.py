"""The common part of wires outside of bodies: the headers of every request, and the facts in an answer's headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from dspex.errors import AuthFailed
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom

__all__ = [
    "azure_path",
    "bearer",
    "checked_key",
    "duration",
    "openai_headroom",
    "parse_retry_after",
    "request_headers",
    "seconds",
    "set_key",
    "should_retry",
    "whole",
    "x_headers",
]


# --- requests -----------------------------------------------------------------------------------------------


def request_headers(idempotency_key: str, attempt: int) -> dict[str, str]:
    """
    Return what every request of ours carries: one key for the logical call, a number for the attempt.

    The dict does not show its values, since a secret key will be among them.
    """
    headers = HiddenHeaders()
    headers["content-type"] = "application/json"
    headers["accept"] = "application/json"
    headers["user-agent"] = "dspex"
    headers["idempotency-key"] = headers["x-client-request-id"] = idempotency_key
    headers["x-attempt"] = str(attempt)
    return headers


def checked_key(key: Secret) -> str:
    """
    Return the key as a header may hold it.

    Raises:
        AuthFailed: It holds characters that no header may hold; the message does not show it.
    """
    if not _may_be_sent(key.reveal()):  # in no local variable of a frame that a traceback will show
        problem = "the API key is empty or holds spaces, line ends or characters that are not ASCII"
        raise AuthFailed(f"{problem}; nothing was sent")
    return key.reveal()


def _may_be_sent(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def bearer(key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
    """Return the headers of a server that takes its key as a bearer token; raises as ``checked_key``."""
    headers = request_headers(idempotency_key, attempt)
    if key is not None:
        headers["authorization"] = f"Bearer {checked_key(key)}"
    return headers


def set_key(key_hint: str) -> str:
    """Return the end of a message about a key: what to do."""
    return f"; {key_hint}" if key_hint else "; give another api_key"


def azure_path(deployment: str, method: str, api_version: str) -> str:
    """Return what follows the address of an Azure resource: ``/v1`` without a version, else by deployment."""
    if not api_version:
        return f"/openai/v1/{method}"
    return f"/openai/deployments/{quote(deployment, safe='')}/{method}?api-version={quote(api_version, safe='')}"


# --- answers ------------------------------------------------------------------------------------------------


def x_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a response keeps."""
    return {name: value for name, value in headers.items() if name.startswith("x-")}


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what the server says about trying again, or ``None`` where it says nothing."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return the provider's minimum wait in seconds, or ``None`` where it gave none that can be read.

    Args:
        headers: Response headers, names in lower case.
        now: Wall time, seconds since the epoch, which a date is measured from.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = seconds(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    value = headers.get("retry-after")
    number = duration(value)  # some servers write 7s or 1m30s
    if number is not None or value is None:
        return number
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def seconds(value: str | None) -> float | None:
    """Return a finite number that is not negative."""
    try:
        number = float(value) if value else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def whole(value: str | None) -> int | None:
    """Return a whole number that is not negative."""
    number = seconds(value)
    return int(number) if number is not None else None


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|us|µs|ns|s|m|h|d)")


def duration(value: str | None) -> float | None:
    """Return the seconds of a duration such as ``6m0s``, ``20ms`` or ``1.5``, or ``None`` where it is none."""
    if not value:
        return None
    value = value.strip()
    number = seconds(value)
    if number is not None:
        return number
    if not value or _PART.sub("", value):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def openai_headroom(headers: Mapping[str, str]) -> Headroom | None:
    """Read the ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` of OpenAI and those that copied it."""
    if "x-ratelimit-remaining-requests" not in headers and "x-ratelimit-remaining-tokens" not in headers:
        return None
    found = Headroom(
        requests=whole(headers.get("x-ratelimit-remaining-requests")),
        requests_reset=duration(headers.get("x-ratelimit-reset-requests")),
        tokens=whole(headers.get("x-ratelimit-remaining-tokens")),
        tokens_reset=duration(headers.get("x-ratelimit-reset-tokens")),
        request_limit=whole(headers.get("x-ratelimit-limit-requests")),
        token_limit=whole(headers.get("x-ratelimit-limit-tokens")),
    )
    return None if found == Headroom() else found
