"""Objects, numbers and escapes of an answer are read as they are written, or they are asked for again."""

from __future__ import annotations

import decimal
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

import dspex
from dspex.programs.adapters._exact_json import ExactFloat, exact_json

D = decimal.Decimal


class Release(BaseModel):
    version: str
    price: D = D(0)


def read(adapter: dspex.ChatAdapter | dspex.JSONAdapter | dspex.XMLAdapter, annotation: object, value: str) -> object:
    signature = dspex.Signature.from_string("question -> v: T", types={"T": annotation})
    form = {"chat": "[[ ## v ## ]]\n{}\n\n[[ ## completed ## ]]", "json": '{{"v": {}}}', "xml": "<v>{}</v>"}
    found = adapter.parse(signature, form[adapter.name].format(value)).outputs["v"]
    assert not isinstance(found, ExactFloat)
    return found


ADAPTERS = [dspex.ChatAdapter(), dspex.JSONAdapter(), dspex.XMLAdapter()]
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda each: str(each.name))


@every_adapter
@pytest.mark.parametrize(
    ("annotation", "value", "wanted"),
    [
        (list[str], "[1.10, 3.0, 1e3]", ["1.10", "3.0", "1e3"]),
        (dict[str, str], '{"a": 2.50}', {"a": "2.50"}),
        (Release, '{"version": 3.10, "price": 0.10}', Release(version="3.10", price=D("0.10"))),
        (D, "1.10", D("1.10")),
        (D, "0.30000000000000000004", D("0.30000000000000000004")),
        (list[D], "[1.10]", [D("1.10")]),
        (list[float], "[1.10]", [1.1]),
        (dict[str, Any], '{"a": 1.10, "b": [2.0]}', {"a": 1.1, "b": [2.0]}),
    ],
)
def test_numbers_keep_their_digits_where_the_type_has_them(
    adapter: dspex.ChatAdapter, annotation: object, value: str, wanted: object
) -> None:
    found = read(adapter, annotation, value)
    assert found == wanted
    assert str(found) == str(wanted)  # 1.1 and 1.10 are equal decimals


def test_a_number_for_a_text_is_as_it_is_written() -> None:
    assert read(dspex.JSONAdapter(), str, "1.10") == "1.10"
    assert read(dspex.JSONAdapter(), str | None, "1.10") == "1.10"
    assert type(read(dspex.JSONAdapter(), float, "1.10")) is float


@every_adapter
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[str, int], '{"a": 1, "a": 2}'),
        (list[dict[str, int]], '[{"a": 1, "a": 2}]'),
        (Release, '{"version": "1", "version": "2"}'),
        (Any, '{"a": {"b": 1, "b": 2}}'),
        (list[float], "[1e400]"),
        (float, "1e400"),
        (dict[str, Any], '{"a": undefined}'),
    ],
)
def test_what_would_be_lost_is_asked_for_again(adapter: dspex.ChatAdapter, annotation: object, value: str) -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(adapter, annotation, value)


@every_adapter
def test_a_key_that_is_there_twice_with_one_value_is_no_loss(adapter: dspex.ChatAdapter) -> None:
    assert read(adapter, dict[str, int], '{"a": 1, "a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    "value",
    [
        r'"C:\users\new"',  # a newline, or a folder
        r'"\alpha and \beta"',
        r'"\d+\tab"',
        '"a" + "b"',
    ],
)
def test_texts_that_could_mean_two_things_are_asked_for_again(value: str) -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(dspex.JSONAdapter(), str, value)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (r'"C:\path\data"', r"C:\path\data"),
        (r'"\d+\.\w"', r"\d+\.\w"),
        (r'"50\% of\n\n20"', "50\\% of\n\n20"),
        (r'"C:\\new\data"', r"C:\new\data"),
        (r'"\ud83d"', "\ufffd"),
    ],
)
def test_escapes_with_one_meaning_are_read(value: str, wanted: str) -> None:
    assert read(dspex.JSONAdapter(), str, value) == wanted


