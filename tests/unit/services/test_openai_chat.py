"""The OpenAI chat wire: pure translation, checked against written-out bodies."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    TransportFailed,
)
from dspex.protocols.lm import Completion, LMRequest, LMResponse, Message, Usage
from dspex.protocols.model import Secret
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires.chat.wire import OpenAIChat
from tests.support.sampling import sampling

WIRE = OpenAIChat()
NOW = 1_700_000_000.0


def request(text: str = "Hi", **params: Any) -> LMRequest:
    return LMRequest((Message("system", "Be brief."), Message("user", text)), sampling(params))


def decode(status: int, body: object, **headers: str) -> LMResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return WIRE.decode(status, names, raw)


def failure(status: int, body: object, **headers: str) -> LMError:
    with pytest.raises(LMError) as caught:
        decode(status, body, **headers)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return completed(caught.value, names, now=NOW, key_hint="set OPENAI_API_KEY or give LM(..., api_key=...)")


def error(code: str | None = None, message: str = "no", type: str = "") -> dict[str, Any]:  # noqa: A002
    return {"error": {"message": message, "code": code, "type": type, "param": None}}


def answer(text: str | None = "Hello", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "model": "gpt-5-mini-2026",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 7,
            "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        "something_new": [1, 2],
    }


class TestEncode:
    def test_only_what_was_set_is_sent(self) -> None:
        """A parameter left alone is the provider's to choose."""
        expected = (
            '{"model":"gpt-5-mini","messages":[{"role":"system","content":"Be brief."},'
            '{"role":"user","content":"Grüß dich"}]}'
        )

        assert WIRE.encode("gpt-5-mini", request("Grüß dich")).decode() == expected

    def test_every_parameter_has_its_field(self) -> None:
        """Our names become the provider's; ``extra_body`` goes along as it is."""
        params: dict[str, Any] = {"temperature": 0.0, "max_tokens": 9, "top_p": 0.5, "stop": "END", "n": 2, "seed": 3}
        fields = json.loads(WIRE.encode("m", request(**params, reasoning_effort="low")))
        del fields["messages"]

        assert fields == {
            "model": "m",
            "temperature": 0.0,
            "max_tokens": 9,
            "top_p": 0.5,
            "stop": ["END"],
            "n": 2,
            "seed": 3,
            "reasoning_effort": "low",
        }

    def test_openai_itself_gets_max_completion_tokens(self) -> None:
        """Its newer models refuse the old name."""
        fields = json.loads(OpenAIChat("max_completion_tokens").encode("m", request(max_tokens=9)))

        assert fields["max_completion_tokens"] == 9
        assert "max_tokens" not in fields

    @pytest.mark.parametrize("bad", [{"x": object()}, {"x": float("nan")}])
    def test_a_parameter_that_is_no_json_is_rejected_unsent(self, bad: dict[str, Any]) -> None:
        """Bad input gets a typed error before anything is paid for."""
        with pytest.raises(RequestRejected, match="nothing was sent"):
            WIRE.encode("m", request(**bad))

    def test_a_lone_surrogate_is_rejected_unsent(self) -> None:
        """It has no UTF-8 form."""
        with pytest.raises(RequestRejected, match="surrogates not allowed"):
            WIRE.encode("m", request("\ud800"))


class TestHeaders:
    def test_key_and_attempt_travel_in_headers(self) -> None:
        """One idempotency key for the logical call, one number for the attempt."""
        headers = WIRE.headers(Secret("sk-1"), idempotency_key="call-1", attempt=2)

        assert headers["authorization"] == "Bearer sk-1"
        assert headers["idempotency-key"] == headers["x-client-request-id"] == "call-1"
        assert headers["x-attempt"] == "2"

    def test_no_key_no_authorization(self) -> None:
        """Local servers want none."""
        assert "authorization" not in WIRE.headers(None, idempotency_key="c", attempt=1)

    @pytest.mark.parametrize("key", ["", "sk-secret\n", "sk-secret key", "sk-sécret", "sk-secret\r\nx: y"])
    def test_a_key_that_is_no_header_value_fails_without_being_shown(self, key: str) -> None:
        """A key pasted with its line end is the usual mistake."""
        with pytest.raises(AuthFailed) as caught:
            WIRE.headers(Secret(key), idempotency_key="c", attempt=1)

        found = completed(caught.value, {}, now=NOW, key_hint="set MY_KEY")
        assert "set MY_KEY" in str(found)
        assert "cret" not in str(found)


