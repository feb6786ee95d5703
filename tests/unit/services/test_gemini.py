"""The Gemini wire: pure translation, checked against written-out bodies."""

from __future__ import annotations

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
from dspex.protocols.content import (
    AudioPart,
    Citation,
    FilePart,
    ImagePart,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import (
    JsonObject,
    JsonSchema,
    LMDelta,
    LMRequest,
    LMResponse,
    Message,
    TokenLogprob,
    ToolSpec,
    Usage,
)
from dspex.protocols.model import LM, Secret
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires.gemini.wire import Gemini
from tests.support.gemini_answers import RICH, RICH_STREAM, answer, piece, problem, stream
from tests.support.sampling import sampling

WIRE = Gemini()
NOW = 1_700_000_000.0
MODEL = "gemini-2.5-flash"
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def request(*messages: Message, **fields: Any) -> LMRequest:
    own = {name: fields.pop(name) for name in ("tools", "tool_choice", "output") if name in fields}
    return LMRequest(messages or (Message("user", "Hi"),), sampling(fields), **own)


def body(asked: LMRequest, model: str = MODEL, **options: Any) -> dict[str, Any]:
    found = json.loads(WIRE.encode(model, asked, **options))
    assert isinstance(found, dict)
    return found


def contents(*messages: Message) -> Any:
    return body(request(*messages))["contents"]


def config(model: str = MODEL, **params: Any) -> Any:
    return body(request(**params), model).get("generationConfig")


def rejected(asked: LMRequest, model: str = MODEL) -> str:
    with pytest.raises(RequestRejected) as caught:
        WIRE.encode(model, asked)
    return str(caught.value)


def decode(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> LMResponse:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return WIRE.decode(status, headers or {}, raw)


def failure(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> LMError:
    with pytest.raises(LMError) as caught:
        decode(document, status, headers)
    return completed(caught.value, headers or {}, now=NOW, key_hint="set GEMINI_API_KEY")


def read(data: bytes, headers: Mapping[str, str] | None = None) -> tuple[list[LMDelta], LMResponse]:
    decoder = WIRE.decoder(headers or {})
    return decoder.feed(data), decoder.finish()


class TestEncode:
    def test_only_what_was_set_is_sent(self) -> None:
        """A parameter left alone is the provider's to choose."""
        asked = request(Message("system", "Be brief."), Message("user", "Grüß dich"))
        expected = (
            '{"systemInstruction":{"parts":[{"text":"Be brief."}]},'
            '"contents":[{"role":"user","parts":[{"text":"Grüß dich"}]}]}'
        )

        assert WIRE.encode(MODEL, asked).decode() == expected
        assert WIRE.encode(MODEL, asked, stream=True).decode() == expected

    @pytest.mark.parametrize(
        ("name", "whole", "streamed"),
        [
            (MODEL, f"/models/{MODEL}:generateContent", f"/models/{MODEL}:streamGenerateContent?alt=sse"),
            (
                "tunedModels/a b",
                "/tunedModels/a%20b:generateContent",
                "/tunedModels/a%20b:streamGenerateContent?alt=sse",
            ),
            ("x?y:z", "/models/x%3Fy%3Az:generateContent", "/models/x%3Fy%3Az:streamGenerateContent?alt=sse"),
        ],
    )
    def test_the_address_names_model_and_method(self, name: str, whole: str, streamed: str) -> None:
        """A name cannot become another method or a query."""
        assert WIRE.path(name, stream=False) == whole
        assert WIRE.path(name, stream=True) == streamed

    def test_parameters_take_the_protocols_names(self) -> None:
        """All of them belong to the configuration; what is passed on joins it."""
        found = body(
            request(
                temperature=0.5,
                top_p=0.9,
                max_tokens=9,
                stop="x",
                seed=3,
                n=2,
                logprobs=4,
                generationConfig={"topK": 5},
                cachedContent="cachedContents/1",
            )
        )

        assert found["generationConfig"] == {
            "temperature": 0.5,
            "topP": 0.9,
            "maxOutputTokens": 9,
            "stopSequences": ["x"],
            "seed": 3,
            "candidateCount": 2,
            "responseLogprobs": True,
            "logprobs": 4,
            "topK": 5,
        }
        assert found["cachedContent"] == "cachedContents/1"
        assert config(logprobs=0) == {"responseLogprobs": True}

    def test_the_form_of_the_answer(self) -> None:
        """JSON of any shape, or by a schema."""
        schema = {"type": "object"}

        assert config(output=JsonObject()) == {"responseMimeType": "application/json"}
        assert config(output=JsonSchema("x", schema)) == {
            "responseMimeType": "application/json",
            "responseJsonSchema": schema,
        }

    @pytest.mark.parametrize(
        ("model", "word", "expected"),
        [
            (MODEL, "low", {"thinkingBudget": 1024, "includeThoughts": True}),
            (MODEL, "77", {"thinkingBudget": 77, "includeThoughts": True}),
            (MODEL, "none", {"thinkingBudget": 0}),
            ("gemini-3-pro-preview", "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
            ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
            ("gemini-flash-latest", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ],
    )
    def test_how_hard_to_think(self, model: str, word: str, expected: dict[str, Any]) -> None:
        """A budget of tokens for 2.5, a level from 3 on."""
        assert config(model, reasoning=word) == {"thinkingConfig": expected}

    def test_a_model_that_never_thinks_need_not_be_told(self) -> None:
        """Asking 2.0 not to think asks for nothing."""
        assert config("gemini-2.0-flash", reasoning="none") is None

    def test_tools_and_the_choice_among_them(self) -> None:
        """The modes, and the names allowed."""
        declaration = {"name": "weather", "description": "Tells the weather."}
        asked = body(request(tools=(WEATHER,), extra_body={"tools": [{"googleSearch": {}}]}))
        assert asked["tools"] == [
            {"functionDeclarations": [{**declaration, "parametersJsonSchema": WEATHER.parameters}]},
            {"googleSearch": {}},
        ]
        assert "toolConfig" not in asked

        def choice(word: str) -> Any:
            return body(request(tools=(WEATHER,), tool_choice=word))["toolConfig"]["functionCallingConfig"]

        assert choice("required") == {"mode": "ANY"}
        assert choice("none") == {"mode": "NONE"}
        assert choice("weather") == {"mode": "ANY", "allowedFunctionNames": ["weather"]}

    def test_calls_and_results(self) -> None:
        """Ids that the provider gave come back; those that we made up it does not know."""
        theirs = ToolCall("fc_9", "time", {}, data={"gemini": {"id": "fc_9", "thoughtSignature": "c2ln"}})
        ours = ToolCall("call-0", "weather", None, raw="{")
        found = contents(
            Message("user", "How is it?"),
            Message("assistant", (theirs, ours)),
            Message("tool", (ToolResult("fc_9", "time", "noon"),)),
            Message("tool", (ToolResult("call-0", "weather", (TextPart("no"), ImagePart("image/png", b"x")), True),)),
        )

        assert found[1:] == [
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"id": "fc_9", "name": "time", "args": {}}, "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "weather", "args": {"INVALID_JSON": "{"}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "fc_9", "name": "time", "response": {"output": "noon"}}},
                    {
                        "functionResponse": {
                            "name": "weather",
                            "response": {"error": "no"},
                            "parts": [{"inlineData": {"mimeType": "image/png", "data": "eA=="}}],
                        }
                    },
                ],
            },
        ]

    def test_media_by_bytes_and_by_address(self) -> None:
        """Pictures, sound and documents alike."""
        parts = (
            ImagePart("image/png", b"x"),
            AudioPart("audio/wav", b"x"),
            FilePart("", url="https://example.com/a.pdf"),
            FilePart("video/mp4", url="https://example.com/files/a"),
            FilePart("", url="data:text/plain,a%20b"),
        )

        assert contents(Message("user", parts))[0]["parts"] == [
            {"inlineData": {"mimeType": "image/png", "data": "eA=="}},
            {"inlineData": {"mimeType": "audio/wav", "data": "eA=="}},
            {"fileData": {"fileUri": "https://example.com/a.pdf"}},
            {"fileData": {"fileUri": "https://example.com/files/a", "mimeType": "video/mp4"}},
            {"inlineData": {"mimeType": "text/plain", "data": "YSBi"}},
        ]

    def test_turns_of_one_side_are_one_turn(self) -> None:
        """Empty ones say nothing; thoughts of other wires stay at home."""
        foreign = Message("assistant", (ReasoningPart("hm", "anthropic", {"block": {}}), TextPart("Yes.")))
        found = contents(Message("user", "Hi"), Message("assistant", ""), Message("user", "Hello?"), foreign)

        assert found == [
            {"role": "user", "parts": [{"text": "Hi"}, {"text": "Hello?"}]},
            {"role": "model", "parts": [{"text": "Yes."}]},
        ]

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (request(Message("system", "Alone.")), "no user turn"),
            (request(Message("tool", "text")), "a tool turn without ToolResult"),
            (request(Message("tool", (TextPart("x"),))), "TextPart in a tool turn"),
            (request(Message("system", (ImagePart("image/png", b"x"),))), "ImagePart in a system turn"),
            (request(Message("user", (ToolCall("a", "b", {}),))), "ToolCall in a user turn"),
            (request(Message("assistant", (ImagePart("image/png", b"x"),))), "ImagePart in an assistant turn"),
            (request(tools=(WEATHER,), parallel_tool_calls=False), "one tool call at most"),
            (request(tools=(WEATHER,), tool_choice="other"), "not a tool of the request"),
            (request(reasoning="huge"), "is not one of 'none', 'minimal'"),
            (request(stream=True), "'stream'"),
            (request(Message("user", "\ud800")), "cannot be written as JSON"),
        ],
    )
    def test_what_the_protocol_cannot_say_is_rejected(self, asked: LMRequest, words: str) -> None:
        """Nothing is sent, and the message names what it was."""
        assert words in rejected(asked)

    @pytest.mark.parametrize(
        ("model", "word", "words"),
        [
            ("gemini-2.5-pro", "none", "always thinks"),
            ("gemini-3-flash", "none", "always thinks"),
            ("gemini-2.0-flash", "low", "does not think"),
        ],
    )
    def test_thinking_that_a_model_cannot_do_is_rejected(self, model: str, word: str, words: str) -> None:
        """By the version in its name."""
        assert words in rejected(request(reasoning=word), model)


class TestHeaders:
    def test_the_key_has_a_header_of_its_own(self) -> None:
        """It is not part of the address, where logs would show it."""
        headers = WIRE.headers(Secret("AIza"), idempotency_key="k", attempt=2)

        assert (headers["x-goog-api-key"], headers["x-attempt"]) == ("AIza", "2")
        assert "x-goog-api-key" not in WIRE.headers(None, idempotency_key="k", attempt=1)
        assert WIRE.headroom({"x-ratelimit-remaining-requests": "1"}, now=NOW) is None

    def test_capabilities_come_from_the_table(self) -> None:
        """A Gemini hears."""
        assert WIRE.capabilities(LM("gemini/gemini-2.5-flash")).audio


class TestDecode:
    def test_a_rich_answer(self) -> None:
        """Text, thoughts, calls, sources, log-probabilities and counts; thoughts count as output."""
        found = decode(RICH, headers={"x-request-id": "req_1"})
        (completion,) = found.completions

        assert completion.text == "Köln: sun. Ulm: rain."
        assert completion.finish_reason == "tool_calls"
        assert [(call.id, call.name, call.raw) for call in completion.tool_calls] == [
            ("call-resp_1-0", "weather", '{"city":"Köln","days":2}'),
            ("fc_9", "time", "{}"),
        ]
        assert [part.text for part in completion.reasoning] == ["The user asks…", "", ""]
        assert completion.citations == (
            Citation(title="Book", url="https://example.com/book", start=11, end=14),
            Citation(title="Ulm", url="https://example.com/ulm", start=0, end=9),
            Citation(title="Ulm", url="https://example.com/ulm", start=11, end=15),
        )
        assert completion.logprobs == (TokenLogprob("K", -0.5, (("K", -0.5), ("U", -2))), TokenLogprob("ö", -1.5))
        assert found.usage == Usage(120, 70, 64, 40)
        assert (found.model, found.request_id) == ("gemini-2.5-flash", "req_1")
        assert decode(RICH).request_id == "resp_1"

    def test_a_turn_goes_back_as_it_came(self) -> None:
        """Thoughts, signatures, code that the provider ran, and each where it was."""
        (completion,) = decode(RICH).completions

        found = contents(Message("user", "How is it?"), completion.turn())
        assert found[1]["parts"] == RICH["candidates"][0]["content"]["parts"]

    def test_several_answers_come_in_their_order(self) -> None:
        """By their index, wherever they stand; made-up ids of their calls differ."""
        call = {"functionCall": {"name": "time"}}
        both = [*answer(call, candidate={"index": 1})["candidates"], *answer(call)["candidates"]]
        found = decode({**answer(), "candidates": both})

        assert [each.tool_calls[0].id for each in found.completions] == ["call-resp_1-0", "call-resp_1-1-0"]

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("FINISH_REASON_UNSPECIFIED", "unknown"),
        ],
    )
    def test_why_it_ended(self, reason: str, expected: str) -> None:
        """Ours where we have a word, else the provider's."""
        assert decode(answer({"text": "Yes."}, finish=reason)).completions[0].finish_reason == expected

    @pytest.mark.parametrize(
        "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "OTHER", "SOMETHING_NEW"]
    )
    def test_a_broken_end_is_no_answer(self, reason: str) -> None:
        """Another try may bring one; what was counted is charged."""
        found = failure(answer({"text": "Yes."}, finish=reason))

        assert isinstance(found, ResponseInvalid)
        assert (found.is_retryable, reason in str(found), found.usage is not None) == (True, True, True)

    def test_a_blocked_prompt_and_a_withheld_answer_are_errors(self) -> None:
        """The reason is the error's code."""
        blocked = failure({"promptFeedback": {"blockReason": "SAFETY"}, "responseId": "resp_1"})
        assert isinstance(blocked, ContentRefused)
        assert (str(blocked), blocked.code, blocked.request_id) == (
            "the prompt was blocked (SAFETY)",
            "SAFETY",
            "resp_1",
        )

        withheld = failure(answer(finish="SAFETY", candidate={"content": None, "finishMessage": "harmful"}))
        assert str(withheld) == "the model refused to answer (SAFETY): harmful"

    @pytest.mark.parametrize("document", [b"<html>", b"[]", b"{}", {"candidates": []}, {"candidates": [1]}, b"\xff"])
    def test_a_success_that_is_no_answer(self, document: object) -> None:
        """It may be tried again."""
        assert isinstance(failure(document), ResponseInvalid)


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