LATEX = [
    r"\frac{1}{2}",
    r"x \times y",
    r"\theta",
    r"\beta + 1",
    r"\rho",
    r"\nabla f",
    r"\text{so}",
    r"\bword",
    r"a\right)",
]


@pytest.mark.parametrize("adapter", [dspex.JSONAdapter(), dspex.ToolAdapter()], ids=lambda each: each.name)
@pytest.mark.parametrize("latex", LATEX)
def test_a_command_is_not_read_as_a_control_character(adapter: Any, latex: str) -> None:
    """One backslash before it is JSON, and not what was meant; with two it is read, and in prose it is no matter."""
    signature = dspex.Signature.from_string("q -> answer, more: list[str]")
    for text in (f'{{"answer": "{latex}", "more": []}}', f'{{"answer": "x", "more": ["{latex}"]}}'):
        with pytest.raises(dspex.ResponseUnparsable, match="backslash twice"):
            adapter.parse(signature, text)
        parser = adapter.stream_parser(signature)
        pieces = [piece for letter in text for piece in parser.feed(letter)] + parser.finish()
        assert not any(set(piece.text) & set("\b\f") for piece in pieces)
    twice = latex.replace("\\", "\\\\")
    for before in ("", f"With ${latex}$ it is\n"):
        found = adapter.parse(signature, f'{before}{{"answer": "{twice}", "more": ["{twice}"]}}').outputs
        assert found == {"answer": latex, "more": [latex]}


@pytest.mark.parametrize("latex", LATEX)
def test_nor_in_the_json_of_one_value(latex: str) -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(dspex.ChatAdapter(), list[str], f'["{latex}"]')
    assert read(dspex.ChatAdapter(), str, latex) == latex


@pytest.mark.parametrize(
    "text", ["a\nb", "a\n\ttimes", "one\r\ntwo", "next\nnot this", "a\tb", "\x0cb", "\x08beta", "x\x0c"]
)
def test_control_characters_that_are_meant_stay(text: str) -> None:
    signature = dspex.Signature.from_string("q -> answer, more: list[str]")
    outputs = {"answer": text.strip(), "more": [text]}
    for adapter in (dspex.JSONAdapter(), dspex.ToolAdapter(), dspex.ChatAdapter(), dspex.XMLAdapter()):
        assert adapter.parse(signature, adapter.format_outputs(signature, outputs)).outputs == outputs


def test_two_lists_in_prose_are_not_one() -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(dspex.ChatAdapter(), list[str], 'Here: ["a"]\nand ["b"]')
    assert read(dspex.ChatAdapter(), list[str], 'Here: ["a"]\nas said, ["a"]') == ["a"]


def test_numbers_leave_the_process_as_plain_ones() -> None:
    found = pickle.loads(pickle.dumps(exact_json("[1.10]")))
    assert type(found[0]) is float


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@given(JSON_VALUES)
def test_json_is_read_as_others_read_it(value: object) -> None:
    text = json.dumps(value)
    assert exact_json(text) == json.loads(text.encode("utf-8", "replace"))


class Looked(BaseModel):
    code: str

    @field_validator("code")
    @classmethod
    def look_up(cls, code: str) -> str:
        return {"a": "Ada"}[code]


@every_adapter
def test_a_validator_that_raises_anything_is_a_reason_to_ask_again(adapter: dspex.ChatAdapter) -> None:
    assert read(adapter, Looked, '{"code": "a"}') == Looked(code="a")
    with pytest.raises(dspex.ResponseUnparsable, match="KeyError: 'b'"):
        read(adapter, Looked, '{"code": "b"}')


def test_a_validator_of_a_tool_that_raises_anything_is_told() -> None:
    def find(given: Looked) -> str:
        """Find."""
        return given.code

    with pytest.raises(dspex.ToolArgumentsInvalid, match="KeyError: 'b'"):
        dspex.tool(find).check({"given": {"code": "b"}})


@every_adapter
@pytest.mark.parametrize("annotation", [int, float])
def test_a_truth_value_is_not_a_number(adapter: dspex.ChatAdapter, annotation: type) -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(adapter, annotation, "true")
