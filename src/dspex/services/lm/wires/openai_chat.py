"""OpenAI's chat completions, as OpenAI and the many servers that copied it speak them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from dspex.errors import AuthFailed, ContentRefused, LMError, RequestRejected, ResponseInvalid
from dspex.protocols.lm import Capabilities, Completion, LMRequest, LMResponse, Usage
from dspex.protocols.model import LM, LMParams, Secret
from dspex.services.lm.wires._errors import ErrorBody, classify, parse_retry_after

__all__ = ["OpenAIChat"]

_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_SHOWN: Final = 500
"""How much of a provider's message or of a body that is not JSON an error repeats."""


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """
    The wire of ``POST {base}/chat/completions``.

    Attributes:
        length_field: OpenAI itself wants ``max_completion_tokens``; servers that copied it know ``max_tokens``.
    """

    length_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"

    @property
    def path(self) -> str:
        """What follows the base URL."""
        return "/chat/completions"

    def capabilities(self, lm: LM) -> Capabilities:
        """Return what ``lm`` can do."""
        return Capabilities()

    def encode(self, model_name: str, request: LMRequest) -> bytes:
        """
        Return the compact JSON body; only parameters that were set are sent.

        Raises:
            RequestRejected: A parameter or a text cannot be written as JSON; nothing was sent.
        """
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        fields: dict[str, Any] = {"model": model_name, "messages": messages}  # JSON
        _add_params(fields, request.params, self.length_field)
        try:
            return _to_json(fields).encode()
        except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate is a ValueError too
            raise RequestRejected(f"the request cannot be written as JSON, nothing was sent: {error}") from error

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int, key_hint: str = "") -> dict[str, str]:
        """
        Return the request headers of one attempt; without a key there is no ``authorization``.

        Raises:
            AuthFailed: The key holds characters that no header may hold; the message does not show it.
        """
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": "dspex",
            "idempotency-key": idempotency_key,
            "x-client-request-id": idempotency_key,
            "x-attempt": str(attempt),
        }
        if key is not None:
            value = key.reveal()
            if not value or not (value.isascii() and value.isprintable()) or " " in value:
                problem = "the API key is empty or holds spaces, line ends or characters that are not ASCII"
                raise AuthFailed(f"{problem}; nothing was sent{_set_key(key_hint)}")
            headers["authorization"] = f"Bearer {value}"
        return headers

    def decode(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float, key_hint: str = ""
    ) -> LMResponse:
        """
        Return the answer of a success status; unknown fields are ignored.

        Raises:
            LMError: What a failure answer means, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that is no chat completion.
            ContentRefused: The model or a filter withheld every completion.
        """
        request_id = headers.get("x-request-id")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            if 200 <= status < 300:
                raise _invalid(status, request_id, f"not JSON: {_shown(body)}") from error
            document = None
        if not 200 <= status < 300:
            raise _failure(status, headers, document, body, now, key_hint)
        if not isinstance(document, dict):
            raise _invalid(status, request_id, f"a JSON {type(document).__name__} instead of an object")
        choices = document.get("choices")
        if not (isinstance(choices, list) and choices):
            if isinstance(document.get("error"), (dict, str)):
                raise _failure(_inner_status(document, status), headers, document, body, now, key_hint)
            raise _invalid(status, request_id, f"no choices: {_shown(body)}")
        completions = _completions(choices, status, request_id)
        model = document.get("model")
        return LMResponse(
            completions=completions,
            usage=_usage(document.get("usage")),
            model=model if isinstance(model, str) else "",
            request_id=request_id,
            headers={name: value for name, value in headers.items() if name.startswith("x-")},
        )


# --- the request --------------------------------------------------------------------------------------------


