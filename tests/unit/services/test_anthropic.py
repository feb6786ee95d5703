"""The Anthropic wire: pure translation, checked against written-out bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
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
from dspex.protocols.lm import JsonObject, JsonSchema, LMDelta, LMRequest, LMResponse, Message, ToolSpec, Usage
from dspex.protocols.model import LM, Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires.anthropic.wire import Anthropic
from tests.support.anthropic_answers import RICH, RICH_STREAM, answer, block, end, problem, start, stream, text
from tests.support.sampling import sampling

WIRE = Anthropic()
NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MODEL = "claude-sonnet-4-5"
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def request(*messages: Message, **fields: Any) -> LMRequest:
    own = {name: fields.pop(name) for name in ("tools", "tool_choice", "output") if name in fields}
    return LMRequest(messages or (Message("user", "Hi"),), sampling(fields), **own)


def body(asked: LMRequest, model: str = MODEL, **options: Any) -> dict[str, Any]:
    found = json.loads(WIRE.encode(model, asked, **options))
    assert isinstance(found, dict)
    return found


def turns(*messages: Message) -> Any:
    return body(request(*messages))["messages"]


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
    return completed(caught.value, headers or {}, now=NOW, key_hint="set ANTHROPIC_API_KEY")


def read(data: bytes, headers: Mapping[str, str] | None = None) -> tuple[list[LMDelta], LMResponse]:
    decoder = WIRE.decoder(headers or {})
    return decoder.feed(data), decoder.finish()


class TestEncode:
    def test_only_what_was_set_is_sent_and_a_length(self) -> None:
        """A parameter left alone is the provider's to choose; the one it requires has a default."""
        asked = request(Message("system", "Be brief."), Message("user", "Grüß dich"))
        expected = (
            '{"model":"claude-sonnet-4-5","max_tokens":16384,"system":"Be brief.",'
            '"messages":[{"role":"user","content":"Grüß dich"}]}'
        )

        assert WIRE.encode(MODEL, asked).decode() == expected

    def test_parameters_take_the_protocols_names(self) -> None:
        """Every parameter of ours, and the provider's own behind them."""
        found = body(request(temperature=0.5, max_tokens=9, stop=["\n", "x"], top_k=4), stream=True)

        del found["messages"], found["model"]
        assert found == {
            "max_tokens": 9,
            "temperature": 0.5,
            "stop_sequences": ["\n", "x"],
            "stream": True,
            "top_k": 4,
        }

    @pytest.mark.parametrize(
        ("model", "length"),
        [
            ("claude-3-haiku-20240307", 4096),
            ("claude-3-5-sonnet-20241022", 8192),
            ("claude-opus-4-20250514", 16384),
            ("claude-opus-5-5", 16384),
            ("claude-mythos-preview", 16384),
            ("another-model", 8192),
        ],
    )
    def test_the_length_has_a_default_by_model(self, model: str, length: int) -> None:
        """Each generation gets no more than it takes."""
        assert body(request(), model)["max_tokens"] == length

    def test_system_turns_leave_the_conversation(self) -> None:
        """They are one prompt of blocks; a mark stays on the one that had it."""
        found = body(
            request(Message("system", "One.", cache="5m"), Message("user", "Hi"), Message("system", "Two.", cache="1h"))
        )

        assert found["system"] == [
            {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ]
        assert found["messages"] == [{"role": "user", "content": "Hi"}]

    def test_tool_results_are_merged_into_one_user_turn_and_open_it(self) -> None:
        """The provider wants every call answered at the beginning of the next turn."""
        calls = (ToolCall("a", "weather", {"city": "Ulm"}), ToolCall("b", "weather", None, raw='{"city'))
        found = turns(
            Message("user", "How is it?"),
            Message("assistant", (TextPart("Let me see."), *calls)),
            Message("user", "Hurry!"),
            Message("tool", (ToolResult("a", "weather", "sunny"),)),
            Message("tool", (ToolResult("b", "weather", "no JSON", is_error=True),), cache="5m"),
        )

        assert found == [
            {"role": "user", "content": "How is it?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Ulm"}},
                    {"type": "tool_use", "id": "b", "name": "weather", "input": {"INVALID_JSON": '{"city'}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "b",
                        "content": "no JSON",
                        "is_error": True,
                        "cache_control": {"type": "ephemeral"},
                    },
                    {"type": "text", "text": "Hurry!"},
                ],
            },
        ]

    def test_media_by_bytes_and_by_address(self) -> None:
        """Pictures and documents, PDF or plain text; an address may hold the bytes itself."""
        parts = (
            ImagePart("image/png", b"\x89PNG"),
            ImagePart("", url="https://example.com/a.png"),
            ImagePart("", url="data:image/gif;base64,R0lG"),
            FilePart("application/pdf", b"%PDF", name="a.pdf"),
            FilePart("", url="https://example.com/a.pdf"),
            FilePart("text/markdown", "# Grüße".encode()),
        )
        (found,) = turns(Message("user", parts))

        assert [(block["type"], block["source"]) for block in found["content"]] == [
            ("image", {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}),
            ("image", {"type": "url", "url": "https://example.com/a.png"}),
            ("image", {"type": "base64", "media_type": "image/gif", "data": "R0lG"}),
            ("document", {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}),
            ("document", {"type": "url", "url": "https://example.com/a.pdf"}),
            ("document", {"type": "text", "media_type": "text/plain", "data": "# Grüße"}),
        ]
        assert found["content"][3]["title"] == "a.pdf"

    def test_a_result_may_hold_pictures(self) -> None:
        """Parts of a result are blocks of it."""
        result = ToolResult("a", "look", (TextPart("this:"), ImagePart("image/png", b"x")))
        (found,) = turns(Message("tool", (result,)))

        assert [block["type"] for block in found["content"][0]["content"]] == ["text", "image"]

    def test_turns_that_say_nothing_are_left_out(self) -> None:
        """The provider takes no empty text; what is left on one side is one turn."""
        found = turns(Message("user", "Hi"), Message("assistant", ""), Message("user", "Hello?"))

        assert found == [{"role": "user", "content": [text("Hi"), text("Hello?")]}]

    def test_tools_and_the_choice_among_them(self) -> None:
        """The four words for a choice, and that one call a turn is enough."""
        tool = {"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER.parameters}
        asked = body(request(tools=(WEATHER,)))
        assert asked["tools"] == [tool]
        assert "tool_choice" not in asked

        def choice(word: str, *, parallel: bool | None = None) -> Any:
            return body(request(tools=(WEATHER,), tool_choice=word, parallel_tool_calls=parallel)).get("tool_choice")

        assert choice("required") == {"type": "any"}
        assert choice("weather", parallel=True) == {"type": "tool", "name": "weather"}
        assert choice("none", parallel=False) == {"type": "none"}
        assert choice("auto", parallel=False) == {"type": "auto", "disable_parallel_tool_use": True}

    def test_the_providers_own_tools_join_ours(self) -> None:
        """Own members add to lists of tools and to objects; anything else is replaced."""
        search = {"type": "web_search_20250305", "name": "web_search"}
        schema = JsonSchema("x", {"type": "object"})
        found = body(
            request(tools=(WEATHER,), output=schema, extra_body={"tools": [search], "output_config": {"effort": "low"}})
        )

        assert found["tools"][1] == search
        assert found["output_config"] == {
            "format": {"type": "json_schema", "schema": {"type": "object"}},
            "effort": "low",
        }

    @pytest.mark.parametrize(
        ("model", "word", "expected"),
        [
            (MODEL, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 16384 + 2048}),
            (MODEL, "4000", {"thinking": {"type": "enabled", "budget_tokens": 4000}, "max_tokens": 16384 + 4000}),
            (MODEL, "none", {"thinking": {"type": "disabled"}, "max_tokens": 16384}),
            ("claude-3-5-haiku-latest", "none", {"max_tokens": 8192}),
            (
                "claude-opus-4-6",
                "minimal",
                {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "max_tokens": 16384},
            ),
            (
                "claude-opus-5",
                "xhigh",
                {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}, "max_tokens": 16384},
            ),
        ],
    )
    def test_how_hard_to_think(self, model: str, word: str, expected: dict[str, Any]) -> None:
        """Older models take a budget of tokens, newer ones an effort."""
        found = body(request(reasoning=word), model)

        assert {name: value for name, value in found.items() if name not in ("model", "messages")} == expected

    def test_a_default_temperature_means_the_same_to_models_that_take_none(self) -> None:
        """The newest models have one temperature; asking for it is not a mistake."""
        assert "temperature" not in body(request(temperature=1.0), "claude-opus-4-8")
        assert "claude-opus-4-8 takes no temperature but its default" in rejected(
            request(temperature=0.2), "claude-opus-4-8"
        )

    def test_a_seed_is_left_out(self) -> None:
        """It tells rollouts apart, and each of them is sampled anew."""
        assert body(request(seed=3)) == body(request())

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (request(n=2), "'n'"),
            (request(logprobs=0), "'logprobs'"),
            (request(output=JsonObject()), "JsonSchema"),
            (request(Message("system", "Alone.")), "no user turn"),
            (request(Message("tool", "text")), "a tool turn without ToolResult"),
            (request(Message("tool", (TextPart("x"),))), "TextPart in a tool turn"),
            (request(Message("system", (ImagePart("image/png", b"x"),))), "ImagePart in a system turn"),
            (request(Message("user", (AudioPart("audio/wav", b"x"),))), "AudioPart in a user turn"),
            (request(Message("assistant", (ImagePart("image/png", b"x"),))), "ImagePart in an assistant turn"),
            (request(Message("user", (FilePart("application/zip", b"x"),))), "application/zip"),
            (request(Message("user", (FilePart("text/plain", b"\xff"),))), "not UTF-8"),
            (request(*[Message("user", "x", cache="5m")] * 5), "at most 4"),
            (request(tool_choice="required"), "needs tools"),
            (request(tools=(WEATHER,), tool_choice="other"), "not a tool of the request"),
            (request(reasoning="low", max_tokens=2048), "must be more than the 2048 tokens"),
            (request(reasoning="12"), "is not one of 'none', 'minimal'"),
            (request(stream=True), "'stream'"),
            (request(Message("user", "\ud800")), "cannot be written as JSON"),
            (request(temperature=float("nan")), "cannot be written as JSON"),
        ],
    )
    def test_what_the_protocol_cannot_say_is_rejected(self, asked: LMRequest, words: str) -> None:
        """Nothing is sent, and the message names what it was."""
        assert words in rejected(asked)

    @pytest.mark.parametrize(
        ("asked", "model", "words"),
        [
            (request(output=JsonSchema("x", {})), "claude-3-7-sonnet-latest", "cannot be held to a JSON schema"),
            (request(reasoning="low"), "claude-3-5-sonnet-latest", "does not think"),
            (request(reasoning="none"), "claude-fable-5", "always thinks"),
            (request(top_p=0.5), "claude-haiku-5-5", "takes no top_p but its default"),
        ],
    )
    def test_what_a_model_cannot_do_is_rejected(self, asked: LMRequest, model: str, words: str) -> None:
        """By the version in its name."""
        assert words in rejected(asked, model)


