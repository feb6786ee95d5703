"""OpenAI's Chat Completions: ``POST /v1/chat/completions``, whole or as server-sent events, and ``GET /v1/models``."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping

from dspex.simulator.learner import MODEL, Body, Reply, Role, answer, tokens
from dspex.simulator.wire._checks import Json, number, parsed, plain_schema, strings, text_of, whole
from dspex.simulator.wire._wire import BodyInvalid, Failure, Response

__all__ = ["WINDOW", "OpenAIChat", "body_of"]

WINDOW = 32_768  # tokens of prompt
_CREATED = 1_700_000_000  # the same body gives the same bytes, whenever
_JSON = ("content-type", "application/json")
_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TYPES = {401: "invalid_request_error", 429: "requests"}
_PIECE = re.compile(r"\S+\s*|\s+")


class OpenAIChat:
    """The Chat Completions dialect."""

    request_id_header = "x-request-id"

    def claims(self, method: str, path: str) -> bool:
        """Say whether this dialect answers a method and path."""
        return (method, path) in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"))

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the bearer token of a request."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else None

    def respond(self, path: str, body: bytes) -> Response:
        """Answer a request it claims."""
        if path == "/v1/models":
            listed = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "simulator"}
            return _whole(200, {"object": "list", "data": [listed]})
        try:
            wanted = parsed(body)
            asked = body_of(wanted)
            prompt = _prompt_tokens(asked)
            if prompt > WINDOW:
                return self.failure(_too_long(prompt))
            replies = [answer(asked, index) for index in range(asked.n)]
        except BodyInvalid as error:
            return self.failure(Failure(status=400, message=str(error), param=error.param))
        return _completion(body, wanted, prompt, replies)

    def failure(self, failure: Failure) -> Response:
        """Say in OpenAI's form that a request failed."""
        default = "server_error" if failure.status >= 500 else "invalid_request_error"
        error = {
            "message": failure.message,
            "type": _TYPES.get(failure.status, default),
            "param": failure.param,
            "code": failure.code,
        }
        wait = failure.retry_after
        after = () if wait is None else (("retry-after", str(math.ceil(wait))), ("retry-after-ms", f"{wait * 1000:g}"))
        return _whole(failure.status, {"error": error}, *after)


def body_of(body: Json) -> Body:
    """
    Read a Chat Completions body into what a reply may depend on.

    Raises:
        BodyInvalid: A member is missing, of the wrong type or out of range.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BodyInvalid("messages", "a non-empty list")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BodyInvalid("model", "a model's name")
    most = 2**31 - 1
    temperature = number(body, "temperature", 0, 2)
    return Body(
        messages=tuple(_message(one, f"messages[{at}]") for at, one in enumerate(messages)),
        tools=_tools(body.get("tools")),
        tool_choice=_tool_choice(body.get("tool_choice")),
        schema=_schema(body.get("response_format")),
        temperature=1.0 if temperature is None else temperature,
        seed=whole(body, "seed", -(2**63), 2**63 - 1),
        n=whole(body, "n", 1, 128) or 1,
        stop=strings(body, "stop", 4),
        limit=whole(body, "max_completion_tokens", 1, most) or whole(body, "max_tokens", 1, most),
        model=model,
    )


def _message(value: object, at: str) -> tuple[Role, str]:
    if not isinstance(value, Mapping):
        raise BodyInvalid(at, "an object")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise BodyInvalid(f"{at}.role", f"one of {', '.join(map(str, _ROLES))}")
    return _ROLES[role], text_of(value.get("content"), f"{at}.content")


def _tools(value: object) -> tuple[Json, ...]:
    if value is not None and not isinstance(value, list):
        raise BodyInvalid("tools", "a list")
    held: list[object] = [one.get("function") if isinstance(one, Mapping) else None for one in value or ()]
    functions = [one for one in held if isinstance(one, Mapping) and isinstance(one.get("name"), str) and one["name"]]
    if len(functions) != len(held):
        raise BodyInvalid("tools", "a list of functions with names")
    return tuple(
        {"name": one["name"], "description": str(one.get("description") or ""), "parameters": _parameters(one)}
        for one in functions
    )


def _parameters(function: Json) -> Json:
    schema = function.get("parameters")
    return plain_schema(schema) if isinstance(schema, Mapping) else {}


def _tool_choice(value: object) -> str:
    function = value.get("function") if isinstance(value, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return f"={function['name']}"
    if value is None or (isinstance(value, str) and value in ("auto", "none", "required")):
        return value or "auto"
    raise BodyInvalid("tool_choice", "auto, none, required or a function")


def _schema(value: object) -> Json | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or kind not in ("text", "json_object", "json_schema"):
        raise BodyInvalid("response_format", "an object with a known type")
    if kind != "json_schema":
        return None if kind == "text" else {}
    holder = value.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if not isinstance(schema, Mapping):
        raise BodyInvalid("response_format.json_schema", "an object with a schema")
    return plain_schema(schema)


def _prompt_tokens(body: Body) -> int:
    tools = json.dumps(body.tools) if body.tools else ""
    return tokens("".join(text for _, text in body.messages) + tools)


def _too_long(prompt: int) -> Failure:
    message = (
        f"This model's maximum context length is {WINDOW} tokens. However, your messages resulted in {prompt} tokens."
    )
    return Failure(status=400, message=message, code="context_length_exceeded", param="messages")


def _whole(status: int, value: object, *headers: tuple[str, str]) -> Response:
    return Response(status, (_JSON, *headers), (json.dumps(value, separators=(",", ":")).encode(),))


def _completion(body: bytes, wanted: Json, prompt: int, replies: list[Reply]) -> Response:
    first = replies[0]
    rule = ("x-simulator-rule", f"{first.rule}; p={first.p:.2f}; demos={first.demos}")
    streams = wanted.get("stream") is True
    head = {
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}",
        "object": "chat.completion.chunk" if streams else "chat.completion",
        "created": _CREATED,
        "model": MODEL,
        "system_fingerprint": MODEL,
    }
    completion = sum(reply.tokens for reply in replies)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    if not streams:
        choices = [_choice(index, reply) for index, reply in enumerate(replies)]
        return _whole(200, {**head, "choices": choices, "usage": usage}, rule)
    options = wanted.get("stream_options")
    wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    events: list[object] = [{**head, "choices": [choice]} for choice in _deltas(replies)]
    events += [{**head, "choices": [], "usage": usage}] if wants_usage else []
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    parts = tuple(f"data: {line}\n\n".encode() for line in (*lines, "[DONE]"))
    return Response(200, (("content-type", "text/event-stream"), rule), parts, is_stream=True)


def _call(index: int, reply: Reply) -> dict[str, object]:
    function = {"name": reply.tool, "arguments": reply.text}
    return {"id": f"call_{index}", "type": "function", "function": function}


def _choice(index: int, reply: Reply) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool is not None:
        message |= {"content": None, "tool_calls": [_call(index, reply)]}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reply.finish}


def _deltas(replies: list[Reply]) -> Iterator[dict[str, object]]:
    for index, reply in enumerate(replies):
        deltas: list[dict[str, object]] = [{"role": "assistant", "content": None if reply.tool else ""}]
        if reply.tool is None:
            deltas += [{"content": piece} for piece in _PIECE.findall(reply.text)]
        else:
            deltas += [{"tool_calls": [{"index": 0, **_call(index, reply)}]}]
        for delta in deltas:
            yield {"index": index, "delta": delta, "finish_reason": None}
        yield {"index": index, "delta": {}, "finish_reason": reply.finish}