MINUTE = detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}])
DAY = detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}])
NONE_AT_ALL = detail("QuotaFailure", violations=[{"quotaId": "InputTokensPerMinute", "quotaValue": "0"}])
RETRY = detail("RetryInfo", retryDelay="17.5s")
BAD_KEY = detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com")


class TestErrors:
    @pytest.mark.parametrize(
        ("document", "expected", "code", "wait"),
        [
            (problem(400, "INVALID_ARGUMENT"), RequestRejected, "INVALID_ARGUMENT", None),
            (problem(400, "INVALID_ARGUMENT", BAD_KEY), AuthFailed, "API_KEY_INVALID", None),
            (problem(403, "PERMISSION_DENIED"), PermissionDenied, "PERMISSION_DENIED", None),
            (problem(404, "NOT_FOUND"), RequestRejected, "NOT_FOUND", None),
            (problem(429, "RESOURCE_EXHAUSTED"), RateLimited, "RESOURCE_EXHAUSTED", None),
            (problem(429, "RESOURCE_EXHAUSTED", MINUTE, RETRY), RateLimited, "RESOURCE_EXHAUSTED", 17.5),
            (problem(429, "RESOURCE_EXHAUSTED", MINUTE, DAY, RETRY), QuotaExhausted, "RESOURCE_EXHAUSTED", 17.5),
            (problem(429, "RESOURCE_EXHAUSTED", NONE_AT_ALL), QuotaExhausted, "RESOURCE_EXHAUSTED", None),
            (problem(500, "INTERNAL"), ServerFailed, "INTERNAL", None),
            (problem(503, "UNAVAILABLE"), ServerFailed, "UNAVAILABLE", None),
            (problem(504, "DEADLINE_EXCEEDED"), ServerFailed, "DEADLINE_EXCEEDED", None),
            (
                problem(
                    400, "INVALID_ARGUMENT", message="The input token count (9) exceeds the maximum number of tokens"
                ),
                ContextTooLong,
                "INVALID_ARGUMENT",
                None,
            ),
        ],
    )
    def test_what_an_error_means(
        self, document: dict[str, Any], expected: type[LMError], code: str, wait: float | None
    ) -> None:
        """The same as an answer of its own, in a list, and as an event in a stream."""
        status = document["error"]["code"]
        for found in (failure(document, status), failure([document], status), failure(document)):
            assert type(found) is expected
            assert (found.status, found.code, found.retry_after) == (status, code, wait)

        with pytest.raises(expected) as caught:
            read(stream(piece({"text": "Well"}), document))
        assert caught.value.status == status

    def test_a_failure_without_a_document(self) -> None:
        """A page of a proxy has only its status."""
        assert isinstance(failure(b"<html>Bad gateway</html>", 502), ServerFailed)

    def test_a_refused_key_is_not_shown(self) -> None:
        """The provider's own words may repeat it."""
        found = failure(problem(400, "INVALID_ARGUMENT", message="API key not valid: AIza123"), 400)

        assert isinstance(found, AuthFailed)
        assert "AIza123" not in str(found)