class TestHeaders:
    def test_key_version_and_what_every_request_carries(self) -> None:
        """The key has a header of its own."""
        headers = WIRE.headers(Secret("sk-ant"), idempotency_key="k", attempt=2)

        assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-ant", "2023-06-01")
        assert (headers["idempotency-key"], headers["x-attempt"]) == ("k", "2")
        assert "authorization" not in headers
        assert "x-api-key" not in WIRE.headers(None, idempotency_key="k", attempt=1)

    def test_a_key_that_is_no_header_is_not_sent_or_shown(self) -> None:
        """A line end in a key would be another header."""
        with pytest.raises(AuthFailed) as caught:
            WIRE.headers(Secret("sk\nx"), idempotency_key="k", attempt=1)

        found = completed(caught.value, {}, now=NOW, key_hint="set ANTHROPIC_API_KEY")
        assert "set ANTHROPIC_API_KEY" in str(found)
        assert "sk\nx" not in str(found)

    def test_headroom_is_that_of_the_scarcer_tokens(self) -> None:
        """Resets are moments; a past one is now."""
        headers = {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z",
            "anthropic-ratelimit-input-tokens-limit": "30000",
            "anthropic-ratelimit-input-tokens-remaining": "20000",
            "anthropic-ratelimit-input-tokens-reset": "2026-01-01T00:01:00Z",
            "anthropic-ratelimit-output-tokens-limit": "8000",
            "anthropic-ratelimit-output-tokens-remaining": "5000",
            "anthropic-ratelimit-output-tokens-reset": "2025-12-31T23:59:00+00:00",
        }

        assert WIRE.headroom(headers, now=NOW) == Headroom(49, 30.0, 5000, 0.0, 50, 8000)
        assert WIRE.headroom({"anthropic-ratelimit-requests-reset": "soon"}, now=NOW) is None

    @pytest.mark.parametrize(
        ("moment", "seconds"),
        [
            ("2026-01-01T00:00:01.5Z", 1.5),
            ("2026-01-01T01:30:02+01:30", 2.0),
            ("2025-12-31t19:00:03-05:00", 3.0),
            ("2025-01-01T00:00:00Z", 0.0),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("60", None),
        ],
    )
    def test_a_reset_is_a_moment(self, moment: str, seconds: float | None) -> None:
        """With its distance from UTC; what is not a moment is not told."""
        headers = {"anthropic-ratelimit-requests-remaining": "1", "anthropic-ratelimit-requests-reset": moment}

        assert WIRE.headroom(headers, now=NOW) == Headroom(requests=1, requests_reset=seconds)

    def test_capabilities_come_from_the_table(self) -> None:
        """A Claude calls tools; another model behind the protocol is taken to do little."""
        assert WIRE.capabilities(LM("anthropic/claude-opus-4-6")).tools
        assert not WIRE.capabilities(LM("anthropic/claude-opus-4-6")).many
        assert not WIRE.capabilities(LM("anthropic/llama", api_base="http://localhost:1/v1")).tools