class TestDecode:
    def test_a_whole_answer(self) -> None:
        """Text, usage, model, request id and the x- headers; unknown fields are ignored."""
        response = decode(200, answer(), x_request_id="req_1", x_ratelimit_remaining_requests="9", server="nginx")

        assert response.completions == (Completion("Hello", "stop"),)
        assert response.usage == Usage(12, 7, 4, 2)
        assert response.model == "gpt-5-mini-2026"
        assert response.request_id == "req_1"
        assert response.headers == {"x-request-id": "req_1", "x-ratelimit-remaining-requests": "9"}

    def test_completions_come_in_the_order_of_their_index(self) -> None:
        """Servers may finish them in any order."""
        choices = [{"index": i, "message": {"content": str(i)}, "finish_reason": "length"} for i in (2, 0, 1)]

        assert [c.text for c in decode(200, {"choices": choices}).completions] == ["0", "1", "2"]

    def test_missing_usage_counts_as_nothing(self) -> None:
        """Some local servers send none, or null."""
        body = {"choices": answer()["choices"], "usage": None}

        assert decode(200, body).usage == Usage()

    def test_text_parts_are_joined(self) -> None:
        """Some servers answer with a list of parts."""
        parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]

        assert decode(200, {"choices": [{"message": {"content": parts}}]}).completions[0].text == "ab"

    def test_a_refusal_is_content_refused(self) -> None:
        """No completion has text, so there is nothing to hand over."""
        caught = failure(200, answer(None, refusal="I cannot help with that."))

        assert isinstance(caught, ContentRefused)
        assert "I cannot help" in str(caught)

    def test_one_withheld_completion_of_two_is_left_out_and_counted(self) -> None:
        """The other answer was paid for and is good."""
        body = answer()
        body["choices"].append({"index": 1, "message": {"content": None}, "finish_reason": "content_filter"})

        found = decode(200, body)
        assert [completion.finish_reason for completion in found.completions] == ["stop"]
        assert found.withheld == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>hello</html>",
            b"[1]",
            b"{}",
            b'{"choices": []}',
            b'{"choices": [1]}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"choices": [{"message": {"content": 7}}]}',
            b'{"choices": "no"}',
            b"null",
            b'{"choices": [{"delta": {}}]}',
        ],
    )
    def test_a_success_that_is_no_completion_is_invalid(self, body: bytes) -> None:
        """A captive portal, a broken gateway, another protocol."""
        assert isinstance(failure(200, body), ResponseInvalid)

    def test_an_error_under_200_is_its_own_error(self) -> None:
        """Some gateways report the upstream's failure inside a success."""
        assert isinstance(failure(200, {"error": {"message": "upstream down", "code": 502}}), ServerFailed)


