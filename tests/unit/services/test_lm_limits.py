"""Limits of the user, the models that they hold for, and the expected tokens of a call."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dspex.errors import AuthFailed, ConfigError, QuotaExhausted, RequestRejected, ServerFailed
from dspex.protocols.content import AudioPart, FilePart, ImagePart, TextPart, ToolResult
from dspex.protocols.lm import LMRequest, Message
from dspex.protocols.model import LMParams
from dspex.services.lm.estimate import TokenEstimate, estimate
from dspex.services.lm.limits import ClientLimits, LimitsBook
from dspex.services.lm.retry import Raise, RetryAfter, RetryPolicy, Verdict, reworded


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_in_flight": 0},
        {"max_in_flight": 2.5},
        {"max_in_flight": True},
        {"rpm": 0},
        {"tpm": -1},
        {"tpm": math.nan},
        {"rpm": math.inf},
        {"retry": 3},
        {"retry_share": -0.1},
        {"retry_reserve": math.inf},
    ],
)
def test_limits_that_make_no_sense_are_refused_when_they_are_made(wrong: dict[str, Any]) -> None:
    """The message names the field."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClientLimits(**wrong)


def test_the_closest_name_counts() -> None:
    """Model, provider, the rest."""
    one, two, three = ClientLimits(max_in_flight=1), ClientLimits(max_in_flight=2), ClientLimits(max_in_flight=3)
    book = LimitsBook({"openai/gpt-5": one, "openai/*": two, "*": three})

    assert [book.of(*each) for each in [("openai", "gpt-5"), ("openai", "o4"), ("groq", "x")]] == [one, two, three]
    assert LimitsBook({"openai/gpt-5": one}).of("openai", "o4") == LimitsBook(None).of("groq", "x") == ClientLimits()


class TestEstimate:
    def of(self, *parts: Any, body: int = 400, **params: Any) -> TokenEstimate:
        size = body + sum(len(each.base64) for each in parts if hasattr(each, "base64"))
        return estimate(LMRequest((Message("user", parts or "hello"),), LMParams(**params)), b"x" * size)

    def test_text_is_a_quarter_of_its_bytes(self) -> None:
        """And the answer what the call allows, for every answer it wants."""
        assert self.of() == TokenEstimate(100, None)
        assert self.of(max_tokens=50, n=3) == TokenEstimate(100, 150)
        assert self.of(body=1).prompt == 1

    @pytest.mark.parametrize(("detail", "tokens"), [("low", 85), (None, 765), ("high", 1105)])
    def test_an_image_costs_what_its_detail_does_not_its_bytes(self, detail: Any, tokens: int) -> None:
        """Base64 in the body is not text."""
        image = ImagePart("image/png", b"\0" * 300_000, detail=detail)

        assert self.of(TextPart("look"), image).prompt == 100 + tokens

    def test_images_in_results_of_tools_count_too(self) -> None:
        """They travel in the same body."""
        image = ImagePart("image/png", url="https://pictures.example/cat.png")

        assert self.of(ToolResult("1", "look", (image, TextPart("a cat")))).prompt == 865

    def test_sound_and_documents_go_by_their_size(self) -> None:
        """Roughly: what they take is known when the answer is there."""
        assert self.of(AudioPart("audio/wav", b"\0" * 160_000)).prompt == 200
        assert self.of(FilePart("application/pdf", b"\0" * 45_000)).prompt == 1600


class TestShouldRetry:
    def judge(self, error: Any) -> Verdict:
        return RetryPolicy().judge(error, 1, now=0.0, deadline=100.0, rand=lambda: 0.5)

    def test_a_provider_that_says_no_is_believed(self) -> None:
        """``x-should-retry: false`` on a 500."""
        error = ServerFailed("x", status=500, should_retry=False)

        assert self.judge(error) == Raise(error, "told not to")

    def test_a_provider_that_says_yes_is_believed(self) -> None:
        """``x-should-retry: true`` on what would be final."""
        assert isinstance(self.judge(RequestRejected("x", status=400, should_retry=True)), RetryAfter)

    @pytest.mark.parametrize("kind", [AuthFailed, QuotaExhausted])
    def test_nobody_can_make_us_knock_with_a_refused_key(self, kind: Any) -> None:
        """It cannot get better by itself."""
        assert isinstance(self.judge(kind("x", should_retry=True)), Raise)


def test_a_reworded_error_is_the_same_in_everything_but_its_words() -> None:
    """Also its cause; the traceback stays with the original."""
    error = QuotaExhausted("no credit", status=429, code="insufficient_quota", request_id="r1", retry_after=3.0)
    try:
        raise error from ValueError("why")
    except QuotaExhausted:
        other = reworded(error, " left")

    assert type(other) is QuotaExhausted
    assert str(other) == "no credit left"
    assert (other.status, other.code, other.request_id, other.retry_after) == (429, "insufficient_quota", "r1", 3.0)
    assert other.__traceback__ is None
    assert isinstance(other.__cause__, ValueError)
