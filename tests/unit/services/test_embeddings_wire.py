"""Texts to vectors: written-out bodies, both protocols, and how many texts make one request."""

from __future__ import annotations

import base64
import json
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import (
    AuthFailed,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
)
from dspex.protocols.lm import EmbedRequest, EmbedResponse, Usage
from dspex.protocols.wire import EmbeddingsWire
from dspex.services.lm.wires.embeddings import AzureEmbeddings, GeminiEmbeddings, OpenAIEmbeddings, join, split

WIRE = OpenAIEmbeddings()
GEMINI = GeminiEmbeddings()


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def decode(body: object, texts: int, *, status: int = 200, wire: EmbeddingsWire = WIRE) -> EmbedResponse:
    return wire.decode(status, {"x-request-id": "req_2"}, json.dumps(body).encode(), texts=texts)


def failure(body: object, texts: int = 1, *, status: int = 200, wire: EmbeddingsWire = WIRE) -> LMError:
    with pytest.raises(LMError) as caught:
        decode(body, texts, status=status, wire=wire)
    return caught.value


class TestOpenAI:
    def test_the_request(self) -> None:
        request = EmbedRequest(("Grüße", ""), dimensions=256, extra_body={"user": "u"})

        assert WIRE.encode("text-embedding-3-small", request).decode() == (
            '{"model":"text-embedding-3-small","input":["Grüße",""],"encoding_format":"base64","dimensions":256,'
            '"user":"u"}'
        )
        assert WIRE.path("m") == "/embeddings"

    def test_a_server_that_knows_numbers_only(self) -> None:
        assert json.loads(OpenAIEmbeddings(packed=False).encode("m", EmbedRequest(("a",)))) == {
            "model": "m",
            "input": ["a"],
        }

    def test_vectors_come_in_the_order_of_the_texts(self) -> None:
        """Little-endian float32, sorted by index."""
        body = {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [
                {"object": "embedding", "index": 1, "embedding": "AAAAQAAAgL8="},
                {"object": "embedding", "index": 0, "embedding": "AACAPwAAAD8="},
            ],
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        }

        expected = (array("f", [1.0, 0.5]), array("f", [2.0, -1.0]))
        assert decode(body, 2) == EmbedResponse(expected, Usage(input_tokens=5), "text-embedding-3-small")

    def test_numbers_are_read_too(self) -> None:
        """Many servers do not know base64."""
        assert decode({"data": [{"embedding": [1, 0.5]}]}, 1).vectors == (array("f", [1.0, 0.5]),)

    @pytest.mark.parametrize(
        ("data", "texts"),
        [
            ([], 1),
            ([{"embedding": [1.0]}], 2),
            ([{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}], 2),
            ([{"index": 5, "embedding": [1.0]}], 1),
            ([{"index": "0", "embedding": [1.0]}], 1),
            ([{"embedding": []}], 1),
            ([{"embedding": ""}], 1),
            ([{"embedding": "AAA="}], 1),
            ([{"embedding": "no base64!"}], 1),
            ([{"embedding": packed(float("nan"))}], 1),
            ([{"embedding": [1e300]}], 1),
            ([{"embedding": ["1"]}], 1),
            ([{"embedding": None}], 1),
            ([{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}], 2),
            ([7], 1),
            ("no", 1),
            (None, 1),
        ],
    )
    def test_anything_but_a_vector_for_each_text_is_invalid(self, data: object, texts: int) -> None:
        """A wrong vector would spoil an index without a word."""
        assert isinstance(failure({"data": data}, texts), ResponseInvalid)

    @pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"[" * 100_000])
    def test_what_is_no_object_is_invalid(self, body: bytes) -> None:
        with pytest.raises(ResponseInvalid):
            WIRE.decode(200, {}, body, texts=1)

    def test_errors_are_those_of_every_wire(self) -> None:
        assert isinstance(failure({"error": {"message": "no", "code": "rate_limit_exceeded"}}, status=429), RateLimited)
        assert isinstance(failure({"error": {"message": "no"}}, status=401), AuthFailed)
        assert isinstance(failure({"error": {"message": "no", "code": 500}}), ServerFailed)

    def test_what_is_no_json_is_rejected_unsent(self) -> None:
        with pytest.raises(RequestRejected, match="nothing was sent"):
            WIRE.encode("m", EmbedRequest(("\ud800",)))

    def test_azure_names_the_deployment_in_the_address(self) -> None:
        assert AzureEmbeddings(api_version="2024-10-21").path("e/1") == (
            "/openai/deployments/e%2F1/embeddings?api-version=2024-10-21"
        )


