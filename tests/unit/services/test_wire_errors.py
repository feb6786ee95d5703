"""Error answers as servers that are not OpenAI write them, and what the headers add."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
)
from dspex.services.lm.wires._errors import error_body, inner_status
from dspex.services.lm.wires.chat.wire import OpenAIChat


def failure(status: int, body: object, **headers: str) -> LMError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(LMError) as caught:
        OpenAIChat().decode(status, names, json.dumps(body).encode())
    return caught.value


AZURE_FILTER = {
    "error": {
        "message": "The response was filtered.",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}
LLAMA_CPP = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000,
        "n_ctx": 4096,
    }
}
VLLM = {
    "error": {"message": "This model's maximum context length is 4096 tokens.", "type": "BadRequestError", "code": 400}
}
VLLM_FLAT = {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
OPENROUTER = {
    "error": {
        "message": "Provider returned error",
        "code": 429,
        "metadata": {"raw": '{"error": {"message": "Upstream quota is used up", "code": "insufficient_quota"}}'},
    }
}
WRAPPED = {"error": {"message": '{"error": {"message": "too long", "code": "context_length_exceeded"}}', "code": 400}}


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (400, AZURE_FILTER, ContentRefused, "filtered"),
        (400, LLAMA_CPP, ContextTooLong, "context size"),
        (400, VLLM, ContextTooLong, "4096"),
        (404, VLLM_FLAT, RequestRejected, "does not exist"),
        (429, OPENROUTER, QuotaExhausted, "quota is used up"),
        (400, WRAPPED, ContextTooLong, "too long"),
        (400, [{"error": {"message": "in a list", "code": 400}}], RequestRejected, "in a list"),
        (404, {"detail": "Not Found"}, RequestRejected, "Not Found"),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "must be 1"}]}, RequestRejected, "must be 1"),
        (
            503,
            {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
            ServerFailed,
            "Loading",
        ),
        (500, {"error": "llama runner process has terminated"}, ServerFailed, "llama runner"),
        (429, {"message": "API rate limit exceeded", "request_id": "x"}, RateLimited, "rate limit"),
        (200, OPENROUTER, QuotaExhausted, "quota is used up"),
        (200, {"choices": [{"error": {"message": "upstream is gone", "code": 502}}]}, ServerFailed, "upstream is gone"),
        (200, {"object": "error", "message": "engine died", "code": 500}, ServerFailed, "engine died"),
        (200, {"error": {"message": "no", "code": "401"}}, AuthFailed, "refused the API key"),
    ],
)
def test_every_servers_way_of_saying_it(status: int, body: object, expected: type[LMError], words: str) -> None:
    """Azure, llama.cpp, vLLM, OpenRouter, gateways of FastAPI, Ollama, Mistral."""
    caught = failure(status, body)

    assert type(caught) is expected
    assert words in str(caught)


@pytest.mark.parametrize(("value", "expected"), [("false", False), ("true", True), (None, None)])
def test_the_providers_word_on_another_try_is_kept(value: str | None, expected: bool | None) -> None:
    """``x-should-retry: false`` forbids it, whatever the status says of its own."""
    headers = {} if value is None else {"x_should_retry": value}

    assert failure(500, {"error": {"message": "no"}}, **headers).should_retry is expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"error": {"code": 502}}, 502),
        ({"error": {"code": "429"}}, 429),
        ({"error": {"code": "rate_limit", "status": 503}}, 503),
        ({"error": {"code": True}}, 200),
        ({"error": {"code": 7}}, 200),
        ({"error": {"code": "²²²"}}, 200),
        ({"error": "no"}, 200),
        ([], 200),
        (None, 200),
    ],
)
def test_the_status_inside_an_error(document: Any, expected: int) -> None:
    assert inner_status(document, 200) == expected


@pytest.mark.parametrize("document", [None, 7, [], [1], {"error": 7}])
def test_what_is_no_error_has_no_body(document: object) -> None:
    assert error_body(document) is None
