"""The question that a cached answer belongs to, where it holds more than text."""

from __future__ import annotations

import pytest

import dspex
from dspex.protocols.cache import _prefixes, cache_key
from dspex.protocols.content import AudioPart, FilePart, ImagePart, Part, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import LMRequest, Message
from dspex.protocols.model import LM, LMParams

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def key(part: Part) -> str:
    return cache_key(LM("openai/m"), LMRequest((Message("user", (part,)),)))


def shot(detail: str) -> ToolResult:
    return ToolResult("1", "look", (ImagePart("image/png", PNG, detail=detail),))  # type: ignore[arg-type]  # a literal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ImagePart("image/png", PNG), ImagePart("image/png", PNG, detail="low")),
        (ImagePart("image/png", PNG), ImagePart("image/jpeg", PNG)),
        (ImagePart("image/png", PNG), FilePart("image/png", PNG)),
        (ImagePart("image/png", PNG), AudioPart("image/png", PNG)),
        (ImagePart("", url="http://a/1"), ImagePart("", data=b"http://a/1")),
        (FilePart("application/pdf", PNG, name="a"), FilePart("application/pdf", PNG, name="b")),
        (shot("low"), shot("high")),
        (ToolResult("1", "t", "x"), ToolResult("1", "t", "x", is_error=True)),
        (ToolResult("1", "t", "x"), ToolResult("2", "t", "x")),
        (TextPart("x"), ToolCall("1", "x", {}, "")),
    ],
)
def test_what_a_model_would_see_otherwise_is_another_question(one: Part, other: Part) -> None:
    """How closely a picture is looked at, and a file's name, are told to the model."""
    assert key(one) != key(other)


def test_a_user_s_picture_is_the_part_that_it_becomes() -> None:
    """A prompt written by hand finds the answer that a signature's field has paid for."""
    image = dspex.Image("image/png", PNG, detail="low")
    file = dspex.File("application/pdf", b"%PDF-1.7", name="a.pdf")

    assert key(image) == key(ImagePart("image/png", PNG, detail="low"))
    assert key(file) == key(FilePart(file.media_type, b"%PDF-1.7", name="a.pdf"))


def test_the_digest_kept_for_a_predictor_s_prefix_is_that_of_the_whole_question() -> None:
    """Earlier questions, of the same objects or of equal ones, change no key."""
    lm, params, system = LM("openai/m"), LMParams(temperature=0.5), Message("system", 's\u00e9\n"')

    def ask(*turns: Message, of: Message = system) -> str:
        return cache_key(lm, LMRequest((of, *turns), params))

    one, other, answer = Message("user", "1"), Message("user", "2"), Message("assistant", "a")
    keys = [ask(one), ask(other), ask(one, answer), ask(other, answer), ask(answer, one), ask(one, one)]

    assert len(set(keys)) == len(keys)
    assert [ask(one), ask(other), ask(one, answer), ask(other, answer), ask(answer, one), ask(one, one)] == keys
    assert ask(Message("user", "1"), of=Message("system", system.content)) == keys[0]
    assert cache_key(LM("openai/m"), LMRequest((system, one), LMParams(temperature=0.5))) == keys[0]
    assert ask(Message("user", (TextPart("1"),))) != keys[0]


def test_what_is_changed_in_its_place_is_another_question() -> None:
    """Arguments of a call and a provider's own parameters are the user's objects: no digest of them is kept."""
    arguments, extra = {"n": 1}, {"top_k": 1}
    turns = (
        Message("user", "q"),
        Message("assistant", (ToolCall("1", "t", arguments),)),
        Message("tool", (ToolResult("1", "t", "x"),)),
    )
    lm, params, own = LM("openai/m"), LMParams(), LMParams(extra_body=extra)
    before = [cache_key(lm, LMRequest(turns, params)), cache_key(lm, LMRequest(turns[:1], own))]
    arguments["n"] = extra["top_k"] = 2

    assert cache_key(lm, LMRequest(turns, params)) != before[0]
    assert cache_key(lm, LMRequest(turns[:1], own)) != before[1]


def test_a_prefix_is_forgotten_when_there_are_many() -> None:
    """Predictors come and go: their prefixes must not add up."""
    lm, params, turn = LM("openai/m"), LMParams(), Message("user", "q")
    systems = [Message("system", str(number)) for number in range(600)]
    keys = [cache_key(lm, LMRequest((each, turn), params)) for each in systems]

    assert [cache_key(lm, LMRequest((each, turn), params)) for each in systems] == keys
    assert len(_prefixes) <= 256
