"""The Chat Completions dialect, without a socket."""

import json
from typing import Any

import pytest

from dspex.simulator.dialects import ErrorAnswer, OpenAIChatDialect, Response
from dspex.simulator.dialects.openai_chat import WINDOW
from dspex.simulator.learner import MODEL

_PATH = "/v1/chat/completions"


def _post(body: object) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OpenAIChatDialect().respond(_PATH, raw)


def _asked(text: str = "one two", **members: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **members}


def _json(response: Response) -> Any:
    return json.loads(b"".join(response.parts))


def _events(response: Response) -> list[Any]:
    lines = b"".join(response.parts).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_completion_has_everything_clients_read() -> None:
    """Choice, finish reason, usage by bytes, fingerprint, and the rule in a header."""
    response = _post(_asked())
    said = _json(response)

    assert said["object"] == "chat.completion"
    assert said["choices"][0]["message"]["content"] == "one two"
    assert said["choices"][0]["finish_reason"] == "stop"
    assert [said["usage"][f"{name}_tokens"] for name in ("prompt", "completion", "total")] == [2, 2, 4]
    assert (said["model"], said["system_fingerprint"]) == (MODEL, MODEL)
    assert dict(response.headers)["x-simulator-rule"] == "echo; p=1.00; demos=0"


def test_n_choices_are_numbered_and_counted() -> None:
    """Usage counts the prompt once and every choice."""
    said = _json(_post(_asked(n=3)))

    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2]
    assert said["usage"]["completion_tokens"] == 6


def test_a_stream_says_the_same_in_pieces() -> None:
    """The pieces add up to the whole reply; usage comes only when asked for, without choices."""
    events = _events(_post(_asked(stream=True, stream_options={"include_usage": True})))
    *chunks, usage = events
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]

    assert "".join(pieces) == "one two"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == _json(_post(_asked()))["usage"]
    assert len({event["id"] for event in events}) == 1


def test_a_stream_without_options_has_no_usage() -> None:
    """Clients that do not ask for usage do not get a chunk without choices."""
    assert all(event["choices"] for event in _events(_post(_asked(stream=True))))


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_is_worded_as_one(stream: bool) -> None:
    """The name, and the arguments as a JSON string."""
    schema = {"type": "object", "properties": {"query": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "search", "parameters": schema}}]
    response = _post(_asked("search cats", tools=tools, stream=stream))
    choices = [one["choices"][0] for one in _events(response)] if stream else [_json(response)["choices"][0]]
    messages = [choice["delta" if stream else "message"] for choice in choices]
    calls = [message["tool_calls"][0]["function"] for message in messages if "tool_calls" in message]

    assert calls[0]["name"] == "search"
    assert json.loads("".join(call["arguments"] for call in calls)) == {"query": "search cats"}
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_references_in_a_schema_are_followed() -> None:
    """An enum behind a reference is a closed set, a type in a union is the type."""
    schema = {
        "properties": {"color": {"$ref": "#/$defs/Color"}, "count": {"anyOf": [{"type": "null"}, {"type": "integer"}]}},
        "$defs": {"Color": {"enum": ["red", "blue"]}},
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    said = _json(_post(_asked("3 blue birds", response_format=response_format)))

    assert json.loads(said["choices"][0]["message"]["content"]) == {"color": "blue", "count": 3}


def test_a_schema_that_refers_to_itself_ends() -> None:
    """A recursive schema is followed a bounded number of times."""
    schema = {"properties": {"next": {"$ref": "#"}}}
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    assert _post(_asked(response_format=response_format)).status == 200


def test_a_prompt_longer_than_the_window_is_refused() -> None:
    """The error is the provider's own, with the code clients look for."""
    fits = _post(_asked("x" * 4 * WINDOW))
    error = _json(_post(_asked("x" * 4 * WINDOW + "x")))["error"]

    assert fits.status == 200
    assert (error["code"], error["type"]) == ("context_length_exceeded", "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m", "messages": ["x"]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "oracle", "content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        (_asked(temperature=3), "temperature"),
        (_asked(temperature=True), "temperature"),
        (_asked(n=0), "n"),
        (_asked(n=129), "n"),
        (_asked(seed=1.5), "seed"),
        (_asked(max_tokens=0), "max_tokens"),
        (_asked(stop=[""]), "stop"),
        (_asked(stop=["a"] * 5), "stop"),
        (_asked(tools={}), "tools"),
        (_asked(tools=[{"function": {}}]), "tools"),
        (_asked(tool_choice="maybe"), "tool_choice"),
        (_asked(response_format={"type": "xml"}), "response_format"),
        (_asked(response_format={"type": "json_schema"}), "response_format.json_schema"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_member(body: object, param: str) -> None:
    """Nothing is answered as if it had not been asked."""
    response = _post(body)

    assert response.status == 400
    assert _json(response)["error"]["param"] == param


def test_a_failure_is_worded_as_the_provider_does() -> None:
    """A 429 says how long to wait twice: in whole seconds, and to the millisecond."""
    failure = ErrorAnswer(status=429, message="slow", code="rate_limit_exceeded", retry_after=1.25)
    response = OpenAIChatDialect().failure(failure)

    assert dict(response.headers)["retry-after"] == "2"
    assert dict(response.headers)["retry-after-ms"] == "1250"
    assert _json(response)["error"]["type"] == "requests"
    assert _json(response)["error"]["code"] == "rate_limit_exceeded"


def test_the_models_are_listed() -> None:
    """The one model is the version of the learner."""
    assert [one["id"] for one in _json(OpenAIChatDialect().respond("/v1/models", b""))["data"]] == [MODEL]