class TestDecode:
    def test_a_rich_answer(self) -> None:
        """Text, thoughts, calls, sources and counts; the cache's tokens count as input."""
        found = decode(RICH, headers={"request-id": "req_1", "x-trace": "t", "date": "d"})
        (completion,) = found.completions

        assert completion.text == "I look it up. It is sunny."
        assert completion.finish_reason == "tool_calls"
        (call,) = completion.tool_calls
        assert (call.id, call.arguments, call.raw) == (
            "toolu_1",
            {"city": "Köln", "days": 2},
            '{"city":"Köln","days":2}',
        )
        assert [part.text for part in completion.reasoning] == ["The user asks…", "", ""]
        assert completion.citations == (Citation("sun all day", "Ulm", "https://example.com/ulm", 14, 25),)
        assert found.usage == Usage(3210, 70, 3000, 40, 200)
        assert (found.model, found.request_id, found.headers) == (RICH["model"], "req_1", {"x-trace": "t"})

    def test_a_turn_goes_back_as_it_came(self) -> None:
        """Thoughts with their signatures, what the provider searched, and each where it was."""
        (completion,) = decode(RICH).completions
        found = turns(Message("user", "How is it?"), completion.turn())

        assert found[1]["content"] == [
            *RICH["content"][:4],
            text("It is sunny."),
            RICH["content"][6],
        ]

    def test_thoughts_of_another_wire_stay_at_home(self) -> None:
        """Nobody else can check their signatures."""
        turn = Message("assistant", (ReasoningPart("hm", "gemini", {"thought": True}), TextPart("Yes.")))

        assert turns(Message("user", "?"), turn)[1] == {"role": "assistant", "content": "Yes."}

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("pause_turn", "pause_turn"),
        ],
    )
    def test_why_it_ended(self, reason: str, expected: str) -> None:
        """Ours where we have a word, else the provider's."""
        assert decode(answer(text("Yes."), stop_reason=reason)).completions[0].finish_reason == expected

    def test_a_refusal_without_an_answer_is_an_error(self) -> None:
        """It says why, if the provider does."""
        why = {"type": "refusal", "category": "bio", "explanation": "dangerous"}
        found = failure(answer(stop_reason="refusal", stop_details=why), headers={"request-id": "req_1"})

        assert isinstance(found, ContentRefused)
        assert (str(found), found.code, found.request_id) == (
            "the model refused to answer: dangerous",
            "bio",
            "req_1",
        )

    def test_an_empty_answer_is_one(self) -> None:
        """After tool results the provider sometimes has nothing to add."""
        assert decode(answer()).completions[0].text == ""

    @pytest.mark.parametrize("document", [b"<html>", b"[]", b"{}", {"content": "text"}, b"\xff", b"1e400"])
    def test_a_success_that_is_no_message(self, document: object) -> None:
        """It may be tried again."""
        assert isinstance(failure(document), ResponseInvalid)


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "expected"),
        [
            (400, "invalid_request_error", RequestRejected),
            (401, "authentication_error", AuthFailed),
            (402, "billing_error", QuotaExhausted),
            (403, "permission_error", PermissionDenied),
            (404, "not_found_error", RequestRejected),
            (413, "request_too_large", ContextTooLong),
            (429, "rate_limit_error", RateLimited),
            (500, "api_error", ServerFailed),
            (504, "timeout_error", ServerFailed),
            (529, "overloaded_error", ServerFailed),
        ],
    )
    def test_what_an_error_means(self, status: int, kind: str, expected: type[LMError]) -> None:
        """The same as an answer of its own, and as an event in a stream."""
        found = failure(problem(kind), status, {"retry-after": "7"})
        assert type(found) is expected
        assert (found.status, found.code, found.request_id, found.retry_after) == (status, kind, "req_body", 7.0)

        with pytest.raises(expected) as caught:
            read(stream(problem(kind)))
        assert caught.value.status == status

    @pytest.mark.parametrize(
        ("status", "document", "expected"),
        [
            (400, problem("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), ContextTooLong),
            (
                400,
                problem("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 9 > 8"),
                ContextTooLong,
            ),
            (
                400,
                problem("invalid_request_error", "Your credit balance is too low to access the API."),
                QuotaExhausted,
            ),
            (429, problem("rate_limit_error", error_code="enforced_spend_limit_reached"), QuotaExhausted),
            (502, b"<html>Bad gateway</html>", ServerFailed),
        ],
    )
    def test_causes_that_share_a_status(self, status: int, document: object, expected: type[LMError]) -> None:
        """An empty purse is not tried again, and neither is a prompt that is too long."""
        assert type(failure(document, status)) is expected

    def test_an_error_under_a_success_is_one(self) -> None:
        """Some gateways have only one status."""
        assert isinstance(failure(problem("overloaded_error")), ServerFailed)

    def test_a_refused_key_is_not_shown(self) -> None:
        """The provider's own words may repeat it."""
        found = failure(problem("authentication_error", "invalid x-api-key sk-123"), 401)

        assert "sk-123" not in str(found)
        assert "set ANTHROPIC_API_KEY" in str(found)


class TestStream:
    def test_every_kind_of_event(self) -> None:
        """The pieces as they come, and the whole as it would have come unstreamed."""
        deltas, whole = read(stream(*RICH_STREAM), {"request-id": "req_1"})

        assert whole == decode(RICH, headers={"request-id": "req_1"})
        assert deltas == [
            LMDelta(reasoning="The user "),
            LMDelta(reasoning="asks…"),
            LMDelta(text="I look "),
            LMDelta(text="it up. "),
            LMDelta(text="It is sunny"),
            LMDelta(text="."),
            LMDelta(tool=0, tool_name="weather"),
            LMDelta(tool=0, arguments='{"city": "Kö'),
            LMDelta(tool=0, arguments='ln", "days": 2}'),
        ]

    def test_a_call_cut_short_is_no_object(self) -> None:
        """When the length is used up within the arguments, they are kept as they came."""
        opening = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
        piece = {"type": "input_json_delta", "partial_json": '{"city": "K'}
        _, whole = read(stream(start(), *block(0, opening, [piece]), *end("max_tokens", output_tokens=5)))

        assert whole.completions[0].tool_calls == (ToolCall("a", "weather", None, '{"city": "K'),)

    def test_counts_are_sums_so_far(self) -> None:
        """The last event's replace the first's; what it does not tell stays."""
        events = [start(), *block(0, text(""), []), *end(output_tokens=5, input_tokens=None)]

        assert read(stream(*events))[1].usage == Usage(10, 5)

    @pytest.mark.parametrize("kept", [0, 1, 5, len(RICH_STREAM) - 2])
    def test_a_stream_without_its_end_is_truncated(self, kept: int) -> None:
        """However much of it came, only its stop reason completes it."""
        with pytest.raises(StreamTruncated, match="stop_reason"):
            read(stream(*RICH_STREAM[:kept]) + b"event: message_delta\ndata: {")

    def test_its_stop_reason_completes_it(self) -> None:
        """The event that follows it says nothing more."""
        assert read(stream(*RICH_STREAM[:-1]))[1] == read(stream(*RICH_STREAM))[1]

    def test_the_last_event_alone_is_no_end(self) -> None:
        """A server that stops one stream for another may send it all the same."""
        with pytest.raises(StreamTruncated):
            read(stream(*RICH_STREAM[:5], RICH_STREAM[-1]))

    @pytest.mark.parametrize("reason", ["something_new", "error"])
    def test_an_end_that_nobody_knows_is_no_answer(self, reason: str) -> None:
        """New words are for ends that are not the usual one."""
        found = failure(answer(text("Yes."), stop_reason=reason))

        assert isinstance(found, ResponseInvalid)
        assert reason in str(found)

    def test_a_last_event_without_its_empty_line_counts(self) -> None:
        """The connection may end right behind it."""
        data = stream(start(), *block(0, text(""), [{"type": "text_delta", "text": "Yes."}]), *end(output_tokens=5))

        assert read(data.rstrip())[1].completions[0].text == "Yes."

    def test_a_refusal_in_a_stream(self) -> None:
        """The same with and without words before it."""
        with pytest.raises(ContentRefused) as caught:
            read(stream(start(), *block(0, text("Well"), []), *end("refusal", output_tokens=2)))
        assert caught.value.partial == "Well"

        with pytest.raises(ContentRefused):
            read(stream(start(), *end("refusal", output_tokens=2)))

    def test_an_event_that_is_not_json(self) -> None:
        """Passing it over could lose a piece of the text."""
        with pytest.raises(ResponseInvalid, match="not JSON"):
            read(b'event: content_block_delta\ndata: {"type": "content\n\n')
