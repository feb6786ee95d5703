"""Anthropic's Messages: ``POST /v1/messages``, whole or as events, ``/v1/messages/count_tokens`` and ``/v1/models``."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from dspex.simulator.dialects._checks import Json, number, parsed, plain_schema, strings, text_of, unseen_in, whole
from dspex.simulator.dialects._dialect import BodyInvalid, ErrorAnswer, RateAllowance, Response, Twist
from dspex.simulator.dialects._prompt import ReceivedPrompt, Said, compact, event, headers_of, pieces, say
from dspex.simulator.learner import MODEL, Body, Role

__all__ = ["AnthropicMessagesDialect", "asked_of"]

_JSON = ("content-type", "application/json")
_STREAM = ("content-type", "text/event-stream; charset=utf-8")
_MESSAGES, _COUNT, _MODELS = "/v1/messages", "/v1/messages/count_tokens", "/v1/models"
_MOST_STOPS = 64
_STATUS = {"insufficient_quota": 402, "billing": 402, "overloaded": 529, "timeout": 504}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ENDINGS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "filtered": "refusal",
}


class AnthropicMessagesDialect:
    """The Messages dialect."""

    name = "anthropic"
    base = ""
    request_id_header = "request-id"

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers; the list of models is another provider's too, but for one header."""
        if method == "GET":
            return (path == _MODELS or path.startswith(f"{_MODELS}/")) and "anthropic-version" in (headers or {})
        return method == "POST" and path in (_MESSAGES, _COUNT)

    def key(self, headers: Mapping[str, str], query: str = "") -> str | None:
        """Return the key of a request, sent in a header of its own or as a bearer token."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else None)

    def lacks(self, headers: Mapping[str, str]) -> str | None:
        """Name the header that says which version of the protocol is spoken."""
        return None if headers.get("anthropic-version") else "anthropic-version"

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims."""
        path = target.partition("?")[0]
        if path.startswith(_MODELS):
            return _models(path.removeprefix(_MODELS).lstrip("/"))
        try:
            wanted = parsed(body)
            asked = asked_of(wanted, counted=path == _COUNT)
            if path == _COUNT:
                return Response(200, (_JSON,), (compact({"input_tokens": asked.prompt}),))
            said = say(asked, twist)
        except BodyInvalid as error:
            return self.failure(error.failure())
        return _message(body, asked, said)

    def failure(self, failure: ErrorAnswer) -> Response:
        """Say in Anthropic's form that a request failed."""
        status = _STATUS.get(failure.code or "", failure.status)
        wait = failure.retry_after
        after = () if wait is None else (("retry-after", str(math.ceil(wait))),)
        return Response(status, (_JSON, *after), (compact(_error(failure)),))

    def broken(self, failure: ErrorAnswer, at: int) -> bytes:
        """Say it inside a stream: an ``error`` event."""
        return event("error", _error(failure))

    def allowance(self, limits: Mapping[str, RateAllowance], now: datetime) -> tuple[tuple[str, str], ...]:
        """Write what is left of each limit, with the time at which it is whole again."""
        found: list[tuple[str, str]] = []
        for counted, one in limits.items():
            at = (now + timedelta(seconds=one.reset)).replace(microsecond=0).isoformat().replace("+00:00", "Z")
            named = f"anthropic-ratelimit-{counted}"
            found += [(f"{named}-limit", str(one.limit)), (f"{named}-remaining", str(one.remaining))]
            found += [(f"{named}-reset", at)]
        return tuple(found)


