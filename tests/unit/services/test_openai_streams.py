"""Chat streams: written-out bytes of each kind of event, and what they add up to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.errors import (
    ContentRefused,
    LMError,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
    StreamTruncated,
)
from dspex.protocols.content import Citation, ReasoningPart, ToolCall
from dspex.protocols.lm import Completion, LMDelta, LMResponse, TokenLogprob, Usage
from dspex.services.lm.wires.chat.wire import OpenAIChat

WIRE = OpenAIChat()
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_7"}
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, *, index: int = 0, reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason, **fields}
    return b"data: " + json.dumps({"id": "c1", "model": "gpt-5-mini-2026", "choices": [choice]}).encode() + b"\n\n"


def read(*pieces: bytes, headers: dict[str, str] = HEADERS) -> tuple[list[LMDelta], LMResponse]:
    decoder = WIRE.decoder(headers)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


END = chunk(reason="stop") + DONE


def failure(*pieces: bytes) -> LMError:
    with pytest.raises(LMError) as caught:
        read(*pieces)
    return caught.value


class TestText:
    GOLDEN = (
        b": warming up\n\n"
        b'data: {"id":"c1","model":"gpt-5-mini-2026","choices":[{"index":0,"delta":{"role":"assistant","content":"",'
        b'"refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"zz"}\n\n'
        b'data: {"id":"c1","model":"gpt-5-mini-2026","choices":[{"index":0,"delta":{"content":"Gr\xc3\xbc"},'
        b'"finish_reason":null}],"usage":null}\n\n'
        b'data: {"id":"c1","model":"gpt-5-mini-2026","choices":[{"index":0,"delta":{"content":"\xc3\x9f dich"},'
        b'"finish_reason":null}],"usage":null}\n\n'
        b'data: {"id":"c1","model":"gpt-5-mini-2026","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
        b'"usage":null}\n\n'
        b'data: {"id":"c1","model":"gpt-5-mini-2026","choices":[],"usage":{"prompt_tokens":21,"completion_tokens":9,'
        b'"total_tokens":30,"prompt_tokens_details":{"cached_tokens":16,"cache_write_tokens":3},'
        b'"completion_tokens_details":{"reasoning_tokens":4}}}\n\n'
        b"data: [DONE]\n\n"
    )

    def test_a_stream_as_openai_sends_it(self) -> None:
        """Role, text, end, usage, marker."""
        deltas, response = read(self.GOLDEN)

        assert deltas == [LMDelta(0, "Grü"), LMDelta(0, "ß dich")]
        assert response == LMResponse(
            (Completion("Grüß dich"),),
            Usage(21, 9, 16, 4, 3),
            "gpt-5-mini-2026",
            "req_7",
            {"x-request-id": "req_7"},
        )

    def test_byte_by_byte_it_is_the_same(self) -> None:
        """Packets end where they like."""
        assert read(*[self.GOLDEN[i : i + 1] for i in range(len(self.GOLDEN))]) == read(self.GOLDEN)

    def test_several_answers_come_interleaved(self) -> None:
        deltas, response = read(
            chunk({"content": "b"}, index=1),
            chunk({"content": "a"}),
            chunk({"content": "B"}, index=1),
            chunk(index=1, reason="length"),
            chunk(reason="stop"),
            DONE,
        )

        assert [(delta.index, delta.text) for delta in deltas] == [(1, "b"), (0, "a"), (1, "B")]
        assert response.completions == (Completion("a"), Completion("bB", "length"))

    def test_usage_in_the_last_piece_of_text(self) -> None:
        """Hosts that tell it unasked put it there."""
        piece = {
            "choices": [{"index": 0, "delta": {"content": "x"}}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 1},
        }

        assert read(b"data: " + json.dumps(piece).encode() + b"\n\n", END)[1].usage == Usage(2, 1)

    def test_log_probabilities(self) -> None:
        token = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": [{"token": "y", "logprob": -1.5}]}
        other = {"token": "z", "logprob": -0.25, "top_logprobs": []}
        _, response = read(
            chunk({"content": "x"}, logprobs={"content": [token]}),
            chunk({"content": "z"}, logprobs={"content": [other]}),
            END,
        )

        expected = (TokenLogprob("x", -0.5, (("y", -1.5),)), TokenLogprob("z", -0.25))
        assert response.completions[0].logprobs == expected


class TestThoughts:
    @pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
    def test_thoughts_come_apart_from_the_answer(self, field: str) -> None:
        """DeepSeek's name for them, and OpenRouter's."""
        deltas, response = read(
            chunk({"content": None, field: "Let me "}), chunk({field: "see."}), chunk({"content": "42"}), END
        )

        assert deltas == [LMDelta(reasoning="Let me "), LMDelta(reasoning="see."), LMDelta(text="42")]
        assert response.completions[0].reasoning == (ReasoningPart("Let me see.", "openai-chat", {"field": field}),)
        assert response.completions[0].text == "42"

    def test_structured_thoughts_are_put_together(self) -> None:
        """OpenRouter wants them back whole."""
        first = {"type": "reasoning.text", "index": 0, "text": "Let me ", "signature": None}
        second = {"type": "reasoning.text", "index": 0, "text": "see.", "signature": "sig"}
        third = {"type": "reasoning.encrypted", "index": 1, "data": "gA=="}
        _, response = read(
            chunk({"reasoning": "Let me ", "reasoning_details": [first]}),
            chunk({"reasoning": "see.", "reasoning_details": [second]}),
            chunk({"reasoning_details": [third]}),
            chunk({"content": "42"}),
            END,
        )

        [part] = response.completions[0].reasoning
        whole = {"type": "reasoning.text", "index": 0, "text": "Let me see.", "signature": "sig"}
        assert part == ReasoningPart("Let me see.", "openai-chat", {"reasoning_details": [whole, third]})

    def test_thoughts_among_the_parts_of_the_content(self) -> None:
        """Mistral's way."""
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
        deltas, response = read(chunk({"content": [thinking]}), chunk({"content": "Yes"}), END)

        assert deltas == [LMDelta(reasoning="Hm."), LMDelta(text="Yes")]
        assert response.completions[0].text == "Yes"
        assert response.completions[0].reasoning == (ReasoningPart("Hm.", "openai-chat"),)


