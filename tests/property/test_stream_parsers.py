"""However an answer is cut, its stream adds up to the same, and to what the whole answer says."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dspex.errors import ResponseUnparsable
from dspex.programs import Adapter, ChatAdapter, JSONAdapter, XMLAdapter
from dspex.programs.adapters._progress import FieldProgress
from dspex.programs.adapters._values import Codec
from dspex.programs.adapters.auto import AutoAdapter
from tests.support.field_pieces import streamed
from tests.support.field_values import LINES, SIGNATURES, TEXTS, VALUES

ADAPTERS: dict[str, Adapter] = {each.name: each for each in (ChatAdapter(), JSONAdapter(), XMLAdapter(), AutoAdapter())}
TOLD_AS_TEXT = ("str", "reasoning")
MARKS = st.sampled_from(
    [
        *(
            "[[ ## out ## ]]",
            "[[ ## other ## ]]\n",
            "\n[[ ## out ## ]]",
            "\\[[ ## out ## ]]",
            "\n\\[[ ## x ## ]]",
            "[[",
        ),
        *("<out>", "</out>", "<other >", "<\\/out>", "<", "{", '"out": ', '"other":', '"', "\\", "\\ud83d", "\\ude00"),
        *("\n", " ", "\t\n ", "5", ", ", "}", "]", "[1, ", "null", "```json\n"),
    ]
)
JUNK = st.lists(MARKS | st.text(max_size=5), max_size=12).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    """Cut a text at these places, taken as positions in it."""
    at = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]


FEWER = settings(max_examples=settings.default.max_examples // 5 if settings.default else 12)
"""For what is tried with every type and every format."""

PLACES = st.lists(st.integers(0, 2000), max_size=8)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("kind", VALUES)
@FEWER
@given(data=st.data(), places=PLACES)
def test_a_stream_ends_with_the_values_of_the_answer(
    kind: str, adapter: Adapter, data: st.DataObject, places: list[int]
) -> None:
    value = data.draw(VALUES[kind][1])
    signature = SIGNATURES[kind]
    answer = adapter.format_outputs(signature, {"other": 7, "out": value})

    texts, values = streamed(adapter, signature, cut(answer, places))

    expected = {"other": 7, "out": value}
    if kind in TOLD_AS_TEXT:
        assert texts.get("out", "") == value
        values.setdefault("out", value)  # an empty text has no pieces
    assert values == expected


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("kind", ["str", "list of str", "any object", "code", "number or text"])
@given(answer=JUNK | LINES | TEXTS, places=PLACES)
@example(answer="[[ ## out ## ]] \\[[ ## x ## ]]", places=[5, 18, 20])
@example(answer="[[ ## out ## ]] [[ ## other ## ]] 5", places=[5, 18, 20])
@example(answer='{"out": "\\ud83d\\ud83d\\ude00\\x\\u12', places=[10, 14, 17, 20, 30])
@example(answer='{"out": "a\\', places=[])
@example(answer='{"out": ["\ud800"]}', places=[])
def test_any_chunking_of_anything_is_the_same_stream(
    kind: str, adapter: Adapter, answer: str, places: list[int]
) -> None:
    signature = SIGNATURES[kind]

    whole = streamed(adapter, signature, [answer])

    assert streamed(adapter, signature, cut(answer, places)) == whole
    assert streamed(adapter, signature, list(answer)) == whole


@pytest.mark.parametrize("adapter", [ChatAdapter(), XMLAdapter()], ids=["chat", "xml"])
@given(answer=JUNK)
@example(answer="[[ ## out ## ]] \\[[ ## x ## ]]\n[[ ## other ## ]]\n5")
@example(answer="[[ ## other ## ]]\n5\n[[ ## out ## ]]\na\n  \n \\\\[[ ## x ## ]]")
@example(answer="<other>5</other><out> a <\\/out> </out> <out>b</out>")
def test_the_texts_of_a_stream_are_what_parse_finds(adapter: Adapter, answer: str) -> None:
    """Junk included: the stream and the parser of texts agree on every answer that can be read."""
    signature = SIGNATURES["str"]
    try:
        outputs = adapter.parse(signature, answer).outputs
    except ResponseUnparsable:
        return

    texts, values = streamed(adapter, signature, list(answer))

    assert texts.get("out", "") == outputs["out"]
    assert values["other"] == outputs["other"]


def test_values_so_far_grow() -> None:
    """A lone bracket at the start of a line could still become a header."""
    parser = ChatAdapter().stream_parser(SIGNATURES["list of str"])

    seen = [piece.value_so_far for chunk in ["[[ ## out ## ]]\n[", '"a', '", "b"', "]"] for piece in parser.feed(chunk)]

    assert seen == [["a"], ["a", "b"], ["a", "b"]]


def test_the_closing_mark_and_half_headers_never_leak() -> None:
    parser = ChatAdapter().stream_parser(SIGNATURES["str"])
    answer = "[[ ## out ## ]]\nAda Lovelace \n\n[[ ## completed ## ]]\n"

    texts = [piece.text for char in answer for piece in parser.feed(char)]

    assert "".join(texts) == "Ada Lovelace"


class CountingCodec(Codec):
    """Counts how often half a value is read."""

    reads = 0

    def so_far(self, text: str) -> Any:
        self.reads += 1
        return super().so_far(text)


def test_a_long_value_is_not_read_again_for_every_piece() -> None:
    """Otherwise a stream would cost the square of its answer's length."""
    codec = CountingCodec(list[str])
    progress = FieldProgress(codec)
    text = "[" + '"word", ' * 10_000

    values = [progress.add(text[start : start + 8]) for start in range(0, len(text), 8)]

    assert codec.reads < 700
    assert isinstance(values[-1], list)
    assert len(values[-1]) > 9_400


