"""The dialects beside chat, without a socket: what they read, what they refuse, and how they word it."""

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from dspex.simulator.dialects import (
    DIALECTS,
    AnthropicMessagesDialect,
    Dialect,
    ErrorAnswer,
    GeminiDialect,
    OpenAIChatDialect,
    OpenAIEmbeddingsDialect,
    OpenAIResponsesDialect,
    RateAllowance,
    Response,
    Twist,
    anthropic_messages,
    gemini,
    openai_chat,
    openai_responses,
)
from dspex.simulator.dialects._prompt import WINDOW
from dspex.simulator.embedding import EMBEDDING_MODEL, embed

_USER = {"role": "user", "content": "one two"}
_SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}}
_CONTENTS = [{"role": "user", "parts": [{"text": "one two"}]}]
_GENERATE = "/v1beta/models/m:generateContent"
_PATHS: dict[str, tuple[Dialect, str, dict[str, Any]]] = {
    "responses": (OpenAIResponsesDialect(), "/v1/responses", {"model": "m", "input": "one two"}),
    "messages": (AnthropicMessagesDialect(), "/v1/messages", {"model": "m", "max_tokens": 99, "messages": [_USER]}),
    "gemini": (GeminiDialect(), _GENERATE, {"contents": _CONTENTS}),
    "embeddings": (OpenAIEmbeddingsDialect(), "/v1/embeddings", {"model": "m", "input": "one two"}),
}


def _post(dialect: str, twist: Twist = Twist.PLAIN, **members: object) -> Response:
    served, path, body = _PATHS[dialect]
    return served.respond(path, json.dumps({**body, **members}).encode(), twist)


def _json(response: Response) -> Any:
    return json.loads(b"".join(response.parts))


# --- one request in four dialects -----------------------------------------------------------------------------