class TestGemini:
    def test_the_request(self) -> None:
        request = EmbedRequest(("a", "b"), dimensions=64, extra_body={"taskType": "RETRIEVAL_QUERY"})
        common = {"model": "models/gemini-embedding-001", "outputDimensionality": 64, "taskType": "RETRIEVAL_QUERY"}

        assert GEMINI.path("gemini-embedding-001") == "/models/gemini-embedding-001:batchEmbedContents"
        assert json.loads(GEMINI.encode("gemini-embedding-001", request)) == {
            "requests": [
                {"content": {"parts": [{"text": "a"}]}, **common},
                {"content": {"parts": [{"text": "b"}]}, **common},
            ]
        }

    def test_the_answer(self) -> None:
        body = {"embeddings": [{"values": [1.0, 2.0]}, {"values": [0.5, 0]}], "usageMetadata": {"promptTokenCount": 3}}

        expected = (array("f", [1.0, 2.0]), array("f", [0.5, 0.0]))
        assert decode(body, 2, wire=GEMINI) == EmbedResponse(expected, Usage(input_tokens=3), "")

    def test_a_missing_vector_is_invalid(self) -> None:
        assert isinstance(failure({"embeddings": [{"values": [1.0]}]}, 2, wire=GEMINI), ResponseInvalid)

    def test_an_error(self) -> None:
        error = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}

        assert isinstance(failure(error, status=429, wire=GEMINI), RateLimited)

    def test_errors_are_read_in_google_s_words(self) -> None:
        """A bad key is told as a mistake in the request; the wait and a used-up day are told in the details."""
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        bad_key = {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT", "details": [reason]}}
        assert isinstance(failure(bad_key, status=400, wire=GEMINI), AuthFailed)

        delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
        slow = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [delay]}}
        assert failure(slow, status=429, wire=GEMINI).retry_after == 7.0

        day = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "EmbedPerDay"}]}
        spent = {"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": [day]}}
        assert isinstance(failure(spent, status=429, wire=GEMINI), QuotaExhausted)


class TestManyTexts:
    def test_few_texts_are_one_request(self) -> None:
        request = EmbedRequest(("a", "b"), 3, {"x": 1})

        assert split(request, most_texts=2, most_bytes=2) == [request]

    def test_no_texts_are_no_request(self) -> None:
        assert split(EmbedRequest(()), most_texts=2, most_bytes=2) == []
        assert join([]) == EmbedResponse((), Usage(), "")

    def test_a_long_text_is_sent_alone_and_whole(self) -> None:
        """The provider decides if it is too long."""
        pieces = split(EmbedRequest(("a", "long one", "b", "c")), most_texts=9, most_bytes=3)

        assert [piece.texts for piece in pieces] == [("a",), ("long one",), ("b", "c")]

    @given(
        texts=st.lists(st.text(max_size=6)).map(tuple),
        most_texts=st.integers(1, 5),
        most_bytes=st.integers(1, 12),
    )
    def test_pieces_hold_every_text_once_and_keep_the_limits(
        self, texts: tuple[str, ...], most_texts: int, most_bytes: int
    ) -> None:
        pieces = split(EmbedRequest(texts, 7, {"x": 1}), most_texts=most_texts, most_bytes=most_bytes)

        assert tuple(text for piece in pieces for text in piece.texts) == texts
        for piece in pieces:
            assert (piece.dimensions, piece.extra_body) == (7, {"x": 1})
            assert 0 < len(piece.texts) <= most_texts
            assert len(piece.texts) == 1 or len("".join(piece.texts).encode()) <= most_bytes

    @given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=5))
    def test_answers_join_in_order(self, counts: list[int]) -> None:
        numbers = iter(range(100))
        answers = [
            EmbedResponse(tuple(array("f", [next(numbers)]) for _ in range(count)), Usage(count), "m")
            for count in counts
        ]

        whole = join(answers)
        assert [vector[0] for vector in whole.vectors] == list(range(sum(counts)))
        assert (whole.usage, whole.model) == (Usage(sum(counts)), "m")


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
entries = st.lists(
    st.fixed_dictionaries({}, optional={"index": json_values, "embedding": json_values, "values": json_values}),
    max_size=3,
)


@pytest.mark.parametrize("wire", [WIRE, GEMINI])
@given(
    body=st.fixed_dictionaries(
        {}, optional={"data": json_values | entries, "embeddings": entries, "usage": json_values, "error": json_values}
    ),
    texts=st.integers(0, 3),
    status=st.sampled_from([200, 400, 500]),
)
def test_any_json_is_an_answer_or_a_typed_error(wire: EmbeddingsWire, body: object, texts: int, status: int) -> None:
    """Nothing a server sends is a crash of ours, and an answer has a vector for each text."""
    try:
        response = decode(body, texts, status=status, wire=wire)
    except LMError:
        return
    assert len(response.vectors) == texts