def _add_params(fields: dict[str, Any], params: LMParams, length_field: str) -> None:
    """Add what was set; ``extra`` comes last, so a provider's own field may replace ours."""
    if params.temperature is not None:
        fields["temperature"] = params.temperature
    if params.max_tokens is not None:
        fields[length_field] = params.max_tokens
    if params.top_p is not None:
        fields["top_p"] = params.top_p
    if params.stop:
        fields["stop"] = list(params.stop)
    if params.n != 1:
        fields["n"] = params.n
    if params.seed is not None:
        fields["seed"] = params.seed
    fields.update(params.extra)


# --- the answer ---------------------------------------------------------------------------------------------


def _completions(choices: list[Any], status: int, request_id: str | None) -> tuple[Completion, ...]:
    """Return the completions in the order of their ``index``."""
    found: list[tuple[int, Completion]] = []
    refusals: list[str] = []
    for place, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise _invalid(status, request_id, f"choice {place} has no message")
        text, refusal = _text(message.get("content")), message.get("refusal")
        reason = choice.get("finish_reason")
        reason = reason if isinstance(reason, str) and reason else "unknown"
        if text is None:
            raise _invalid(status, request_id, f"the content of choice {place} is no text")
        if not text and (refusal or reason == "content_filter"):
            refusals.append(refusal if isinstance(refusal, str) and refusal else "withheld by the content filter")
            reason = "content_filter"
        index = choice.get("index")
        found.append((index if isinstance(index, int) else place, Completion(text, reason)))
    if len(refusals) == len(found):
        message = f"the model refused to answer: {refusals[0][:_SHOWN]}"
        raise ContentRefused(message, status=status, code="content_filter", request_id=request_id)
    found.sort(key=lambda pair: pair[0])
    return tuple(completion for _, completion in found)


def _text(content: object) -> str | None:
    """Return the text of a message's content: a string, nothing, or a list of text parts."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _usage(usage: object) -> Usage:
    """Return the token counts; what the provider left out, or gave as no number, is zero."""
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


# --- errors -------------------------------------------------------------------------------------------------


def _failure(
    status: int, headers: Mapping[str, str], document: object, body: bytes, now: float, key_hint: str
) -> LMError:
    """Return the error that a failure answer means."""
    found = _error_body(document) or ErrorBody(message=_shown(body))
    error_class = classify(status, found) or ResponseInvalid
    message = f"the provider answered {status}: {found.message[:_SHOWN] or 'no reason given'}"
    if 300 <= status < 400:
        message = f"the server redirects ({status}) to {headers.get('location', 'nowhere')}; give that as api_base"
    if error_class is AuthFailed:
        # The provider's own words often repeat part of the key: they are left out.
        message = f"the provider refused the API key ({status}{f', {found.code}' if found.code else ''})"
        message += _set_key(key_hint)
    return error_class(
        message,
        status=status,
        code=found.code or found.type or None,
        request_id=headers.get("x-request-id"),
        retry_after=parse_retry_after(headers, now),
    )


def _error_body(document: object) -> ErrorBody | None:
    """Read ``{"error": {...}}``, ``{"error": "text"}`` and the flat ``{"message": ...}`` of some servers."""
    if not isinstance(document, dict):
        return None
    error = document.get("error", document)
    if isinstance(error, str):
        return ErrorBody(message=error)
    if not isinstance(error, dict):
        return None
    parts = {name: error.get(name) for name in ("message", "code", "type")}
    return ErrorBody(**{name: value if isinstance(value, str) else "" for name, value in parts.items()})


def _inner_status(document: Mapping[str, Any], status: int) -> int:
    """Return the status inside an error that came under 200, as some gateways send it."""
    error = document["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else status


def _invalid(status: int, request_id: str | None, problem: str) -> ResponseInvalid:
    return ResponseInvalid(
        f"the provider's answer is no chat completion: {problem}", status=status, request_id=request_id
    )


def _set_key(key_hint: str) -> str:
    return f"; {key_hint}" if key_hint else "; give another api_key"


def _shown(body: bytes) -> str:
    """Return the beginning of a body on one line, for a message."""
    text = " ".join(body[: _SHOWN * 4].decode(errors="replace").split())
    return text[:_SHOWN] or "an empty body"