class TestToolCalls:
    @pytest.mark.parametrize("numbers", [(0, 0, 0), (None, None, None), (0, 1, 2)])
    @pytest.mark.parametrize("ids", [("a", "b", "c"), ("", "", "")])
    def test_calls_of_their_own_stay_apart(self, numbers: tuple[int | None, ...], ids: tuple[str, ...]) -> None:
        """Servers that give every call one number, or none, send several calls, not one with glued arguments."""

        def piece(at: int, **function: str) -> bytes:
            fields: dict[str, Any] = {"id": ids[at], "type": "function", "function": function}
            if numbers[at] is not None:
                fields["index"] = numbers[at]
            return chunk({"tool_calls": [fields]})

        _, response = read(
            piece(0, name="now", arguments="{}"),
            piece(1, name="add", arguments='{"a":'),
            piece(1, arguments="5}"),
            piece(2, name="add", arguments='{"a":6}'),
            chunk(reason="tool_calls"),
            DONE,
        )

        assert [(call.name, call.arguments) for call in response.completions[0].tool_calls] == [
            ("now", {}),
            ("add", {"a": 5}),
            ("add", {"a": 6}),
        ]
        assert len({call.id for call in response.completions[0].tool_calls}) == 3

    @pytest.mark.parametrize("ids", [("a", "a", "a"), ("a", "b", "c"), ("a", "", "")])
    def test_a_call_whose_name_is_repeated_is_one(self, ids: tuple[str, ...]) -> None:
        """Some servers say the name in every piece, some make an id anew for each."""
        pieces = [
            chunk({"tool_calls": [{"index": 0, "id": each, "function": {"name": "add", "arguments": part}}]})
            for each, part in zip(ids, ('{"a"', ": ", "5}"), strict=True)
        ]
        _, response = read(*pieces, chunk(reason="tool_calls"), DONE)

        assert [call.arguments for call in response.completions[0].tool_calls] == [{"a": 5}]

    def test_calls_with_one_id_are_told_apart_by_their_numbers(self) -> None:
        pieces = [
            chunk({"tool_calls": [{"index": at, "id": "call", "function": {"name": "add", "arguments": "{}"}}]})
            for at in (0, 1)
        ]
        _, response = read(*pieces, chunk(reason="tool_calls"), DONE)

        assert [call.id for call in response.completions[0].tool_calls] == ["call", "call-1"]

    def test_fragments_are_put_together_by_their_number(self) -> None:
        """The id and the name come first, the arguments bit by bit, calls in any order."""

        def call(number: int, arguments: str, name: str = "", call_id: str = "") -> bytes:
            function = {"arguments": arguments, **({"name": name} if name else {})}
            fields = {"index": number, "function": function, **({"id": call_id, "type": "function"} if call_id else {})}
            return chunk({"tool_calls": [fields]})

        deltas, response = read(
            call(0, "", "weather", "call_a"),
            call(0, '{"city":'),
            call(1, "{", "news", "call_b"),
            call(0, ' "Ulm"}'),
            call(1, "}"),
            chunk(reason="tool_calls"),
            DONE,
        )

        assert deltas == [
            LMDelta(tool=0, tool_name="weather"),
            LMDelta(tool=0, arguments='{"city":'),
            LMDelta(tool=1, tool_name="news", arguments="{"),
            LMDelta(tool=0, arguments=' "Ulm"}'),
            LMDelta(tool=1, arguments="}"),
        ]
        assert response.completions == (
            Completion(
                "",
                "tool_calls",
                (
                    ToolCall("call_a", "weather", {"city": "Ulm"}, '{"city": "Ulm"}'),
                    ToolCall("call_b", "news", {}, "{}"),
                ),
            ),
        )

    def test_calls_without_numbers_are_told_apart_by_their_ids(self) -> None:
        """Some servers send each call whole, all at place 0."""

        def call(call_id: str) -> bytes:
            return chunk({"tool_calls": [{"id": call_id, "function": {"name": "t", "arguments": {"a": 1}}}]})

        _, response = read(call("x"), call("y"), END)

        calls = response.completions[0].tool_calls
        assert [(each.id, each.arguments) for each in calls] == [("x", {"a": 1}), ("y", {"a": 1})]

    def test_arguments_that_json_cannot_say_again_are_read(self) -> None:
        """A server's bytes are never a fault of the request."""
        nan = b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "t", "arguments": {"a": NaN}}}]}}]}'
        _, response = read(nan + b"\n\n", END)

        assert response.completions[0].tool_calls[0].raw == '{"a":NaN}'

    def test_a_number_beyond_reason_is_not_believed(self) -> None:
        _, response = read(chunk({"tool_calls": [{"index": 10**9, "function": {"name": "t"}}]}), END)

        assert response.completions[0].tool_calls == (ToolCall("call_0", "t", {}),)


