"""The wire of OpenAI's Responses: written-out requests, answers and events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    LMError,
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
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import (
    Completion,
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
from dspex.services.lm.wires.responses.wire import OpenAIResponses
from tests.support.sampling import sampling

WIRE = OpenAIResponses()
HEADERS = {"content-type": "text/event-stream", "x-request-id": "req_3"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Rain?"}, {"type": "summary_text", "text": "Likely."}],
    "encrypted_content": "gAAA",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Ulm"}'}


def said(text: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], **fields}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def document(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 2},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 8},
        "total_tokens": 42,
    }
    whole = {"id": "resp_1", "object": "response", "model": "gpt-5-2026", "status": "completed", "error": None}
    return {**whole, "output": list(output), "usage": usage, **fields}


def encoded(*messages: Message, model: str = "gpt-4o", params: dict[str, Any] | None = None, **request: Any) -> Any:
    return json.loads(WIRE.encode(model, LMRequest(messages, sampling(params or {}), **request)))


def decode(body: object, status: int = 200) -> LMResponse:
    return WIRE.decode(status, {"x-request-id": "req_3"}, json.dumps(body).encode())


def failure(body: object, status: int = 200) -> LMError:
    with pytest.raises(LMError) as caught:
        decode(body, status)
    return caught.value


class TestRequest:
    def test_plain_text(self) -> None:
        """System turns at the front are instructions; nothing is kept on the server."""
        found = encoded(Message("system", "Be brief."), Message("system", "Be kind."), Message("user", "Hi"))

        assert found == {
            "model": "gpt-4o",
            "input": [{"type": "message", "role": "user", "content": "Hi"}],
            "store": False,
            "instructions": "Be brief.\n\nBe kind.",
        }

    def test_system_turns_alone(self) -> None:
        assert encoded(Message("system", "Say hello."))["input"] == []

    def test_a_later_system_turn_stays_where_it_is(self) -> None:
        found = encoded(Message("user", "Hi"), Message("system", (TextPart("Now "), TextPart("stop."))))

        assert found["input"][1] == {"type": "message", "role": "system", "content": "Now stop."}
        assert "instructions" not in found

    def test_media(self) -> None:
        content: tuple[Part, ...] = (
            TextPart("Look"),
            ImagePart("image/png", b"\x89PNG", detail="high"),
            ImagePart("", url="https://pictures.example/1.png"),
            FilePart("application/pdf", b"%PDF", name="paper.pdf"),
            FilePart("application/pdf", url="https://papers.example/1.pdf"),
        )

        assert encoded(Message("user", content))["input"] == [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": "data:image/png;base64,iVBORw==", "detail": "high"},
                    {"type": "input_image", "image_url": "https://pictures.example/1.png"},
                    {
                        "type": "input_file",
                        "filename": "paper.pdf",
                        "file_data": "data:application/pdf;base64,JVBERg==",
                    },
                    {"type": "input_file", "file_url": "https://papers.example/1.pdf"},
                ],
            }
        ]

    def test_an_answer_with_thoughts_and_calls_goes_back_as_it_came(self) -> None:
        """Items in their order, then one output for each call."""
        turn = decode(document(THOUGHT, said("Let me."), CALL)).completions[0].turn()
        results = (
            ToolResult("call_1", "weather", "rain"),
            ToolResult("call_2", "camera", (TextPart("see"), ImagePart("", url="https://p.example/1"))),
        )

        assert encoded(turn, Message("tool", results))["input"] == [
            THOUGHT,
            {"type": "message", "role": "assistant", "content": "Let me."},
            CALL,
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
            {
                "type": "function_call_output",
                "call_id": "call_2",
                "output": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "https://p.example/1"},
                ],
            },
        ]

    def test_thoughts_without_a_call_or_from_elsewhere_stay_home(self) -> None:
        """They are of no use there, and an item without its successor is refused."""
        foreign = ReasoningPart("Hm", "anthropic", {"encrypted_content": "x"})
        open_only = ReasoningPart("Hm", "openai-responses", {"type": "reasoning", "id": "rs_2"})
        call = ToolCall("c", "weather", {"city": "Ulm"})

        assert encoded(decode(document(THOUGHT, said("Rain."))).completions[0].turn())["input"] == [
            {"type": "message", "role": "assistant", "content": "Rain."}
        ]
        assert encoded(Message("assistant", (foreign, open_only, call)))["input"] == [
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city":"Ulm"}'}
        ]

    def test_thoughts_between_calls_go_back_between_them(self) -> None:
        """Each before the call that it led to."""
        second = {**THOUGHT, "id": "rs_2"}
        other = {**CALL, "id": "fc_2", "call_id": "call_2"}
        output: list[dict[str, Any]] = [THOUGHT, CALL, second, other]

        assert encoded(decode(document(*output)).completions[0].turn())["input"] == output

    def test_the_providers_own_tools_join_ours(self) -> None:
        found = encoded(params={"tools": [{"type": "web_search"}]}, tools=(ToolSpec("weather"),))

        assert [tool["type"] for tool in found["tools"]] == ["function", "web_search"]

    def test_tools_are_flat_and_not_strict(self) -> None:
        found = encoded(
            params={"parallel_tool_calls": False},
            tools=(ToolSpec("weather", "Tells it.", SCHEMA),),
            tool_choice="weather",
        )

        assert found["tools"] == [
            {"type": "function", "name": "weather", "description": "Tells it.", "parameters": SCHEMA, "strict": False}
        ]
        assert found["tool_choice"] == {"type": "function", "name": "weather"}
        assert found["parallel_tool_calls"] is False

    def test_a_missing_tool_cannot_be_demanded(self) -> None:
        with pytest.raises(RequestRejected, match="tool_choice='weather'"):
            encoded(tool_choice="weather")

    def test_the_form_of_the_text(self) -> None:
        form = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}

        assert encoded(output=JsonSchema("place", SCHEMA))["text"] == {"format": form}
        assert encoded(output=JsonObject(), params={"text": {"verbosity": "low"}})["text"] == {
            "format": {"type": "json_object"},
            "verbosity": "low",
        }

    def test_parameters(self) -> None:
        found = encoded(
            params={"temperature": 0, "top_p": 0.5, "max_tokens": 9, "logprobs": 2, "seed": 4, "service_tier": "flex"}
        )
        del found["input"]

        assert found == {
            "model": "gpt-4o",
            "store": False,
            "temperature": 0,
            "top_p": 0.5,
            "max_output_tokens": 9,
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 2,
            "service_tier": "flex",
        }

    def test_a_model_that_reasons_is_asked_for_thoughts_it_can_be_sent_again(self) -> None:
        """Encrypted, since nothing is kept; other models would refuse to be asked."""
        found = encoded(model="gpt-5", params={"reasoning": "high", "extra_body": {"reasoning": {"summary": "auto"}}})

        assert found["include"] == ["reasoning.encrypted_content"]
        assert found["reasoning"] == {"effort": "high", "summary": "auto"}
        assert encoded(model="o4-mini")["include"] == ["reasoning.encrypted_content"]
        assert "include" not in encoded(model="gpt-4o")

    def test_a_stream(self) -> None:
        assert json.loads(WIRE.encode("m", LMRequest(()), stream=True))["stream"] is True

    @pytest.mark.parametrize(
        ("params", "named"), [({"n": 2}, "n=2"), ({"stop": ["x"]}, "stop sequences"), ({"stream": True}, "'stream'")]
    )
    def test_parameters_it_has_no_word_for(self, params: dict[str, Any], named: str) -> None:
        with pytest.raises(RequestRejected, match=f"{named}.*nothing was sent"):
            encoded(params=params)

    @pytest.mark.parametrize(
        "message",
        [
            Message("user", (AudioPart("audio/wav", b"RIFF"),)),
            Message("system", (ImagePart("image/png", b"0"),)),
            Message("assistant", (ImagePart("image/png", b"0"),)),
            Message("tool", "text"),
            Message("tool", (TextPart("text"),)),
        ],
    )
    def test_parts_it_has_no_word_for(self, message: Message) -> None:
        with pytest.raises(RequestRejected, match="does not support"):
            encoded(message)


class TestAnswer:
    def test_a_whole_answer(self) -> None:
        citation = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "T", "url": "https://t.example"}
        logprob = {"token": "It", "logprob": -0.1, "bytes": [], "top_logprobs": [{"token": "A", "logprob": -3}]}
        search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
        response = decode(document(THOUGHT, search, said("It rains.", annotations=[citation], logprobs=[logprob])))

        assert response == LMResponse(
            (
                Completion(
                    "It rains.",
                    reasoning=(ReasoningPart("Rain?\n\nLikely.", "openai-responses", THOUGHT),),
                    logprobs=(TokenLogprob("It", -0.1, (("A", -3),)),),
                    citations=(Citation("", "T", "https://t.example", 0, 2),),
                ),
            ),
            Usage(30, 12, 20, 8, 2),
            "gpt-5-2026",
            "req_3",
            {"x-request-id": "req_3"},
        )

    def test_a_call(self) -> None:
        [completion] = decode(document(CALL)).completions

        assert completion.finish_reason == "tool_calls"
        assert completion.tool_calls == (
            ToolCall("call_1", "weather", {"city": "Ulm"}, '{"city":"Ulm"}', {"id": "fc_1"}),
        )

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("max_output_tokens", "length"),
            ("other", "length"),
            (None, "length"),
        ],
    )
    def test_an_answer_cut_short(self, reason: str | None, expected: str) -> None:
        """The part of it that exists was paid for."""
        body = document(said("It ra"), status="incomplete", incomplete_details={"reason": reason})

        assert decode(body).completions == (Completion("It ra", expected),)

    def test_a_refusal(self) -> None:
        item = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}

        assert "I cannot." in str(failure(document(item)))
        withheld = document(status="incomplete", incomplete_details={"reason": "content_filter"})
        assert isinstance(failure(withheld), ContentRefused)

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("server_error", ServerFailed),
            ("rate_limit_exceeded", RateLimited),
            ("invalid_prompt", RequestRejected),
            ("image_content_policy_violation", ContentRefused),
            ("something_new", ServerFailed),
        ],
    )
    def test_a_response_that_failed(self, code: str, expected: type[LMError]) -> None:
        caught = failure(document(status="failed", error={"code": code, "message": "no"}))

        assert type(caught) is expected
        assert caught.code == code

    @pytest.mark.parametrize(
        "body",
        [
            7,
            [],
            {},
            None,
            {"output": 3},
            document(status="queued"),
            document(status="cancelled"),
            document(output=None),
        ],
    )
    def test_what_is_no_response_is_invalid(self, body: object) -> None:
        assert isinstance(failure(body), ResponseInvalid)

    def test_errors_by_status(self) -> None:
        assert isinstance(failure({"error": {"message": "no", "code": "invalid_api_key"}}, 401), AuthFailed)
        assert isinstance(failure({"error": {"message": "no", "code": 503}}), ServerFailed)


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": 1, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def read(*pieces: bytes, headers: dict[str, str] = HEADERS) -> tuple[list[LMDelta], LMResponse]:
    decoder = WIRE.decoder(headers)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


def stream_failure(*pieces: bytes) -> LMError:
    with pytest.raises(LMError) as caught:
        read(*pieces)
    return caught.value


BEGUN = (
    event("response.created", response=document(status="in_progress")),
    event("response.in_progress", response=document(status="in_progress")),
)


class TestStream:
    TEXT = (
        *BEGUN,
        event("response.output_item.added", output_index=0, item={"type": "message", "content": []}),
        event("response.content_part.added", output_index=0, content_index=0, part={"type": "output_text"}),
        event("response.output_text.delta", output_index=0, content_index=0, delta="Grü", obfuscation="x"),
        event("response.output_text.delta", output_index=0, content_index=0, delta="ße"),
        event("response.output_text.done", output_index=0, content_index=0, text="Grüße"),
        event("response.content_part.done", output_index=0, content_index=0, part={"type": "output_text"}),
        event("response.output_item.done", output_index=0, item=said("Grüße")),
        event("response.completed", response=document(said("Grüße"))),
    )

    def test_text(self) -> None:
        deltas, response = read(*self.TEXT)

        assert deltas == [LMDelta(text="Grü"), LMDelta(text="ße")]
        assert response.completions == (Completion("Grüße"),)
        assert response.usage == Usage(30, 12, 20, 8, 2)
        assert response.request_id == "req_3"

    def test_byte_by_byte_it_is_the_same(self) -> None:
        whole = b"".join(self.TEXT)

        assert read(*[whole[i : i + 1] for i in range(len(whole))]) == read(whole)

    def test_thoughts_and_calls(self) -> None:
        """Parts of the thoughts are told apart as in the whole answer; calls are counted among themselves."""
        second = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "news", "arguments": "{}"}
        deltas, response = read(
            *BEGUN,
            event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Ra"),
            event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="in?"),
            event("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="Likely."),
            event("response.output_item.added", output_index=1, item={**CALL, "arguments": ""}),
            event("response.function_call_arguments.delta", output_index=1, delta='{"city":'),
            event("response.function_call_arguments.delta", output_index=1, delta='"Ulm"}'),
            event("response.function_call_arguments.done", output_index=1, arguments='{"city":"Ulm"}'),
            event("response.output_item.done", output_index=1, item=CALL),
            event("response.output_item.done", output_index=2, item=second),
            event("response.completed", response=document(THOUGHT, CALL, second)),
        )

        assert "".join(delta.reasoning for delta in deltas) == response.completions[0].reasoning[0].text
        assert [delta for delta in deltas if delta.tool is not None] == [
            LMDelta(tool=0, tool_name="weather"),
            LMDelta(tool=0, arguments='{"city":'),
            LMDelta(tool=0, arguments='"Ulm"}'),
            LMDelta(tool=1, tool_name="news", arguments="{}"),
        ]
        assert [call.name for call in response.completions[0].tool_calls] == ["weather", "news"]

    def test_items_stand_in_for_an_empty_last_word(self) -> None:
        """Some servers do not repeat them."""
        _, response = read(
            event("response.output_item.done", output_index=0, item=said("Hi")),
            event("response.completed", response=document()),
        )

        assert response.completions == (Completion("Hi"),)

    def test_the_types_of_events_may_stand_in_their_names_alone(self) -> None:
        body = json.dumps({"response": document(said("Hi"))})

        assert read(f"event: response.completed\ndata: {body}\n\n".encode())[1].completions == (Completion("Hi"),)

    def test_cut_short(self) -> None:
        last = document(said("Hi"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})

        assert read(event("response.incomplete", response=last))[1].completions == (Completion("Hi", "length"),)

    def test_failed(self) -> None:
        last = document(status="failed", error={"code": "server_error", "message": "out of order"})

        assert isinstance(stream_failure(*BEGUN, event("response.failed", response=last)), ServerFailed)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"code": "rate_limit_exceeded", "message": "slow down"}, RateLimited),
            ({"code": None, "message": "broken", "param": None}, ServerFailed),
            ({"error": {"type": "invalid_request_error", "code": "invalid_prompt", "message": "no"}}, RequestRejected),
        ],
    )
    def test_an_error_event(self, fields: dict[str, Any], expected: type[LMError]) -> None:
        caught = stream_failure(*BEGUN, event("error", **fields))

        assert type(caught) is expected
        assert caught.request_id == "req_3"

    def test_unknown_events_are_passed_over(self) -> None:
        assert read(event("response.new.thing", delta="x"), *self.TEXT)[1].completions == (Completion("Grüße"),)

    @pytest.mark.parametrize("cut", range(8))
    def test_without_its_last_event_it_is_truncated(self, cut: int) -> None:
        assert isinstance(stream_failure(*self.TEXT[:cut], b"data: [DONE]\n\n"), StreamTruncated)

    @pytest.mark.parametrize("broken", [b"data: {\n\n", b"data: 1\n\n", event("response.completed", response=4)])
    def test_an_event_that_cannot_be_read_is_invalid(self, broken: bytes) -> None:
        assert isinstance(stream_failure(broken), ResponseInvalid)
