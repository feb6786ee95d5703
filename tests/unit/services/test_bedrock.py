"""The wire of Bedrock: pure translation, checked against written-out bodies."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

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
    StreamTruncated,
)
from dspex.protocols.content import AudioPart, Citation, FilePart, ImagePart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import JsonObject, JsonSchema, LMDelta, LMRequest, LMResponse, Message, ToolSpec, Usage
from dspex.protocols.model import LM, Secret
from dspex.services.lm.wires.bedrock.wire import Bedrock
from tests.support.bedrock_answers import event, exception, whole
from tests.support.sampling import sampling

WIRE = Bedrock()
NOVA = "us.amazon.nova-pro-v1:0"
SONNET = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)


def request(*messages: Message, **fields: Any) -> LMRequest:
    own = {name: fields.pop(name) for name in ("tools", "tool_choice", "output") if name in fields}
    return LMRequest(messages or (Message("user", "Hi"),), sampling(fields), **own)


def body(asked: LMRequest, model: str = NOVA) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(WIRE.encode(model, asked))
    return found


def decode(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> LMResponse:
    return WIRE.decode(status, headers or {}, json.dumps(document).encode())


def failure(kind: str, message: str, status: int) -> LMError:
    with pytest.raises(LMError) as caught:
        decode({"message": message}, status, {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/"})
    return caught.value


def read(*messages: bytes) -> tuple[list[LMDelta], LMResponse]:
    decoder = WIRE.decoder({"x-amzn-requestid": "r1"})
    told = [delta for each in messages for delta in decoder.feed(each)]
    return told, decoder.finish()


def test_the_address_names_the_model() -> None:
    """Of profiles and ARNs too, whose colons and slashes are no part of the path."""
    assert WIRE.path(NOVA, stream=False) == "/model/us.amazon.nova-pro-v1%3A0/converse"
    assert WIRE.path("arn:aws:bedrock:us-east-1:1:inference-profile/x", stream=True) == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse-stream"
    )


def test_a_request_is_turns_of_blocks() -> None:
    asked = request(
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("user", "there", cache="1h"),
        Message("assistant", ""),
        max_tokens=20,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
        seed=3,
        extra_body={"guardrailConfig": {"guardrailIdentifier": "g"}},
    )

    assert body(asked) == {
        "messages": [
            {
                "role": "user",
                "content": [{"text": "Hi"}, {"text": "there"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
            }
        ],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"temperature": 0.5, "topP": 0.9, "maxTokens": 20, "stopSequences": ["END"]},
        "guardrailConfig": {"guardrailIdentifier": "g"},
    }


def test_tools_and_their_turns() -> None:
    call = ToolCall("t1", "weather", {"city": "Oslo"})
    image = ImagePart("image/png", b"\x89")
    result = ToolResult("t1", "weather", (TextPart("rain"), image), is_error=True)
    asked = request(
        Message("user", "Hi"),
        Message("assistant", (TextPart("Let me look."), call)),
        Message("user", "And?"),
        Message("tool", (result,)),
        tools=(WEATHER,),
        tool_choice="weather",
    )
    found = body(asked)

    assert found["messages"][1] == {
        "role": "assistant",
        "content": [
            {"text": "Let me look."},
            {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}},
        ],
    }
    picture = {"image": {"format": "png", "source": {"bytes": base64.b64encode(b"\x89").decode()}}}
    told = {"toolUseId": "t1", "content": [{"text": "rain"}, picture], "status": "error"}
    assert found["messages"][2] == {"role": "user", "content": [{"toolResult": told}, {"text": "And?"}]}
    assert found["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "weather", "description": "Tells the weather.", "inputSchema": {"json": SCHEMA}}}
        ],
        "toolChoice": {"tool": {"name": "weather"}},
    }
    assert body(request(tools=(WEATHER,), tool_choice="required"))["toolConfig"]["toolChoice"] == {"any": {}}
    assert "toolConfig" not in body(request(tools=(WEATHER,), tool_choice="none"))


def test_a_document_has_a_name_that_the_provider_takes() -> None:
    parts = (FilePart("application/pdf", b"%PDF", name="a_b.pdf"), FilePart("text/csv", b"a,b"))
    blocks = body(request(Message("user", parts)))["messages"][0]["content"]

    assert [each["document"]["name"] for each in blocks] == ["a b pdf", "document 2"]
    assert [each["document"]["format"] for each in blocks] == ["pdf", "csv"]


def test_a_schema_is_sent_as_text() -> None:
    fields = body(request(output=JsonSchema("answer", SCHEMA)), SONNET)

    (structure,) = fields["outputConfig"]["textFormat"]["structure"].values()
    assert fields["outputConfig"]["textFormat"]["type"] == "json_schema"
    assert (structure["name"], json.loads(structure["schema"])) == ("answer", SCHEMA)


def test_claude_thinks_with_its_own_fields() -> None:
    fields = body(request(reasoning="low"), SONNET)

    assert fields["inferenceConfig"] == {"maxTokens": 16384 + 2048}
    assert fields["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (request(n=2), "the parameter 'n'"),
        (request(logprobs=1), "the parameter 'logprobs'"),
        (request(tools=(WEATHER,), parallel_tool_calls=False), "'parallel_tool_calls'"),
        (request(output=JsonObject()), "JSON of any shape"),
        (request(reasoning="low"), "additionalModelRequestFields"),
        (request(Message("user", (AudioPart("audio/wav", b"a"),))), "AudioPart"),
        (request(Message("user", (ImagePart("image/png", url="https://a.test/b.png"),))), "by its address"),
        (request(Message("user", (ImagePart("image/tiff", b"a"),))), "image/tiff"),
        (request(Message("user", " ")), "no user turn that says something"),
        (request(Message("tool", (ToolResult("1", "weather", "rain"),)), tools=(WEATHER,), tool_choice="none"), "none"),
    ],
)
def test_what_the_protocol_cannot_say_is_told_before_anything_is_sent(asked: LMRequest, problem: str) -> None:
    with pytest.raises(RequestRejected, match=r"nothing was sent$") as caught:
        WIRE.encode(NOVA, asked)
    assert problem in str(caught.value)


def test_an_answer_is_read() -> None:
    """Text, thoughts, calls and sources; tokens from the cache count as input."""
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}}
    source = {"title": "T", "sourceContent": [{"text": "seen"}], "location": {"web": {"url": "https://a.test"}}}
    cited = {"citationsContent": {"content": [{"text": " Yes."}], "citations": [source]}}
    call = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}
    found = decode(whole(thought, {"text": "Well."}, cited, call, stop="tool_use"), headers={"x-amzn-requestid": "r1"})

    (completion,) = found.completions
    assert (completion.text, completion.finish_reason) == ("Well. Yes.", "tool_calls")
    assert completion.tool_calls == (ToolCall("t1", "weather", {"city": "Oslo"}, '{"city":"Oslo"}'),)
    assert completion.citations == (Citation("seen", "T", "https://a.test", 5, 10),)
    assert [each.text for each in completion.reasoning] == ["Hm."]
    assert (found.usage, found.request_id) == (Usage(130, 7, cached_tokens=100), "r1")
    turn = body(request(Message("user", "Hi"), completion.turn(), Message("user", "Go on.")))["messages"][1]["content"]
    assert turn[0] == thought
    assert turn[-1] == call


def test_a_stream_adds_up_to_the_same() -> None:
    """Also a call whose arguments come in pieces, and thoughts with their signature."""
    piece = "contentBlockDelta"
    told, found = read(
        event("messageStart", {"role": "assistant"}),
        event(piece, {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "H"}}}),
        event(piece, {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "m."}}}),
        event(piece, {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}),
        event(piece, {"contentBlockIndex": 1, "delta": {"text": "Well."}}),
        event(
            "contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "weather"}}}
        ),
        event(piece, {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"city":'}}}),
        event(piece, {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '"Oslo"}'}}}),
        event("messageStop", {"stopReason": "tool_use"}),
        event("metadata", {"usage": {"inputTokens": 30, "outputTokens": 7, "cacheReadInputTokens": 100}}),
    )
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}}
    call = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}

    same = decode(whole(thought, {"text": "Well."}, call, stop="tool_use"), headers={"x-amzn-requestid": "r1"})
    assert found == same
    assert told == [
        LMDelta(reasoning="H"),
        LMDelta(reasoning="m."),
        LMDelta(text="Well."),
        LMDelta(tool=0, tool_name="weather"),
        LMDelta(tool=0, arguments='{"city":'),
        LMDelta(tool=0, arguments='"Oslo"}'),
    ]


@pytest.mark.parametrize(
    ("kind", "message", "status", "error"),
    [
        ("ThrottlingException", "Too many requests", 429, RateLimited),
        ("ThrottlingException", "Too many tokens per day, please wait before trying again.", 429, QuotaExhausted),
        ("ServiceQuotaExceededException", "Your request exceeds the quota", 400, RateLimited),
        ("ValidationException", "The provided model identifier is invalid.", 400, RequestRejected),
        ("ValidationException", "Input is too long for requested model.", 400, ContextTooLong),
        ("AccessDeniedException", "You don't have access to the model", 403, PermissionDenied),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", 403, AuthFailed),
        ("ExpiredTokenException", "The security token included in the request is expired", 403, AuthFailed),
        ("InvalidSignatureException", "Signature expired: 2026", 403, AuthFailed),
        ("ResourceNotFoundException", "Not there", 404, RequestRejected),
        ("ModelTimeoutException", "Slow", 408, ServerFailed),
        ("ModelErrorException", "The model failed", 424, ServerFailed),
        ("ModelNotReadyException", "Loading", 429, ServerFailed),
        ("InternalServerException", "Oh", 500, ServerFailed),
        ("ServiceUnavailableException", "Busy", 503, ServerFailed),
    ],
)
def test_an_exception_says_what_follows(kind: str, message: str, status: int, error: type[LMError]) -> None:
    found = failure(kind, message, status)

    assert type(found) is error
    assert (found.status, found.code) == (status, kind)


def test_refused_credentials_are_told_with_the_likely_reason() -> None:
    assert str(failure("InvalidSignatureException", "no", 403)) == (
        "AWS refused the credentials (403, InvalidSignatureException): "
        "the secret key does not fit, or this machine's clock is wrong"
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [("throttlingException", RateLimited), ("modelStreamErrorException", ServerFailed), ("newException", ServerFailed)],
)
def test_a_stream_may_end_with_an_exception(kind: str, error: type[LMError]) -> None:
    with pytest.raises(error, match="in the middle of its answer: Sorry") as caught:
        read(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}), exception(kind, "Sorry"))
    assert caught.value.code == kind[:1].upper() + kind[1:]


def test_a_stream_without_its_end_is_truncated() -> None:
    with pytest.raises(StreamTruncated, match="without a stopReason"):
        read(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}))


def test_a_guardrail_is_a_refusal_and_a_malformed_answer_is_none() -> None:
    with pytest.raises(ContentRefused, match="a guardrail intervened") as caught:
        decode(whole({"text": "Sorry."}, stop="guardrail_intervened"))
    assert (caught.value.code, caught.value.partial) == ("guardrail_intervened", "Sorry.")
    with pytest.raises(ResponseInvalid, match="malformed_tool_use"):
        decode(whole({"text": "{"}, stop="malformed_tool_use"))


def test_an_api_key_is_a_bearer_token() -> None:
    headers = WIRE.headers(Secret("ABSK"), idempotency_key="i", attempt=1)

    assert headers["authorization"] == "Bearer ABSK"
    assert "ABSK" not in repr(headers)
    assert "authorization" not in WIRE.headers(None, idempotency_key="i", attempt=1)


def test_the_table_knows_its_models() -> None:
    assert WIRE.capabilities(LM(f"bedrock/{SONNET}")).json_schema
    assert WIRE.capabilities(LM(f"bedrock/{NOVA}")).images
    assert not WIRE.capabilities(LM("bedrock/amazon.titan-text-v1")).tools
