"""OpenAI's Responses: ``POST /v1/responses``, whole or as the documented sequence of events. It keeps none of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dspex.simulator.dialects._checks import Json, number, parsed, text_of, unseen_in, whole
from dspex.simulator.dialects._dialect import BodyInvalid, ErrorAnswer, Response, Twist
from dspex.simulator.dialects._openai import (
    CREATED,
    JSON,
    STREAM,
    OpenAI,
    error_of,
    function_of,
    schema_of,
    tool_choice_of,
    whole_response,
)
from dspex.simulator.dialects._prompt import ReceivedPrompt, Said, compact, event, headers_of, pieces, say
from dspex.simulator.learner import MODEL, Body, Role

__all__ = ["OpenAIResponsesDialect", "asked_of"]

_ROLES: Mapping[object, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_KEPT_NOWHERE = ("reasoning", "item_reference")
_REASONS = {"length": "max_output_tokens", "filtered": "content_filter"}


class OpenAIResponsesDialect(OpenAI):
    """The Responses dialect."""

    def claims(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
        """Say whether this dialect answers a method and path."""
        if path == "/v1/responses":
            return method == "POST"
        return path.startswith("/v1/responses/") and method in ("GET", "DELETE")

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims."""
        if target.startswith("/v1/responses/"):
            name = target.removeprefix("/v1/responses/")
            return self.failure(ErrorAnswer(status=404, message=f"Response with id '{name}' not found: none is kept."))
        try:
            wanted = parsed(body)
            asked = asked_of(wanted)
            said = say(asked, twist)
        except BodyInvalid as error:
            failed = error.failure()
            return self.failure(replace(failed, param="input") if failed.param == "messages" else failed)
        return _response(body, wanted, asked, said)

    def broken(self, failure: ErrorAnswer, at: int) -> bytes:
        """Say it inside a stream: an event of its own."""
        error = error_of(failure)
        said = {name: error[name] for name in ("code", "message", "param")}
        return event("error", {"type": "error", **said, "sequence_number": at})