class TestEnds:
    def test_without_a_finish_reason_it_is_truncated(self) -> None:
        """A server that stops one stream for the sake of another sends the marker, and 13 of 800 characters."""
        caught = failure(chunk({"content": "x"}), DONE)

        assert isinstance(caught, StreamTruncated)
        assert caught.request_id == "req_7"

    def test_a_finish_reason_is_an_end_without_the_marker(self) -> None:
        """Some servers never send the marker."""
        assert read(chunk({"content": "x"}), chunk(reason="length"))[1].completions == (Completion("x", "length"),)

    @pytest.mark.parametrize("word", ["null", ""])
    def test_no_reason_in_words_is_none(self, word: str) -> None:
        """Some servers write it in every piece."""
        assert isinstance(failure(chunk({"content": "x"}, reason=word), DONE), StreamTruncated)

    def test_one_answer_of_two_without_a_reason_is_truncated(self) -> None:
        assert isinstance(failure(chunk({"content": "x"}, index=1), chunk(reason="stop"), DONE), StreamTruncated)

    @pytest.mark.parametrize("end", [b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]\r\n\r\n"])
    def test_the_marker_counts_without_its_empty_line(self, end: bytes) -> None:
        """Some servers close the connection right behind it."""
        assert read(chunk({"content": "x"}), chunk(reason="stop"), end)[1].completions[0].text == "x"

    def test_the_last_piece_counts_without_its_empty_line(self) -> None:
        """It is whole JSON, so nothing of it is missing."""
        assert read(chunk({"content": "x"}), chunk({"content": "y"}, reason="stop").rstrip())[1].completions == (
            Completion("xy"),
        )

    def test_what_follows_the_marker_is_passed_over(self) -> None:
        assert len(read(chunk({"content": "x"}), END + chunk({"content": "y"}), b"garbage\n\n")[0]) == 1

    def test_a_broken_end_is_no_answer(self) -> None:
        """vLLM says abort where it gave up; another try may bring an answer."""
        caught = failure(chunk({"content": "x"}), chunk(reason="abort"), DONE)

        assert isinstance(caught, ResponseInvalid)
        assert caught.is_retryable

    @pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x28\xa1", b"\xed\xa0\xbd"])
    def test_bytes_that_are_not_utf8_are_refused(self, bad: bytes) -> None:
        """As in a whole answer: nothing is replaced silently."""
        caught = failure(b'data: {"choices":[{"delta":{"content":"a' + bad + b'"},"finish_reason":"stop"}]}\n\n', DONE)

        assert isinstance(caught, ResponseInvalid)
        assert "UTF-8" in str(caught)

    @pytest.mark.parametrize("stream", [b"", b"<html>no</html>", b'data: {"choices": [{"delta": {"content"'])
    def test_a_body_that_is_no_stream_is_truncated(self, stream: bytes) -> None:
        assert isinstance(failure(stream), StreamTruncated)

    def test_a_stream_of_nothing_is_invalid(self) -> None:
        assert isinstance(failure(DONE), ResponseInvalid)

    @pytest.mark.parametrize(
        "event", [b"data: {nonsense\n\n", b"data: 7\n\n", b'data: {"choices":[{"delta":{"content":7}}]}\n\n']
    )
    def test_an_event_that_is_no_piece_of_an_answer_is_invalid(self, event: bytes) -> None:
        assert isinstance(failure(event, DONE), ResponseInvalid)

    def test_a_refusal_is_content_refused(self) -> None:
        caught = failure(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk(reason="stop"), DONE)

        assert isinstance(caught, ContentRefused)
        assert "I cannot." in str(caught)


class TestErrors:
    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            ({"error": {"message": "overloaded", "type": "server_error", "code": None}}, ServerFailed),
            ({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, RateLimited),
            ({"error": {"message": "upstream", "code": 502}, "choices": []}, ServerFailed),
            ({"error": {"message": "no", "code": "400"}}, RequestRejected),
            ({"error": {"message": "gone", "code": 502}, "choices": [{"delta": {"content": ""}}]}, ServerFailed),
            ({"choices": [{"error": {"message": "slow", "code": 429}, "finish_reason": "error"}]}, RateLimited),
            ({"error": "something broke"}, ServerFailed),
            ({"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500}, ServerFailed),
        ],
    )
    def test_an_error_in_the_middle(self, event: dict[str, Any], expected: type[LMError]) -> None:
        """Under HTTP 200: an unknown reason is the provider's failure."""
        caught = failure(chunk({"content": "x"}), b"data: " + json.dumps(event).encode() + b"\n\n")

        assert type(caught) is expected
        assert "in the middle of its answer" in str(caught)
        assert caught.request_id == "req_7"

    def test_an_error_as_the_last_words(self) -> None:
        """The connection closed before its empty line."""
        assert isinstance(failure(b'data: {"error": {"message": "died"}}'), ServerFailed)


def test_citations_of_a_stream() -> None:
    """They come with the last piece."""
    annotation = {
        "type": "url_citation",
        "url_citation": {"start_index": 0, "end_index": 4, "title": "Facts", "url": "https://facts.example"},
    }
    _, response = read(chunk({"content": "True"}), chunk({"annotations": [annotation]}), END)

    assert response.completions[0].citations == (Citation("", "Facts", "https://facts.example", 0, 4),)
