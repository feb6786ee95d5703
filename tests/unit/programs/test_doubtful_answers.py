"""Answers that a careless reader takes for another value than a person would: read rightly, or refused."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.errors import ResponseUnparsable
from dspex.programs import Adapter, ChatAdapter, JSONAdapter
from dspex.programs.adapters.auto import AutoAdapter
from dspex.programs.adapters.tool import ToolAdapter
from dspex.programs.adapters.xml import XMLAdapter
from dspex.protocols.content import ToolCall
from dspex.protocols.lm import Completion
from tests.support.field_pieces import streamed

AUTO, CHAT, JSON, TOOL, XML = AutoAdapter(), ChatAdapter(), JSONAdapter(), ToolAdapter(), XMLAdapter()
TEXT = dspex.Signature.from_string("question -> answer")
WHOLE = dspex.Signature.from_string("question -> answer: int")
SHARE = dspex.Signature.from_string("question -> answer: float")
MARK = "[[ ## completed ## ]]"


class Size(pydantic.BaseModel):
    width: int
    weight: float = 0.0


SIZE = dspex.Signature.from_string("question -> answer: Size", types={"Size": Size})
SIZES = dspex.Signature.from_string("question -> answer: list[int]")
MAYBE = dspex.Signature.from_string("question -> answer: int | None")
NAMES = dspex.Signature.from_string("question -> answer: list[str]")
SURE = dspex.Signature.from_string("question -> answer: bool")
COLOUR = dspex.Signature.from_string("question -> answer: Literal['red', 'blue']", types={"Literal": Literal})
PAIR = dspex.Signature.from_string("question -> count: int, name: str")


def told(adapter: Adapter, signature: type[dspex.Signature], said: str | Completion) -> Any:
    """Return the outputs; of one the value alone."""
    outputs = adapter.parse(signature, said).outputs
    return outputs["answer"] if outputs.keys() == {"answer"} else outputs


def refused(adapter: Adapter, signature: type[dspex.Signature], said: str | Completion) -> str:
    with pytest.raises(ResponseUnparsable) as error:
        adapter.parse(signature, said)
    return "; ".join(error.value.invalid_fields.values()) or "missing"


# --- a value alone that comes in an object ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('{"answer": "Paris"}', "Paris"),
        ("{'answer': 'Paris'}", "Paris"),
        ('{answer: "Paris"}', "Paris"),
        ('{"Answer": "Paris"}', "Paris"),
        ('{"answer": "Paris",}', "Paris"),
        ('{"answer": "a\nb"}', "a\nb"),
        ('{"answer": 1.10}', "1.10"),
        ('{"answer": "a", "answer": "a"}', "a"),
        ("```json\n{'answer': 'Paris'}\n```", "Paris"),
        ("<Answer>Paris</Answer>", "Paris"),
        ("{'other': 'Paris'}", "{'other': 'Paris'}"),
        ("{answers}", "{answers}"),
    ],
)
def test_a_text_in_an_object_is_read_without_its_marks(said: str, value: str) -> None:
    assert told(AUTO, TEXT, said) == value
    assert streamed(AUTO, TEXT, said)[1] == {"answer": value}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"answer": "Paris", "answer": "Rome"}', "twice"),
        ('{"answer": "Paris"}{"answer": "Rome"}', "more behind"),
        ('{"answer": null}', "null"),
        ("{'answer': None}", "null"),
        ('{"answer": 1e999}', "too large"),
        ('{"answer": "\\frac{1}{2}"}', "backslash twice"),
        ('{"answer": "Paris", "Answer": "Rome"}', "other keys"),
        ("<answer>Paris</answer> or <answer>Rome</answer>", "one value"),
    ],
)
def test_an_object_that_says_two_things_or_none_is_no_text(said: str, why: str) -> None:
    assert why in refused(AUTO, TEXT, said)


@pytest.mark.parametrize(
    "said", ['{"answer": 5, "answer": 6}', '{"answer": 1.000}', '{"answer": "1.000"}', "{'answer': 5}{'answer': 6}"]
)
def test_an_object_that_says_two_things_is_no_number(said: str) -> None:
    assert refused(AUTO, WHOLE, said)


# --- several objects, several calls -------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [JSON, TOOL, XML, AUTO])
@pytest.mark.parametrize(
    "said",
    [
        '{"count": 1, "name": "a"}{"count": 2, "name": "b"}',
        '{"count": 1, "name": "a"}\nNo, wait: {"count": 2}',
        '{"count": 1, "name": "a"} {"name": "b"}',
        "{\"count\": 1, \"name\": \"a\"}\n{'count': 2, 'name': 'a'}",
        '{"count": 1, "name": "a"}\n{count: 2}',
        "{'count': 1, 'name': 'a'}\n{'count': 2}",
    ],
)
def test_a_second_object_that_says_something_else_is_not_ignored(adapter: Adapter, said: str) -> None:
    assert refused(adapter, PAIR, said) == "there are several objects, and they differ"


@pytest.mark.parametrize("adapter", [JSON, TOOL, AUTO])
@pytest.mark.parametrize("beside", ['{"count": 1}', '{"other": 2}', "{'count': 1}", '{"count": 1, "name": "a"}'])
def test_a_second_object_that_says_the_same_does_no_harm(adapter: Adapter, beside: str) -> None:
    assert told(adapter, PAIR, f'{{"count": 1, "name": "a"}}\n{beside}') == {"count": 1, "name": "a"}


def test_an_optional_output_in_a_second_object_is_not_lost() -> None:
    class Note(dspex.Signature):
        """Note."""

        question: str = dspex.InputField()
        count: int = dspex.OutputField()
        name: str | None = dspex.OutputField(default=None)

    assert refused(JSON, Note, '{"count": 1}\n{"name": "a"}') == "there are several objects, and they differ"
    assert told(JSON, Note, '{"count": 1}') == {"count": 1, "name": None}


def test_calls_of_the_answer_that_differ_are_refused() -> None:
    def calls(*raws: str) -> Completion:
        made = tuple(ToolCall(f"c{at}", "give_outputs", None, raw) for at, raw in enumerate(raws))
        return Completion("", "tool_calls", made)

    assert told(TOOL, WHOLE, calls('{"answer": 1}')) == 1
    assert told(TOOL, WHOLE, calls('{"answer": 1}', '{"answer": 1}')) == 1
    assert "several objects" in refused(TOOL, WHOLE, calls('{"answer": 1}', '{"answer": 2}'))


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [JSON, TOOL, AUTO])
@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (WHOLE, '"1.000"'),
        (WHOLE, "1.000"),
        (WHOLE, '"12.000.000"'),
        (MAYBE, '"1.000"'),
        (MAYBE, "1.000"),
        (SIZES, '["1.000"]'),
        (SIZES, "[1, 20.000]"),
        (SIZE, '{"width": "1.000"}'),
        (SIZE, '{"width": 1.000}'),
        (SIZE, '{"width": 1, "weight": "1e999"}'),
        (SHARE, '"1e999"'),
        (SHARE, "1e999"),
    ],
)
def test_a_number_that_may_be_another_one_is_refused_everywhere(
    adapter: Adapter, signature: type[dspex.Signature], said: str
) -> None:
    assert refused(adapter, signature, f'{{"answer": {said}}}')


@pytest.mark.parametrize("said", ["1.000", '"1.000"'])
def test_a_thousand_with_a_point_is_refused_below_headers_too(said: str) -> None:
    for signature in (WHOLE, MAYBE):
        assert "separator of thousands" in refused(CHAT, signature, f"[[ ## answer ## ]]\n{said}\n\n{MARK}")
    assert refused(XML, SIZES, "<answer>1.000</answer>")


@pytest.mark.parametrize(
    ("signature", "said", "value"),
    [
        (WHOLE, "1.0", 1),
        (WHOLE, '"1,000"', 1000),
        (WHOLE, "0.000", 0),
        (SHARE, "1.000", 1.0),
        (SHARE, '"1.000"', 1.0),
        (SHARE, "Infinity", float("inf")),
        (SIZE, '{"width": 2.0, "weight": 1.000}', Size(width=2, weight=1.0)),
    ],
)
def test_a_certain_number_is_read(signature: type[dspex.Signature], said: str, value: object) -> None:
    assert told(JSON, signature, f'{{"answer": {said}}}') == value


# --- sentences that turn round ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        *("Hardly true", "Half true", "far from true", "too good to be true", "unlikely to be true", "Probably yes"),
        *("It might be true", "if true", "The opposite of true", "Partially true", "mostly false", "wrong, it is true"),
    ],
)
def test_a_truth_that_is_taken_back_is_refused(said: str) -> None:
    assert refused(AUTO, SURE, said)


@pytest.mark.parametrize(
    "said",
    [
        *("far from red", "hardly red", "anything other than red? no", "instead of red", "red is wrong", "unless red"),
        *("the opposite of red", "avoid red", "none of red", "a mix of red", "almost red"),
    ],
)
def test_a_choice_that_is_taken_back_is_refused(said: str) -> None:
    assert refused(AUTO, COLOUR, said)


@pytest.mark.parametrize(
    "said", ["twice 5", "5 squared", "5 point 5", "between 5", "5\nWait, that is wrong: 6", "5\nActually, 6 of them"]
)
def test_a_number_that_is_scaled_or_taken_back_is_refused(said: str) -> None:
    assert refused(AUTO, WHOLE, said)


@pytest.mark.parametrize(
    ("signature", "said", "value"),
    [
        (SURE, "The statement is true.", True),
        (SURE, "No.", False),
        (COLOUR, "The colour is red.", "red"),
        (WHOLE, "5\n\nBecause 3 + 2 is that.", 5),
        (WHOLE, "I count 5 of them.", 5),
    ],
)
def test_a_plain_sentence_is_read(signature: type[dspex.Signature], said: str, value: object) -> None:
    assert told(AUTO, signature, said) == value


# --- lists between tags -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["None", "none", "N/A", '"a", "b"', "'a', 'b'"])
def test_one_element_that_may_be_none_or_several_items_is_refused(said: str) -> None:
    assert refused(XML, NAMES, f"<answer>{said}</answer>")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("<answer>a, b</answer>", ["a, b"]),
        ("<answer>('a', 'b')</answer>", ["a", "b"]),
        ('<answer>"a"</answer>', ['"a"']),
        ("<answer></answer>", []),
        ("<answer>none</answer><answer>b</answer>", ["none", "b"]),
    ],
)
def test_elements_are_items(said: str, value: list[str]) -> None:
    assert told(XML, NAMES, said) == value


# --- the mark of another form behind an answer --------------------------------------------------------------------


@pytest.mark.parametrize("said", [f"Paris\n{MARK}", f"Paris\n\n{MARK}\n", f"Paris {MARK}", f"answer: Paris\n{MARK}"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_closing_mark_is_not_part_of_a_text(said: str, size: int) -> None:
    parsed = AUTO.parse(TEXT, said)
    texts, values = streamed(AUTO, TEXT, [said[at : at + size] for at in range(0, len(said), size)])

    assert parsed.outputs == values == {"answer": "Paris"}
    assert texts == {"answer": "Paris"}
    assert [each.kind for each in parsed.repairs] == ["format"]


def test_the_closing_mark_alone_is_no_answer() -> None:
    assert refused(AUTO, TEXT, MARK) == "missing"


def test_the_closing_mark_behind_values_is_not_part_of_the_last() -> None:
    think = dspex.ChainOfThought("question -> answer: str").predict.signature

    assert AUTO.parse(think, f"So.\nanswer: Paris\n{MARK}").outputs == {"reasoning": "So.", "answer": "Paris"}


ENDS = st.sampled_from(["", "\n", " ", "\\", "\\\\", "x", MARK, f"\n{MARK}", MARK[:-1], MARK[:9], "[", "[["])


@given(st.lists(ENDS, min_size=1, max_size=6).map("".join), st.integers(1, 30))
def test_a_text_that_ends_in_the_mark_comes_back(text: str, size: int) -> None:
    wanted = text.strip()
    written = AUTO.render(TEXT._plan_).answer
    said = written(AUTO.render(TEXT._plan_), {"answer": wanted}, True)

    assert AUTO.parse(TEXT, said).outputs == {"answer": wanted}
    texts, _ = streamed(AUTO, TEXT, [said[at : at + size] for at in range(0, len(said), size)])
    assert texts.get("answer", "") == wanted