class TestStream:
    def test_every_kind_of_event(self) -> None:
        """The pieces as they come, and the whole as it would have come unstreamed."""
        deltas, whole = read(stream(*RICH_STREAM))

        assert whole == decode(RICH)
        assert deltas == [
            LMDelta(reasoning="The user "),
            LMDelta(reasoning="asks…"),
            LMDelta(text="Köln: "),
            LMDelta(text="sun. "),
            LMDelta(text="Ulm: "),
            LMDelta(text="rain."),
            LMDelta(tool=0, tool_name="weather", arguments='{"city":"Köln","days":2}'),
            LMDelta(tool=1, tool_name="time", arguments="{}"),
        ]

    @pytest.mark.parametrize("kept", range(len(RICH_STREAM)))
    def test_a_stream_without_its_end_is_truncated(self, kept: int) -> None:
        """Only the reason why it ended completes it; an event cut short says nothing."""
        with pytest.raises(StreamTruncated, match="finishReason"):
            read(stream(*RICH_STREAM[:kept]) + b'data: {"candidates": [{"finishReason": "STOP"')

    def test_every_answer_must_have_ended(self) -> None:
        """One of two is not enough."""
        first, second = answer({"text": "a"}), piece({"text": "b"}, candidate={"index": 1})

        with pytest.raises(StreamTruncated):
            read(stream(first, second))
        ended = piece(finish="STOP", candidate={"index": 1})
        assert [each.text for each in read(stream(first, second, ended))[1].completions] == ["a", "b"]

    def test_a_last_event_without_its_empty_line_counts(self) -> None:
        """The connection may end right behind it."""
        assert read(stream(*RICH_STREAM).rstrip())[1] == decode(RICH)

    def test_a_blocked_prompt_in_a_stream(self) -> None:
        """It is complete without a candidate."""
        with pytest.raises(ContentRefused, match="blocked"):
            read(stream({"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {}}))

    def test_an_event_that_is_not_json(self) -> None:
        """Passing it over could lose a piece of the text."""
        with pytest.raises(ResponseInvalid, match="cannot be read"):
            read(b"data: {\r\n\r\n")

    def test_the_list_of_events_that_comes_without_sse_is_a_whole_answer(self) -> None:
        """An error in it is one."""
        assert decode(RICH_STREAM) == decode(RICH)
        with pytest.raises(ServerFailed):
            decode([piece({"text": "a"}), problem(503, "UNAVAILABLE")])
        with pytest.raises(StreamTruncated):
            decode([piece({"text": "a"})])