ERRORS: list[tuple[int, object, type[LMError]]] = [
    (429, error("rate_limit_exceeded"), RateLimited),
    (429, error("slow_down"), RateLimited),
    (503, error("slow_down"), RateLimited),
    (429, b"", RateLimited),
    (429, error("insufficient_quota"), QuotaExhausted),
    (429, error(None, type="insufficient_quota"), QuotaExhausted),
    (429, error("credit_balance_exhausted"), QuotaExhausted),
    (403, error("enforced_spend_limit_reached"), QuotaExhausted),
    (402, error(), QuotaExhausted),
    (401, error("invalid_api_key"), AuthFailed),
    (401, b"Unauthorized", AuthFailed),
    (403, error(), PermissionDenied),
    (400, error("invalid_api_key"), AuthFailed),
    (400, error("context_length_exceeded"), ContextTooLong),
    (400, error(None, "This model's maximum context length is 4096 tokens."), ContextTooLong),
    (400, error(None, type="exceed_context_size_error"), ContextTooLong),
    (400, error("content_policy_violation"), ContentRefused),
    (400, error("invalid_prompt"), RequestRejected),
    (404, error("model_not_found"), RequestRejected),
    (404, {"error": "model 'x' not found"}, RequestRejected),
    (413, b"", RequestRejected),
    (422, {"detail": [{"msg": "bad"}]}, RequestRejected),
    (307, b"", RequestRejected),
    (408, b"", TransportFailed),
    (409, error(), TransportFailed),
    (500, b"oops", ServerFailed),
    (502, b"<html>", ServerFailed),
    (503, error("server_is_overloaded"), ServerFailed),
    (529, error(None, type="overloaded_error"), ServerFailed),
]


class TestErrors:
    @pytest.mark.parametrize(("status", "body", "expected"), ERRORS)
    def test_each_answer_has_its_error(self, status: int, body: object, expected: type[LMError]) -> None:
        """The table of the documentation, row by row."""
        caught = failure(status, body, x_request_id="req_9")

        assert type(caught) is expected
        assert (caught.status, caught.request_id) == (status, "req_9")

    def test_code_and_message_are_kept(self) -> None:
        """They are what the provider's support desk asks for."""
        caught = failure(404, error("model_not_found", "The model `x` does not exist"))

        assert caught.code == "model_not_found"
        assert "The model `x` does not exist" in str(caught)

    def test_auth_failed_says_where_to_put_the_key_and_shows_none(self) -> None:
        """The provider's own message repeats a part of the key."""
        caught = failure(401, error("invalid_api_key", "Incorrect API key provided: sk-12***89"))

        assert "OPENAI_API_KEY" in str(caught)
        assert "api_key=" in str(caught)
        assert "sk-12" not in str(caught)

    def test_a_redirect_names_the_address_to_use(self) -> None:
        """Usually http where https was meant."""
        assert "https://elsewhere/v1" in str(failure(308, b"", location="https://elsewhere/v1"))

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
            ({"retry_after": "2.5"}, 2.5),
            ({"retry_after": "7s"}, 7.0),
            ({"retry_after": "1m30s"}, 90.0),
            ({"retry_after": format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True)}, 30.0),
            ({"retry_after": format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True)}, 0.0),
            ({"retry_after": "soon"}, None),
            ({"retry_after": "-1"}, None),
            ({"retry_after": "nan"}, None),
            ({"retry_after": "inf"}, None),
            ({"retry_after": ""}, None),
            ({}, None),
        ],
    )
    def test_retry_after(self, headers: dict[str, str], expected: float | None) -> None:
        """Milliseconds first, then seconds, then a date; what cannot be read is no wait."""
        assert failure(429, b"", **headers).retry_after == expected

    @given(status=st.integers(200, 599), body=st.binary(max_size=200), retry=st.text(max_size=30))
    def test_any_answer_is_a_response_or_a_typed_error(self, status: int, body: bytes, retry: str) -> None:
        """Nothing a server sends is a crash of ours."""
        with contextlib.suppress(LMError):
            WIRE.decode(status, {"retry-after": retry}, body)

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
    shapes = st.fixed_dictionaries(
        {},
        optional={
            "choices": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {}, optional={"message": json_values, "index": json_values, "refusal": json_values}
                )
            ),
            "error": json_values | st.fixed_dictionaries({"code": json_values, "message": json_values}),
            "usage": json_values,
            "model": json_values,
        },
    )

    @given(status=st.sampled_from([200, 400, 401, 429, 500]), body=shapes)
    def test_any_json_is_a_response_or_a_typed_error(self, status: int, body: object) -> None:
        """Wrong types in known places included."""
        with contextlib.suppress(LMError):
            decode(status, body)