def test_a_conversation_is_the_same_in_every_dialect() -> None:
    """System, demonstrations, tools, a call and its result, schema, limits: the learner sees one body."""
    chat = openai_chat.asked_of(
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": "Answer."},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "search"},
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "tool_call_id": "1", "content": "found"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
            "max_completion_tokens": 9,
            "temperature": 0.5,
        }
    )
    responses = openai_responses.asked_of(
        {
            "model": "m",
            "instructions": "Answer.",
            "input": [
                {"role": "user", "content": "q"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "search"}]},
                {"type": "reasoning", "id": "r", "summary": []},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "found"},
            ],
            "tools": [{"type": "function", "name": "f", "description": "d", "parameters": _SCHEMA}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "x", "schema": _SCHEMA}},
            "max_output_tokens": 9,
            "temperature": 0.5,
        }
    )
    messages = anthropic_messages.asked_of(
        {
            "model": "m",
            "system": [{"type": "text", "text": "Answer."}],
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "search"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "found"}]},
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": _SCHEMA}],
            "tool_choice": {"type": "tool", "name": "f"},
            "output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}},
            "max_tokens": 9,
            "temperature": 0.5,
        }
    )
    shouted = {"type": "OBJECT", "properties": {"query": {"type": "STRING"}}}
    google = gemini.asked_of(
        {
            "systemInstruction": {"parts": [{"text": "Answer."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "thinking", "thought": True}, {"text": "a"}]},
                {"role": "user", "parts": [{"text": "search"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "found"}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parameters": shouted}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseSchema": shouted,
                "maxOutputTokens": 9,
                "temperature": 0.5,
            },
        },
        "m",
    )

    assert chat == responses == messages == google
    assert chat.body.messages[-3:] == (("user", "search"), ("assistant", ""), ("tool", "found"))
    assert (chat.body.tool_choice, chat.body.limit, chat.body.temperature) == ("=f", 9, 0.5)


@pytest.mark.parametrize(
    ("dialect", "members"),
    [
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}),
        ("gemini", {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": ""}}]}]}),
    ],
)
def test_what_is_no_text_is_taken_and_said_not_to_be_seen(dialect: str, members: dict[str, Any]) -> None:
    """Pictures and sound are accepted; the learner is honest about them."""
    response = _post(dialect, **members)

    assert response.status == 200
    assert dict(response.headers)["x-simulator-unseen"] == "1 parts that are not text"


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "members", "word"),
    [
        ("responses", {"model": ""}, "model"),
        ("responses", {"input": []}, "input"),
        ("responses", {"input": [3]}, "input[0]"),
        ("responses", {"input": [{"type": "computer_call"}]}, "input[0].type"),
        ("responses", {"input": [{"role": "oracle", "content": "x"}]}, "input[0].role"),
        ("responses", {"input": [{"type": "reasoning"}]}, "input"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools"),
        ("responses", {"tool_choice": "maybe"}, "tool_choice"),
        ("responses", {"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ("responses", {"previous_response_id": "resp_1"}, "resp_1"),
        ("messages", {"max_tokens": None}, "max_tokens"),
        ("messages", {"messages": []}, "messages"),
        ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ("messages", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("messages", {"temperature": 1.5}, "temperature"),
        ("messages", {"tools": [{"name": "x"}]}, "tools[0]"),
        ("messages", {"tool_choice": "auto"}, "tool_choice"),
        ("messages", {"output_config": {"format": {"type": "json"}}}, "output_config.format"),
        ("messages", {"stop_sequences": [""]}, "stop_sequences"),
        ("gemini", {"contents": []}, "contents"),
        ("gemini", {"contents": [{"role": "user"}]}, "contents[0].parts"),
        ("gemini", {"contents": [{"role": "assistant", "parts": []}]}, "contents[0].role"),
        ("gemini", {"generationConfig": 3}, "generationConfig"),
        ("gemini", {"generationConfig": {"candidateCount": 99}}, "candidateCount"),
        ("gemini", {"generationConfig": {"responseSchema": {}, "responseJsonSchema": {"a": 1}}}, "responseMimeType"),
        ("gemini", {"tools": [{"googleSearch": {}}]}, "tools[0]"),
        ("gemini", {"toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}}, "mode"),
        ("embeddings", {"input": ""}, "input"),
        ("embeddings", {"input": ["x"] * 2049}, "input"),
        ("embeddings", {"input": [["a"]]}, "input[0]"),
        ("embeddings", {"encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"dimensions": 0}, "dimensions"),
        ("embeddings", {"input": ["x" * 4 * 8193]}, "8192"),
        ("embeddings", {"input": ["x" * 4 * 8000] * 38}, "300000"),
    ],
)
def test_a_wrong_body_is_a_400_that_says_what_is_wrong(dialect: str, members: dict[str, Any], word: str) -> None:
    """In the provider's form; nothing is answered as if it had not been asked."""
    response = _post(dialect, **members)

    assert response.status == 400
    assert word in _json(response)["error"]["message"]


@pytest.mark.parametrize(
    ("dialect", "member", "words"),
    [
        ("responses", "input", "maximum context length"),
        ("messages", "system", "prompt is too long"),
        ("gemini", "system_instruction", "exceeds the maximum number of tokens"),
    ],
)
def test_a_prompt_longer_than_the_window_is_refused(dialect: str, member: str, words: str) -> None:
    """In the words that clients look for."""
    long = "x" * 4 * (WINDOW + 1)
    given: dict[str, Any] = {member: {"parts": [{"text": long}]} if dialect == "gemini" else long}
    response = _post(dialect, **given)

    assert response.status == 400
    assert words in _json(response)["error"]["message"]


def test_every_failure_has_a_form_in_every_dialect() -> None:
    """An error object with a message, whole and inside a stream."""
    for dialect in DIALECTS:
        for code in ("rate_limit_exceeded", "insufficient_quota", "overloaded", "timeout", None):
            failure = ErrorAnswer(status=500, message="why", code=code)
            assert _json(dialect.failure(failure))["error"]["message"] == "why"
            assert b"why" in dialect.broken(failure, 3)


# --- one dialect at a time ------------------------------------------------------------------------------------


def test_a_stop_sequence_is_told_from_the_end_of_a_turn() -> None:
    """The first in the text counts; a limit that comes before it wins."""
    stopped = _json(_post("messages", stop_sequences=["zzz", " two"], temperature=0))
    not_reached = _json(_post("messages", stop_sequences=["zzz"], temperature=0))
    cut = _json(_post("messages", stop_sequences=["two"], temperature=0, max_tokens=1))

    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", " two")
    assert stopped["content"][0]["text"] == "one"
    assert (not_reached["stop_reason"], not_reached["stop_sequence"]) == ("end_turn", None)
    assert cut["stop_reason"] == "stop_sequence"
    assert cut["content"][0]["text"] == "one "


def test_half_a_tool_call_is_no_input() -> None:
    """A limit may cut the arguments: an object dialect has none then, a text dialect has half of them."""
    tool = {"name": "f", "input_schema": _SCHEMA}
    said = _json(_post("messages", tools=[tool], tool_choice={"type": "any"}, max_tokens=2))

    assert (said["stop_reason"], said["content"][0]["input"]) == ("max_tokens", {})


def test_a_stream_without_events_is_an_array() -> None:
    """Gemini without ``alt=sse`` sends one JSON array in as many parts."""
    body = json.dumps({"contents": _CONTENTS, "generationConfig": {"temperature": 0}}).encode()
    response = GeminiDialect().respond("/v1beta/models/m:streamGenerateContent", body)
    pieces = _json(response)

    assert response.is_stream
    assert "".join(one["candidates"][0]["content"]["parts"][0]["text"] for one in pieces) == "one two"
    assert pieces[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_has_feedback_and_no_candidate(stream: bool) -> None:
    """Gemini's empty answers say why."""
    action = "streamGenerateContent?alt=sse" if stream else "generateContent"
    raw = json.dumps({"contents": _CONTENTS}).encode()
    response = GeminiDialect().respond(f"/v1beta/models/m:{action}", raw, Twist.REFUSAL)
    said = json.loads(response.parts[0].removeprefix(b"data: "))

    assert said["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in said


def test_base64_is_little_endian_float32() -> None:
    """A decoded vector is the one that JSON would have had, to the precision of four bytes."""
    plain = _json(_post("embeddings", dimensions=8))["data"][0]["embedding"]
    packed = _json(_post("embeddings", dimensions=8, encoding_format="base64"))["data"][0]["embedding"]

    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(plain, abs=1e-6)


def test_embeddings_take_texts_and_token_ids() -> None:
    """One of each or many; the reply keeps their order and counts their tokens."""
    said = _json(_post("embeddings", input=["a b", "c"], dimensions=4))
    ids = _json(_post("embeddings", input=[[1, 2, 3], [4]], dimensions=4))
    one = _json(_post("embeddings", input=[1, 2], dimensions=4))

    assert [item["index"] for item in said["data"]] == [0, 1]
    assert said["model"] == EMBEDDING_MODEL
    assert (ids["usage"]["total_tokens"], len(ids["data"])) == (4, 2)
    assert (one["usage"]["total_tokens"], len(one["data"])) == (2, 1)


def test_similar_texts_have_near_vectors() -> None:
    """Shared stems are what similar means; other words for the same are not seen."""

    def near(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(embed(one, 256), embed(other, 256), strict=True))

    assert near("the cat chases mice", "a cat chased mice") > 0.9
    assert near("the cat chases mice", "the cat sleeps") > near("the cat chases mice", "stock prices fell")
    assert abs(near("feline", "cat")) < 0.5


def test_limits_are_worded_as_the_providers_do() -> None:
    """A duration for one, a date for another, nothing for the third."""
    limits = {"requests": RateAllowance(60, 59, 1.0), "tokens": RateAllowance(1000, 0, 90.5)}
    now = datetime(2030, 1, 1, tzinfo=UTC)
    openai = dict(OpenAIChatDialect().allowance(limits, now))
    anthropic = dict(AnthropicMessagesDialect().allowance(limits, now))

    assert (openai["x-ratelimit-limit-tokens"], openai["x-ratelimit-remaining-tokens"]) == ("1000", "0")
    assert (openai["x-ratelimit-reset-requests"], openai["x-ratelimit-reset-tokens"]) == ("1s", "1m30.5s")
    assert anthropic["anthropic-ratelimit-tokens-reset"] == "2030-01-01T00:01:30Z"
    assert GeminiDialect().allowance(limits, now) == ()


def test_keys_are_read_where_each_provider_sends_them() -> None:
    """A header of its own, a bearer token, or the query."""
    assert OpenAIChatDialect().key({"authorization": "Bearer k"}, "") == "k"
    assert AnthropicMessagesDialect().key({"x-api-key": "k"}, "") == "k"
    assert AnthropicMessagesDialect().key({"authorization": "Bearer k"}, "") == "k"
    assert GeminiDialect().key({"x-goog-api-key": "k"}, "") == "k"
    assert GeminiDialect().key({}, "alt=sse&key=k") == "k"
    assert [dialect.key({}, "") for dialect in DIALECTS] == [None] * len(DIALECTS)


def test_each_path_has_one_dialect() -> None:
    """The three lists of models at one address are told apart by a header."""
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models", {"anthropic-version": "1"}),
        ("GET", "/v1/models", {"x-goog-api-key": "k"}),
        ("GET", "/v1beta/models/m", {}),
        ("POST", "/v1/chat/completions", {}),
        ("POST", "/v1/responses", {}),
        ("POST", "/v1/messages", {}),
        ("POST", "/v1/messages/count_tokens", {}),
        ("POST", "/v1/embeddings", {}),
        ("POST", "/v1/models/m:generateContent", {}),
        ("POST", "/v1beta/models/m:batchEmbedContents", {}),
    ]
    claimed = [[dialect.name for dialect in DIALECTS if dialect.claims(*one)] for one in asked]

    assert [names[0] for names in claimed] == [
        *("openai", "anthropic", "gemini", "gemini", "openai", "openai", "anthropic", "anthropic", "openai"),
        *("gemini", "gemini"),
    ]
    assert not any(dialect.claims("POST", "/v1beta/models/m:explode", {}) for dialect in DIALECTS)