def asked_of(body: Json) -> ReceivedPrompt:
    """
    Read a Responses body.

    Raises:
        BodyInvalid: A member is missing, of the wrong type or out of range, or refers to what was said before.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BodyInvalid("model", "a model's name")
    if (before := body.get("previous_response_id")) is not None:
        message = f"Previous response with id '{before}' not found: the simulator keeps none."
        raise BodyInvalid("previous_response_id", message, code="previous_response_not_found")
    given = body.get("input")
    instructions = text_of(body.get("instructions"), "instructions")
    temperature = number(body, "temperature", 0, 2)
    text, choice = body.get("text"), body.get("tool_choice")
    if text is not None and not isinstance(text, Mapping):
        raise BodyInvalid("text", "an object")
    held: tuple[tuple[Role, str], ...] = (("system", instructions),) if instructions else ()
    read = Body(
        messages=held + _messages(given),
        tools=_tools(body.get("tools")),
        tool_choice=tool_choice_of(choice, choice.get("name") if isinstance(choice, Mapping) else None),
        schema=schema_of((text or {}).get("format"), "text.format", ""),
        temperature=1.0 if temperature is None else temperature,
        seed=None,
        limit=whole(body, "max_output_tokens", 1, 2**31 - 1),
        model=model,
    )
    items = given if isinstance(given, list) else ()
    unseen = sum(unseen_in(one.get("content")) for one in items if isinstance(one, Mapping))
    return ReceivedPrompt(read, streams=body.get("stream") is True, unseen=unseen)


def _messages(value: object) -> tuple[tuple[Role, str], ...]:
    if isinstance(value, str) and value:
        return (("user", value),)
    if not isinstance(value, list) or not value:
        raise BodyInvalid("input", "a string or a non-empty list of items")
    found: list[tuple[Role, str]] = []
    speaks = ""  # whether the last item was the assistant's: its calls belong to the same turn
    for at, one in enumerate(value):
        kind = one.get("type", "message") if isinstance(one, Mapping) else None
        if not isinstance(one, Mapping) or not isinstance(kind, str):
            raise BodyInvalid(f"input[{at}]", "an object with a type")
        if kind in _KEPT_NOWHERE:
            continue
        turn = _turn(one, kind, f"input[{at}]")
        if kind != "function_call" or speaks != "assistant":
            found.append(turn)
        speaks = turn[0]
    if not found:
        raise BodyInvalid("input", "a list with a message")
    return tuple(found)


def _turn(item: Json, kind: str, at: str) -> tuple[Role, str]:
    match kind:
        case "message":
            role = item.get("role")
            if not isinstance(role, str) or role not in _ROLES:
                raise BodyInvalid(f"{at}.role", f"one of {', '.join(map(str, _ROLES))}")
            return _ROLES[role], text_of(item.get("content"), f"{at}.content")
        case "function_call":
            return "assistant", ""
        case "function_call_output":
            return "tool", text_of(item.get("output"), f"{at}.output")
    raise BodyInvalid(f"{at}.type", "message, function_call, function_call_output or reasoning")


def _tools(value: object) -> tuple[Json, ...]:
    if value is not None and not isinstance(value, list):
        raise BodyInvalid("tools", "a list")
    held: list[object] = list(value or ())
    kinds = [one.get("type") if isinstance(one, Mapping) else None for one in held]
    if any(kind != "function" for kind in kinds):
        raise BodyInvalid("tools", "a list of functions; the simulator has no tools of its own")
    return tuple(function_of(one, "tools") for one in held)


def _item(name: str, said: Said, *, text: str | None = None, status: str = "") -> dict[str, object]:
    """Return an output item; `text` is what has been said so far, everything when None."""
    text = said.text if text is None else text
    status = status or ("completed" if said.ending not in _REASONS else "incomplete")
    if said.tool is not None:
        call = {"id": f"fc_{name}", "type": "function_call", "call_id": f"call_{name}", "name": said.tool}
        return {**call, "arguments": text, "status": status}
    content = [] if status == "in_progress" else [_part(said, text)]
    return {"id": f"msg_{name}", "type": "message", "role": "assistant", "status": status, "content": content}


def _part(said: Said, text: str) -> dict[str, object]:
    if said.ending == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(body: bytes, wanted: Json, asked: ReceivedPrompt, said: Sequence[Said]) -> Response:
    name = hashlib.sha256(body).hexdigest()[:24]
    reason = next((_REASONS[one.ending] for one in said if one.ending in _REASONS), None)
    prompt, completion = asked.prompt, sum(one.tokens for one in said)
    echoed = ("instructions", "max_output_tokens", "metadata", "temperature", "top_p", "tool_choice", "tools", "text")
    whole_one: dict[str, object] = {
        **{member: wanted.get(member) for member in echoed},
        "id": f"resp_{name}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed" if reason is None else "incomplete",
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": MODEL,
        "output": [_item(name, one) for one in said],
        "parallel_tool_calls": wanted.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "store": False,
        "tool_choice": wanted.get("tool_choice") or "auto",
        "tools": wanted.get("tools") or [],
        "text": wanted.get("text") or {"format": {"type": "text"}},
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
    }
    rule = headers_of(said, asked)
    if not asked.streams:
        sent = whole_response(200, whole_one, *rule)
        return Response(200, (JSON, *rule), sent.parts, prompt=prompt, completion=completion)
    parts = tuple(_numbered(_events(whole_one, name, said)))
    return Response(200, (STREAM, *rule), parts, is_stream=True, ending=1, prompt=prompt, completion=completion)


def _numbered(events: Iterator[dict[str, object]]) -> Iterator[bytes]:
    for number_of, one in enumerate(events):
        kind = str(one["type"])
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), compact({**one, "sequence_number": number_of}))


def _events(whole_one: dict[str, object], name: str, said: Sequence[Said]) -> Iterator[dict[str, object]]:
    begun = {**whole_one, "status": "in_progress", "output": [], "incomplete_details": None, "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for at, one in enumerate(said):
        yield from _item_events(at, name, one)
    yield {"type": f"response.{whole_one['status']}", "response": whole_one}


def _item_events(at: int, name: str, said: Said) -> Iterator[dict[str, object]]:
    item = _item(name, said)
    where = {"output_index": at, "item_id": item["id"]}
    begun = _item(name, said, text="", status="in_progress")
    yield {"type": "response.output_item.added", "output_index": at, "item": begun}
    if said.tool is not None:
        for piece in pieces(said.text):
            yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
        done = {"name": said.tool, "arguments": said.text}
        yield {"type": "response.function_call_arguments.done", **where, **done}
    else:
        refused = said.ending == "refusal"
        kind = "response.refusal" if refused else "response.output_text"
        where["content_index"] = 0
        extra: dict[str, object] = {} if refused else {"logprobs": []}
        yield {"type": "response.content_part.added", **where, "part": _part(said, "")}
        for piece in pieces(said.text):
            yield {"type": f"{kind}.delta", **where, "delta": piece, **extra}
        yield {"type": f"{kind}.done", **where, ("refusal" if refused else "text"): said.text, **extra}
        yield {"type": "response.content_part.done", **where, "part": _part(said, said.text)}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}