def _error(failure: ErrorAnswer) -> dict[str, object]:
    status = _STATUS.get(failure.code or "", failure.status)
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    message = failure.message
    if failure.code == "context_length_exceeded":
        message = f"prompt is too long: {message}"
    name = hashlib.sha256(message.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{name}"}


def _models(name: str) -> Response:
    one = {
        "type": "model",
        "id": name or MODEL,
        "display_name": "Rules 1",
        "created_at": "2023-11-14T00:00:00Z",
        "lifecycle": "active",
    }
    listed = {"data": [one], "has_more": False, "first_id": MODEL, "last_id": MODEL}
    return Response(200, (_JSON,), (compact(one if name else listed),))


def asked_of(body: Json, *, counted: bool = False) -> ReceivedPrompt:
    """
    Read a Messages body; one that is only counted needs no ``max_tokens``.

    Raises:
        BodyInvalid: A member is missing, of the wrong type or out of range.
    """
    messages, model = body.get("messages"), body.get("model")
    if not isinstance(model, str) or not model:
        raise BodyInvalid("model", "a model's name")
    if not isinstance(messages, list) or not messages:
        raise BodyInvalid("messages", "a non-empty list")
    limit = whole(body, "max_tokens", 1, 2**31 - 1)
    if limit is None and not counted:
        raise BodyInvalid("max_tokens", "a whole number: it is required")
    turns = [turn for at, one in enumerate(messages) for turn in _turns(one, f"messages[{at}]")]
    system = text_of(body.get("system"), "system")
    held: list[tuple[Role, str]] = [("system", system)] if system else []
    temperature = number(body, "temperature", 0, 1)
    tools = _tools(body.get("tools"))
    read = Body(
        messages=(*held, *turns),
        tools=tools,
        tool_choice=_tool_choice(body.get("tool_choice")),
        schema=_schema(body),
        temperature=1.0 if temperature is None else temperature,
        stop=strings(body, "stop_sequences", _MOST_STOPS),
        limit=limit,
        model=model,
    )
    return ReceivedPrompt(read, streams=body.get("stream") is True, unseen=sum(_unseen(one) for one in messages))


def _unseen(message: Json) -> int:
    content = message.get("content")
    blocks = [one for one in content if isinstance(one, Mapping)] if isinstance(content, list) else []
    results = sum(unseen_in(one.get("content")) for one in blocks if one.get("type") == "tool_result")
    return results + sum(1 for one in blocks if one.get("type") in ("image", "document", "audio", "search_result"))


def _turns(value: object, at: str) -> Iterator[tuple[Role, str]]:
    """Read a message; what tools said in it stands before what the user says, as turns of its own."""
    role = value.get("role") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or role not in ("user", "assistant", "system"):
        raise BodyInvalid(f"{at}.role", "user or assistant")
    content = value.get("content")
    if isinstance(content, list) and all(isinstance(one, Mapping) for one in content):
        results = [one for one in content if one.get("type") == "tool_result"]
        for number_of, one in enumerate(results):
            yield "tool", text_of(one.get("content"), f"{at}.content[{number_of}].content")
        if results and len(results) == len(content):
            return
        content = [one for one in content if one.get("type") == "text"]
    if content is None:
        raise BodyInvalid(f"{at}.content", "a string or a list of blocks")
    yield (
        ("system" if role == "system" else "user" if role == "user" else "assistant"),
        text_of(content, f"{at}.content"),
    )


def _tools(value: object) -> tuple[Json, ...]:
    if value is not None and not isinstance(value, list):
        raise BodyInvalid("tools", "a list")
    found: list[Json] = []
    for at, one in enumerate(value or ()):
        name = one.get("name") if isinstance(one, Mapping) else None
        schema = one.get("input_schema") if isinstance(one, Mapping) else None
        if not isinstance(one, Mapping) or not isinstance(name, str) or not name or not isinstance(schema, Mapping):
            raise BodyInvalid(f"tools[{at}]", "a tool with a name and an input_schema")
        described = str(one.get("description") or "")
        found.append({"name": name, "description": described, "parameters": plain_schema(schema)})
    return tuple(found)


def _tool_choice(value: object) -> str:
    if value is None:
        return "auto"
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and kind == "tool" and isinstance(value.get("name"), str):
        return f"={value['name']}"
    choice = {"auto": "auto", "any": "required", "none": "none"}.get(kind) if isinstance(kind, str) else None
    if choice is None:
        raise BodyInvalid("tool_choice", "an object of type auto, any, none or tool")
    return choice


def _schema(body: Json) -> Json | None:
    config = body.get("output_config")
    held = config.get("format") if isinstance(config, Mapping) else body.get("output_format")
    if held is None:
        return None
    schema = held.get("schema") if isinstance(held, Mapping) else None
    if not isinstance(held, Mapping) or held.get("type") != "json_schema" or not isinstance(schema, Mapping):
        raise BodyInvalid("output_config.format", "an object of type json_schema with a schema")
    return plain_schema(schema)


def _input(text: str) -> object:
    """Return a tool's arguments as an object; a limit may have cut them, and half an object is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value


def _block(name: str, said: Said) -> dict[str, object]:
    if said.tool is None:
        return {"type": "text", "text": said.text, "citations": None}
    return {"type": "tool_use", "id": f"toolu_{name}", "name": said.tool, "input": _input(said.text)}


def _message(body: bytes, asked: ReceivedPrompt, said: Sequence[Said]) -> Response:
    name = hashlib.sha256(body).hexdigest()[:24]
    first = said[0] if said else None
    stop = "end_turn" if first is None else _ENDINGS.get(first.ending, first.ending)
    stopped = {
        "stop_reason": stop,
        "stop_sequence": None if first is None else first.stopped_by,
        **({"stop_details": {"type": "refusal", "category": None, "explanation": None}} if stop == "refusal" else {}),
    }
    usage = {
        "input_tokens": asked.prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
    completion = sum(one.tokens for one in said)
    whole_one = {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [_block(name, one) for one in said],
        **stopped,
        "usage": {**usage, "output_tokens": completion},
    }
    rule = headers_of(said, asked)
    if not asked.streams:
        return Response(200, (_JSON, *rule), (compact(whole_one),), prompt=asked.prompt, completion=completion)
    begun = {**whole_one, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**usage, "output_tokens": 1 if said else 0}
    parts = [event("message_start", {"type": "message_start", "message": begun}), event("ping", {"type": "ping"})]
    for at, one in enumerate(said):
        parts += _block_events(at, name, one)
    delta = {"type": "message_delta", "delta": stopped, "usage": {"output_tokens": completion}}
    parts += [event("message_delta", delta), event("message_stop", {"type": "message_stop"})]
    return Response(
        200,
        (_STREAM, *rule),
        tuple(parts),
        is_stream=True,
        ending=2,
        prompt=asked.prompt,
        completion=completion,
    )


def _block_events(at: int, name: str, said: Said) -> Iterator[bytes]:
    empty: dict[str, object] = {"text": ""} if said.tool is None else {"input": {}}
    yield event("content_block_start", _of("start", at, content_block={**_block(name, said), **empty}))
    for piece in pieces(said.text):
        delta = {"type": "text_delta", "text": piece}
        if said.tool is not None:
            delta = {"type": "input_json_delta", "partial_json": piece}
        yield event("content_block_delta", _of("delta", at, delta=delta))
    yield event("content_block_stop", _of("stop", at))


def _of(kind: str, at: int, **members: object) -> dict[str, object]:
    return {"type": f"content_block_{kind}", "index": at, **members}
