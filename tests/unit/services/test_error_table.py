"""The table of errors, tried with the exact bytes that servers send."""

from __future__ import annotations

import json

import pytest

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    LMError,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
)
from dspex.protocols.wire import Wire
from dspex.services.lm.retry import is_key_failure, is_outage
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.wire import OpenAIChat
from dspex.services.lm.wires.gemini.wire import Gemini
from dspex.services.lm.wires.responses.wire import OpenAIResponses

CHAT, RESPONSES, ANTHROPIC, GEMINI = OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini()


def failure(wire: Wire, status: int, body: bytes, **headers: str) -> LMError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(LMError) as caught:
        wire.decode(status, names, body)
    return completed(caught.value, names, now=0.0, key_hint="set MY_KEY")


def in_openai_form(message: str, code: object = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


TOO_LONG: dict[str, tuple[Wire, int, bytes]] = {
    "openai": (
        CHAT,
        400,
        in_openai_form(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens. "
            "Please reduce the length of the messages.",
            "context_length_exceeded",
        ),
    ),
    "openai gpt-5": (CHAT, 400, in_openai_form("Input tokens exceed the configured limit of 272000 tokens.")),
    "openai responses": (
        RESPONSES,
        400,
        in_openai_form("Your input exceeds the context window of this model. Please adjust your input and try again."),
    ),
    "openai, one request above the minute's tokens": (
        CHAT,
        429,
        in_openai_form(
            "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 31200. "
            "The input or output tokens must be reduced in order to run successfully.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    "groq, one request above the minute's tokens": (
        CHAT,
        413,
        in_openai_form(
            "Request too large for model `llama-3.1-8b-instant` in organization `org_1` service tier `on_demand` on "
            "tokens per minute (TPM): Limit 6000, Requested 7212, please reduce your message size and try again.",
            "rate_limit_exceeded",
            "tokens",
        ),
    ),
    "cerebras": (
        CHAT,
        400,
        (
            b'{"message":"Please reduce the length of the messages or completion. Current length is 9000 while '
            b"limit is "
            b'8192","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}'
        ),
    ),
    "github models": (
        CHAT,
        413,
        (
            b'{"error":{"code":"tokens_limit_reached","message":"Request body too large for gpt-4o model. Max '
            b"size: 8000 "
            b'tokens.","details":"Request body too large for gpt-4o model. Max size: 8000 tokens."}}'
        ),
    ),
    "sglang": (
        CHAT,
        400,
        (
            b'{"object":"error","message":"The input (9000 tokens) is longer than the model\'s context length (4096 '
            b'tokens).","type":"BadRequestError","param":null,"code":400}'
        ),
    ),
    "sglang, with the answer": (
        CHAT,
        400,
        (
            b'{"object":"error","message":"Requested token count exceeds the model\'s maximum context length of 4096 '
            b"tokens. You requested a total of 9000 tokens: 8000 tokens from the input messages and 1000 tokens "
            b"for the "
            b'completion.","type":"BadRequestError","param":null,"code":400}'
        ),
    ),
    "vllm": (
        CHAT,
        400,
        (
            b'{"error":{"message":"The decoder prompt (length 9000) is longer than the maximum model length of '
            b"4096. Make "
            b"sure that `max_model_len` is not a smaller than the number of text "
            b'tokens.","type":"BadRequestError","param":'
            b'null,"code":400}}'
        ),
    ),
    "vllm, length and window": (
        CHAT,
        400,
        (
            b'{"error":{"message":"The prompt (total length 9000) is too long to fit into the model (context length '
            b'4096).","type":"BadRequestError","param":null,"code":400}}'
        ),
    ),
    "vllm, nothing left for the answer": (
        CHAT,
        400,
        b'{"object":"error","message":"max_tokens must be at least 1, got -3904.","type":"BadRequestError","code":400}',
    ),
    "vllm, passed and requested": (
        CHAT,
        400,
        (
            b'{"error":{"message":"You passed 9000 input tokens and requested 0 output tokens. However, the model\'s '
            b"context length is only 4096 tokens, resulting in a maximum input length of 4096 tokens. Please "
            b"reduce the "
            b'length of the input prompt. (parameter=input_tokens, value=9000)","type":"BadRequestError","code":400}}'
        ),
    ),
    "llama.cpp": (
        CHAT,
        400,
        (
            b'{"error":{"code":400,"message":"the request exceeds the available context size, try increasing '
            b'it","type":'
            b'"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}'
        ),
    ),
    "llama.cpp, embeddings": (
        CHAT,
        500,
        (
            b'{"error":{"code":500,"message":"input (9000 tokens) is too large to process. increase the physical batch '
            b'size (current batch size: 512)","type":"server_error"}}'
        ),
    ),
    "llama-cpp-python": (
        CHAT,
        400,
        in_openai_form("This model's maximum context length is 4096 tokens", "context_length_exceeded"),
    ),
    "lm studio": (
        CHAT,
        400,
        (
            b'{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the model is '
            b"loaded with "
            b"context length of only 4096 tokens, which is not enough. Try to load the model with a larger context "
            b'length, or provide a shorter input"}'
        ),
    ),
    "lm studio, older": (
        CHAT,
        400,
        b'{"error":"The number of tokens to keep from the initial prompt is greater than the context length."}',
    ),
    "ollama, embeddings": (CHAT, 400, b'{"error":{"message":"the input length exceeds the context length"}}'),
    "tgi": (
        CHAT,
        422,
        (
            b'{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000 '
            b"`inputs` "
            b'tokens and 20 `max_new_tokens`","error_type":"validation"}'
        ),
    ),
    "tgi, inputs alone": (
        CHAT,
        422,
        (
            b'{"error":"Input validation error: `inputs` must have less than 1024 tokens. Given: 2000","error_type":'
            b'"validation"}'
        ),
    ),
    "mistral": (
        CHAT,
        400,
        (
            b'{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model '
            b"with 32768 "
            b'maximum context length","type":"invalid_request_error","param":null,"code":"3051"}'
        ),
    ),
    "xai": (
        CHAT,
        400,
        (
            b'{"code":"Client specified an invalid argument","error":"This model\'s maximum prompt length is '
            b"131072 but the "
            b'request contains 140000 tokens."}'
        ),
    ),
    "fireworks": (
        CHAT,
        400,
        (
            b'{"error":{"object":"error","type":"invalid_request_error","code":"invalid_request_error","message":"The '
            b'prompt is too long: 140000, model maximum context length: 131071"}}'
        ),
    ),
    "cohere": (
        CHAT,
        400,
        b'{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."}',
    ),
    "bedrock": (CHAT, 400, b'{"message":"Input is too long for requested model."}'),
    "dashscope": (
        CHAT,
        400,
        (
            b'{"error":{"code":"invalid_parameter_error","param":null,"message":"Range of input length should '
            b'be [1, 30720]"'
            b',"type":"invalid_request_error"}}'
        ),
    ),
    "moonshot": (
        CHAT,
        400,
        (
            b'{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192 (requested: '
            b'9000)","type":'
            b'"invalid_request_error"}}'
        ),
    ),
    "zhipu": (CHAT, 400, b'{"error":{"code":"1261","message":"Prompt exceeds max length"}}'),
    "ai21": (
        CHAT,
        422,
        b'{"detail":"Prompt has 9000 tokens, but prompt length is limited to 8191 tokens. prompt length is limited"}',
    ),
    "openrouter": (
        CHAT,
        400,
        (
            b'{"error":{"message":"This endpoint\'s maximum context length is 32768 tokens. However, you '
            b"requested about "
            b'40000 tokens (40000 of text input).","code":400}}'
        ),
    ),
    "anthropic": (
        ANTHROPIC,
        400,
        (
            b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 205000 '
            b"tokens > 200000 "
            b'maximum"}}'
        ),
    ),
    "anthropic, with the answer": (
        ANTHROPIC,
        400,
        (
            b'{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` '
            b"exceed context "
            b'limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again"}}'
        ),
    ),
    "gemini": (
        GEMINI,
        400,
        (
            b'{"error":{"code":400,"message":"The input token count (1048577) exceeds the maximum number of '
            b"tokens allowed "
            b'(1048576).","status":"INVALID_ARGUMENT"}}'
        ),
    ),
    "vertex": (
        GEMINI,
        400,
        (
            b'{"error":{"code":400,"message":"Unable to submit request because the input token count is 40000 '
            b"but model only "
            b'supports up to 32768.","status":"INVALID_ARGUMENT"}}'
        ),
    ),
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_prompt_that_is_too_long_is_understood(server: str) -> None:
    """Agents shorten themselves, and users read what to do, only where the words of the server are known."""
    found = failure(*TOO_LONG[server])

    assert type(found) is ContextTooLong
    assert not found.is_retryable


OTHERS: dict[str, tuple[Wire, int, bytes, type[LMError], str]] = {
    "openrouter's moderation": (
        CHAT,
        403,
        (
            b'{"error":{"code":403,"message":"a/b requires moderation on Z. Your input was flagged for '
            b'\\"violence\\".",'
            b'"metadata":{"reasons":["violence"],"flagged_input":"x","provider_name":"Z"}}}'
        ),
        ContentRefused,
        "violence",
    ),
    "xai's usage guidelines": (
        CHAT,
        403,
        (
            b'{"code":"The caller does not have permission to execute the specified operation","error":"Content '
            b"violates "
            b'usage guidelines. Team: t, API key ID: k, Model: m, Failed check: SAFETY_CHECK_TYPE_BIO"}'
        ),
        ContentRefused,
        "usage guidelines",
    ),
    "azure's filter": (
        CHAT,
        400,
        (
            b'{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI\'s '
            b"content management "
            b'policy.","type":null,"param":"prompt","code":null,"status":400,"innererror":{"code":'
            b'"ResponsibleAIPolicyViolation"}}}'
        ),
        ContentRefused,
        "content management policy",
    ),
    "dashscope's inspection": (
        CHAT,
        400,
        (
            b'{"error":{"code":"data_inspection_failed","param":null,"message":"Input data may contain inappropriate '
            b'content.","type":"data_inspection_failed"}}'
        ),
        ContentRefused,
        "inappropriate",
    ),
    "deepseek's risk": (
        CHAT,
        400,
        (
            b'{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":'
            b'"invalid_request_error"}}'
        ),
        ContentRefused,
        "Content Exists Risk",
    ),
    "openai's regions": (
        CHAT,
        403,
        (
            b'{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory '
            b'not supported",'
            b'"param":null,"type":"request_forbidden"}}'
        ),
        PermissionDenied,
        "Country, region, or territory not supported",
    ),
    "gemini's regions": (
        GEMINI,
        400,
        (
            b'{"error":{"code":400,"message":"User location is not supported for the API use.","status":'
            b'"FAILED_PRECONDITION"}}'
        ),
        PermissionDenied,
        "User location is not supported",
    ),
    "openai's models of a project": (
        CHAT,
        403,
        (
            b'{"error":{"message":"Project `proj_1` does not have access to model '
            b'`gpt-5`","type":"invalid_request_error",'
            b'"param":null,"code":"model_not_found"}}'
        ),
        PermissionDenied,
        "does not have access to model `gpt-5`",
    ),
    "openai's scopes": (
        CHAT,
        401,
        (
            b'{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: '
            b'model.request.",'
            b'"type":"invalid_request_error","param":null,"code":null}}'
        ),
        PermissionDenied,
        "Missing scopes: model.request",
    ),
    "anthropic's permissions": (
        ANTHROPIC,
        403,
        (
            b'{"type":"error","error":{"type":"permission_error","message":"Your API key does not have '
            b"permission to use the "
            b'specified resource."}}'
        ),
        PermissionDenied,
        "does not have permission",
    ),
    "a proxy's page": (CHAT, 403, b"<html><h1>403 Forbidden</h1></html>", PermissionDenied, "403 Forbidden"),
    "a wrong key as a 403": (
        CHAT,
        403,
        b'{"error":{"message":"Invalid API key","code":403}}',
        AuthFailed,
        "set MY_KEY",
    ),
    "a wrong key as a 400": (
        GEMINI,
        400,
        (
            b'{"error":{"code":400,"message":"API key not valid. Please pass a valid API '
            b'key.","status":"INVALID_ARGUMENT",'
            b'"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}'
        ),
        AuthFailed,
        "set MY_KEY",
    ),
    "a key limit": (
        CHAT,
        403,
        b'{"error":{"message":"Key limit exceeded (total limit). Manage it using the settings","code":403}}',
        QuotaExhausted,
        "Key limit exceeded",
    ),
    "groq's tools": (
        CHAT,
        400,
        (
            b'{"error":{"message":"Failed to call a function. Please adjust your prompt. See '
            b"'failed_generation' for more "
            b'details.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<function=now{}"}}'
        ),
        ResponseInvalid,
        "Failed to call a function",
    ),
    "groq's json": (
        CHAT,
        400,
        (
            b'{"error":{"message":"Failed to generate JSON. Please adjust your prompt. See '
            b"'failed_generation' for more "
            b'details.","type":"invalid_request_error","code":"json_validate_failed","failed_generation":"{"}}'
        ),
        ResponseInvalid,
        "Failed to generate JSON",
    ),
    "ollama's tools": (
        CHAT,
        500,
        (
            b'{"error":{"message":"error parsing tool call: raw=\'{\\"a\\": 1\', err=unexpected end of JSON '
            b'input","type":'
            b'"api_error","param":null,"code":null}}'
        ),
        ResponseInvalid,
        "error parsing tool call",
    ),
    "llama.cpp's tools": (
        CHAT,
        500,
        b'{"error":{"code":500,"message":"Failed to parse input at pos 12: <tool_call>","type":"server_error"}}',
        ResponseInvalid,
        "Failed to parse input",
    ),
    "llama.cpp without embeddings": (
        CHAT,
        501,
        (
            b'{"error":{"code":501,"message":"This server does not support embeddings. Start it with '
            b'`--embeddings`","type":'
            b'"not_supported_error"}}'
        ),
        RequestRejected,
        "--embeddings",
    ),
    "vllm without embeddings": (CHAT, 404, b'{"detail":"Not Found"}', RequestRejected, "Not Found"),
    "too large an answer": (
        CHAT,
        400,
        (
            b'{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 '
            b"completion tokens, "
            b"whereas you provided "
            b'100000.","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}'
        ),
        RequestRejected,
        "16384 completion tokens",
    ),
    "an overloaded server": (CHAT, 503, b'{"error":{"message":"Loading model","code":503}}', ServerFailed, "Loading"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_each_answer_means_its_error(case: str) -> None:
    """The class decides what follows; the provider's words reach the user."""
    wire, status, body, expected, words = OTHERS[case]
    found = failure(wire, status, body)

    assert type(found) is expected
    assert words in str(found)


def test_what_one_request_may_not_do_is_no_fault_of_the_key() -> None:
    """Everybody else goes on with the key, and with the endpoint."""
    held = {case: is_key_failure(failure(*OTHERS[case][:3])) for case in OTHERS}

    assert {case for case, is_held in held.items() if is_held} == {
        "a wrong key as a 403",
        "a wrong key as a 400",
        "a key limit",
    }
    assert {case for case in OTHERS if is_outage(failure(*OTHERS[case][:3]))} == {"an overloaded server"}


def test_a_part_of_a_key_in_a_denial_is_left_out() -> None:
    """Only the words are wanted."""
    body = in_openai_form("sk-proj-abcdefghij does not have access to model `m`", kind="request_forbidden")

    assert "abcdefghij" not in str(failure(CHAT, 403, body))


@pytest.mark.parametrize(
    ("header", "message", "expected"),
    [
        ("7s", "", 7.0),
        ("1m30s", "", 90.0),
        ("20ms", "", 0.02),
        ("", "Rate limit reached. Please try again in 7.66s. Visit us", 7.66),
        ("", "Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ("", "Please retry in 2 minutes", 120.0),
        ("3", "Please try again in 9s.", 3.0),
        ("", "Please try again later.", None),
    ],
)
def test_the_wait_that_a_server_asks_for(header: str, message: str, expected: float | None) -> None:
    """From the header in any form, else from the message."""
    headers = {"retry_after": header} if header else {}
    found = failure(CHAT, 429, in_openai_form(message), **headers)

    assert isinstance(found, RateLimited)
    assert found.retry_after == expected


@pytest.mark.parametrize(
    ("message", "param", "expected"),
    [
        ("response_format of type json_schema is not supported with this model", "response_format", "response_format"),
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", None, "response_format"),
        ("This model does not support structured outputs.", None, "response_format"),
        ("JSON mode is not enabled for this model", None, "response_format"),
        ("registry.ollama.ai/library/x does not support tools", None, "tools"),
        ('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', None, "tools"),
        ("No endpoints found that support tool use.", None, "tools"),
        (
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead."
            ),
            "max_tokens",
            "max_tokens",
        ),
        ("Unsupported value: 'temperature' does not support 0.2 with this model.", "temperature", "temperature"),
        ("no", None, None),
    ],
)
def test_the_parameter_at_fault(message: str, param: str | None, expected: str | None) -> None:
    """From the error's own field, else from its words."""
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param}}).encode()
    found = failure(CHAT, 400, body)

    assert isinstance(found, RequestRejected)
    assert found.parameter == expected
