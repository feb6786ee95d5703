"""The question that a cached answer belongs to, where it holds more than text."""

from __future__ import annotations

import pytest

import dspex
from dspex.protocols.cache import cache_key
from dspex.protocols.content import AudioPart, FilePart, ImagePart, Part, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import LMRequest, Message
from dspex.protocols.model import LM

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
