"""The form that asks least: one value alone, or thoughts and then lines; whatever is written is read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dspex.errors import ResponseUnparsable
from dspex.programs import OutputField, Signature
from dspex.programs.adapters._labels import escape_labels, find_labels, unescape_labels
from dspex.programs.adapters._thoughts import _CLOSES_ANY, _OPENS
from dspex.programs.adapters.auto import AutoAdapter, form_of
from dspex.programs.signature import plan_of
from tests.property.test_stream_parsers import PLACES, TOLD_AS_TEXT, cut
from tests.support.field_pieces import streamed
from tests.support.field_values import TEXTS, VALUES

AUTO = AutoAdapter()
FEWER = settings(max_examples=settings.default.max_examples // 5 if settings.default else 12)
LABELS = st.sampled_from(
    [
        "out: ",
        "[[ ## out ## ]]",
        '{"out": "x"}',
        '{ "out":',
        "\\boxed{7}",
        "x \\boxed{8}",
        "**Out:** 7",
        "- out:",
        "\\out: x",
        "### OUT : y",
        "a_b: 1",
        "A b: 2",
        "out",
        ":",
        "*",
        "[[ ## completed ## ]]",
    ]
)
HOSTILE = st.lists(st.one_of(LABELS, st.text(max_size=8), TEXTS), max_size=5).map("\n".join).map(str.strip)


def has_thoughts(text: str) -> bool:
    """Tell of a text with the marks that models put around their own thoughts: nothing tells it from those."""
    return _OPENS.search(text) is not None or _CLOSES_ANY.search(text) is not None


KINDS = [each for each in VALUES if "image" not in each and each != "files"]
"""Media are written alike in every form: the tests of all adapters have them."""
ALONE: dict[str, type[Signature]] = {
    name: Signature.from_string("question -> other: int").append("out", OutputField(), type_).delete("other")
    for name, (type_, _) in VALUES.items()
}
THINKING: dict[str, type[Signature]] = {name: each.prepend("reasoning", OutputField()) for name, each in ALONE.items()}
TWO = THINKING["str"].append("a_b", OutputField(), int)


@pytest.mark.parametrize("kind", KINDS)
@FEWER
@given(data=st.data(), places=PLACES)
def test_one_output_is_read_back_and_streams_to_the_same(kind: str, data: st.DataObject, places: list[int]) -> None:
    value = data.draw(VALUES[kind][1])
    written = AUTO.format_outputs(ALONE[kind], {"out": value})
    assume(not has_thoughts(written))

    parsed = AUTO.parse(ALONE[kind], written)

    assert parsed.outputs == {"out": value}
    assert type(parsed.outputs["out"]) is type(value)
    assert parsed.repairs == ()
    texts, values = streamed(AUTO, ALONE[kind], cut(written, places))
    if kind in TOLD_AS_TEXT:
        assert texts.get("out", "") == value
        values.setdefault("out", value)
    assert values == {"out": value}


@pytest.mark.parametrize("kind", KINDS)
@FEWER
@given(data=st.data(), thoughts=HOSTILE, places=PLACES)
def test_thoughts_and_a_line_are_read_back(kind: str, data: st.DataObject, thoughts: str, places: list[int]) -> None:
    value = data.draw(VALUES[kind][1])
    outputs = {"reasoning": thoughts, "out": value}
    written = AUTO.format_outputs(THINKING[kind], outputs)
    assume(not has_thoughts(written))

    assert AUTO.parse(THINKING[kind], written).outputs == outputs
    texts, values = streamed(AUTO, THINKING[kind], cut(written, places))
    assert texts.get("reasoning", "") == thoughts
    assert {"reasoning": thoughts, **values} == outputs


@given(thoughts=HOSTILE, out=HOSTILE, number=st.integers())
@example(thoughts="out: 1", out="a_b: 2\nout: 3", number=4)
@example(thoughts="", out="", number=0)
def test_no_text_can_forge_a_line(thoughts: str, out: str, number: int) -> None:
    outputs = {"reasoning": thoughts, "out": out, "a_b": number}
    written = AUTO.format_outputs(TWO, outputs)
    assume(not has_thoughts(written))

    assert AUTO.parse(TWO, written).outputs == outputs


@given(out=HOSTILE)
@example(out="out: out: x")
@example(out="- Out: x")
@example(out="[[ ## completed ## ]]")
def test_a_text_alone_may_begin_with_its_own_name(out: str) -> None:
    written = AUTO.format_outputs(ALONE["str"], {"out": out})
    assume(not has_thoughts(written))

    assert AUTO.parse(ALONE["str"], written).outputs == {"out": out}


@pytest.mark.parametrize("text", ["<", "<think", "[", "\u25c1th"])
def test_a_text_that_could_have_become_thoughts_is_told_at_its_end(text: str) -> None:
    assert AUTO.parse(ALONE["str"], text).outputs == {"out": text}
    assert streamed(AUTO, ALONE["str"], list(text)) == ({"out": text}, {"out": text})


@pytest.mark.parametrize("signature", [*ALONE.values(), *THINKING.values()])
@FEWER
@given(junk=HOSTILE, places=PLACES)
def test_any_answer_is_read_or_refused_and_streams_to_what_is_read(
    signature: type[Signature], junk: str, places: list[int]
) -> None:
    try:
        outputs: dict[str, Any] = AUTO.parse(signature, junk).outputs
    except ResponseUnparsable:
        outputs = {}
    texts, _ = streamed(AUTO, signature, cut(junk, places))
    whole, _ = streamed(AUTO, signature, [junk])

    assert texts == whole
    if outputs and form_of(plan_of(signature)) != "object":
        assert texts.get("reasoning", "") == outputs.get("reasoning", "")


@given(text=HOSTILE)
def test_escaping_hides_every_label_and_is_undone(text: str) -> None:
    names = ["out", "a_b"]

    assert not find_labels(names, escape_labels(names, text))
    assert unescape_labels(names, escape_labels(names, text)) == text
