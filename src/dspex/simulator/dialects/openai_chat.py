"""OpenAI's Chat Completions: ``POST /v1/chat/completions``, whole or as server-sent events, and ``GET /v1/models``."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from dspex.simulator.dialects._checks import Json, number, parsed, strings, text_of, unseen_in, whole
from dspex.simulator.dialects._choices import choices_of
from dspex.simulator.dialects._dialect import BodyInvalid, Response, Twist
from dspex.simulator.dialects._openai import (
    CREATED,
    STREAM,
    OpenAI,
    function_of,
    schema_of,
    tool_choice_of,
    whole_response,
)
from dspex.simulator.dialects._prompt import WINDOW, ReceivedPrompt, Said, compact, event, headers_of, pieces, say
from dspex.simulator.learner import MODEL, Body, Role

__all__ = ["WINDOW", "OpenAIChatDialect", "body_of"]

_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_ENDINGS = {"refusal": "stop", "filtered": "content_filter", "stop_sequence": "stop"}


def _untaught(body: Body) -> Body:
    return body


class OpenAIChatDialect(OpenAI):
    """
    The Chat Completions dialect.

    Args:
        taught: Returns what a model sees: more than the prompt where it was trained.
    """

    def __init__(self, taught: Callable[[Body], Body] = _untaught) -> None:
        self._taught = taught

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        return (method, path) == ("POST", "/v1/chat/completions") or (
            method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/"))
        )

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims."""
        if target.startswith("/v1/models"):
            return _models(target.partition("?")[0].removeprefix("/v1/models").lstrip("/"))
        try:
            wanted = parsed(body)
            asked = asked_of(wanted)
            said = say(replace(asked, body=self._taught(asked.body)), twist)
        except BodyInvalid as error:
            return self.failure(error.failure())
        return _completion(body, wanted, asked, said)


def _models(name: str) -> Response:
    one = {"id": name or MODEL, "object": "model", "created": CREATED, "owned_by": "simulator"}
    return whole_response(200, one if name else {"object": "list", "data": [one]})


def body_of(body: Json) -> Body:
    """
    Read a Chat Completions body into what a reply may depend on.

    Raises:
        BodyInvalid: A member is missing, of the wrong type or out of range.
    """
    return asked_of(body).body


def asked_of(body: Json) -> ReceivedPrompt:
    """
    Read a Chat Completions body.

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
    choice = body.get("tool_choice")
    named = choice.get("function") if isinstance(choice, Mapping) else None
    read = Body(
        messages=tuple(_message(one, f"messages[{at}]") for at, one in enumerate(messages)),
        tools=_tools(body.get("tools")),
        tool_choice=tool_choice_of(choice, named.get("name") if isinstance(named, Mapping) else None),
        schema=schema_of(body.get("response_format"), "response_format", "json_schema"),
        temperature=1.0 if temperature is None else temperature,
        seed=whole(body, "seed", -(2**63), 2**63 - 1),
        n=whole(body, "n", 1, 128) or 1,
        stop=strings(body, "stop", 4),
        limit=whole(body, "max_completion_tokens", 1, most) or whole(body, "max_tokens", 1, most),
        model=model,
        choices=choices_of(body),
    )
    unseen = sum(unseen_in(one.get("content")) for one in messages)
    return ReceivedPrompt(read, streams=body.get("stream") is True, unseen=unseen)


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
    held = [one.get("function") if isinstance(one, Mapping) else None for one in value or ()]
    return tuple(function_of(one, "tools") for one in held)


def _completion(body: bytes, wanted: Json, asked: ReceivedPrompt, said: Sequence[Said]) -> Response:
    rule = headers_of(said, asked)
    head = {
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}",
        "object": "chat.completion.chunk" if asked.streams else "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "system_fingerprint": MODEL,
    }
    prompt, completion = asked.prompt, sum(one.tokens for one in said)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    if not asked.streams:
        choices = [_choice(index, one) for index, one in enumerate(said)]
        made = compact({**head, "choices": choices, "usage": usage})
        return Response(
            200, (("content-type", "application/json"), *rule), (made,), prompt=prompt, completion=completion
        )
    options = wanted.get("stream_options")
    wants_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    parts = [event("", {**head, "choices": [choice]}) for choice in _deltas(said)]
    parts += [event("", {**head, "choices": [], "usage": usage})] if wants_usage else []
    parts += [b"data: [DONE]\n\n"]
    ending = 1 + wants_usage + bool(said)  # the last choice's finish reason, its usage, the sentinel
    return Response(
        200, (STREAM, *rule), tuple(parts), is_stream=True, ending=ending, prompt=prompt, completion=completion
    )


def _call(index: int, said: Said, arguments: str) -> dict[str, object]:
    return {"id": f"call_{index}", "type": "function", "function": {"name": said.tool, "arguments": arguments}}


def _choice(index: int, said: Said) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": said.text, "refusal": None}
    if said.ending == "refusal":
        message |= {"content": None, "refusal": said.text}
    elif said.tool is not None:
        message |= {"content": None, "tool_calls": [_call(index, said, said.text)]}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish(said)}


def _finish(said: Said) -> str:
    return _ENDINGS.get(said.ending, said.ending)


def _deltas(choices: Sequence[Said]) -> Iterator[dict[str, object]]:
    for index, said in enumerate(choices):
        for delta in _delta(index, said):
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": _finish(said)}


def _delta(index: int, said: Said) -> Iterator[dict[str, object]]:
    if said.tool is None:
        member = "refusal" if said.ending == "refusal" else "content"
        yield {"role": "assistant", "content": None if member == "refusal" else "", "refusal": None}
        for piece in pieces(said.text):
            yield {member: piece}
        return
    yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **_call(index, said, "")}]}
    for piece in pieces(said.text):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