# --- answers as models write them -----------------------------------------------------------------------------

WRITTEN = st.sampled_from(
    [
        *(
            "[[ ## out ## ]]\n",
            "\n[[ ## other ## ]]\n",
            "[[ ## completed ## ]]",
            "**[[ ## out ## ]]**\n",
            "[[ ## Out ## ]]",
        ),
        *(
            "[[ ## out ## (str)]]\n",
            "[[## other ##]]",
            "[[ ## other",
            "[[ ## comp",
            " [[ ## out ## ]] ",
            "[[out]]\n",
            "- ",
        ),
        *(
            "<think>",
            "</think>",
            "<think>\n[[ ## out ## ]]\n",
            "\n</think>\n\n",
            "[THINK]",
            "[/THINK]",
            "<|im_end|>",
            "analysis",
        ),
        *(
            "<|channel|>analysis<|message|>",
            "<|end|>",
            "assistantfinal",
            "```\n",
            "\n```",
            "```json\n",
            "<answer>",
            "</answer>",
        ),
        *(
            "<out>",
            "</out>",
            "<out/>",
            '<out a="b">',
            "<OUT>",
            "\n<other>",
            "</other>",
            "&amp;",
            "&#65;",
            "&",
            "<![CDATA[",
            "]]>",
        ),
        *(
            '{"out": "',
            '", "other": 5}',
            '{"other": 5, "out": "x"}',
            "{a, b}",
            '"',
            "'",
            "\\",
            '\\"',
            "{",
            "}",
            "x",
            "5",
            "\n",
            " ",
        ),
    ]
)
MODELS = st.lists(WRITTEN | st.text(max_size=3), max_size=14).map("".join)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@given(answer=MODELS, places=PLACES)
def test_a_stream_is_never_at_odds_with_the_whole_answer(adapter: Adapter, answer: str, places: list[int]) -> None:
    """
    However it is cut, the stream is the same; where the whole answer is read, the stream has said a part of it.

    One draft it cannot know: thoughts whose opening was a part of the prompt.
    """
    signature = SIGNATURES["str"]
    texts, values = streamed(adapter, signature, cut(answer, places))

    assert (texts, values) == streamed(adapter, signature, list(answer))
    try:
        outputs = adapter.parse(signature, answer).outputs
    except ResponseUnparsable:
        return
    if "</think>" not in answer and "[/THINK]" not in answer:
        assert texts.get("out", "") == outputs["out"]
        assert values.get("other", outputs["other"]) == outputs["other"]


HOSTILE = {
    "chat": [
        "[[ ## out ## ]]\n",
        " ",
        "\n",
        "*",
        "[",
        "\\",
        "[[ ## ",
        "[[ ## zzz ## ]]\n",
        "a [[ ## other ## ]] ",
        "<think>",
        "<",
    ],
    "json": ['{"out": "', " ", '"', "\\", "{", '{"', "[", "1", '"k": 1, ', '{"k": 1} ', "\\ud83d", "</think>"],
    "xml": ["<out>", " ", "<", "&", "<out ", "<out/>", "<![CDATA[", "</other>", "&amp;", "\n<other>", "]]>"],
}


@pytest.mark.parametrize(
    ("name", "opening", "hostile"),
    [(name, opening, each) for name, (opening, *some) in HOSTILE.items() for each in some],
)
def test_the_work_of_a_stream_is_linear(name: str, opening: str, hostile: str) -> None:
    """Counted in calls: twice the text is at most two and a half times the work."""
    counts = [_steps(name, opening + hostile * (size // len(hostile))) for size in (2_000, 4_000)]

    assert counts[1] <= 2.5 * counts[0]


def _steps(name: str, text: str) -> int:
    """Return how many calls one stream takes."""
    steps = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    parser = ADAPTERS[name].stream_parser(SIGNATURES["str"])
    sys.setprofile(count)
    try:
        for char in text:
            parser.feed(char)
        parser.finish()
    finally:
        sys.setprofile(None)
    return steps
