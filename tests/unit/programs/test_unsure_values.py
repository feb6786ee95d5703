"""Values that could be read in two ways are asked for again, never chosen in silence."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

import dspex
from dspex.programs.adapters.auto import AutoAdapter

CHAT, AUTO = dspex.ChatAdapter(), AutoAdapter()


class Item(BaseModel):
    name: str
    size: int
    tags: list[str] = []


def asked(annotation: object) -> type[dspex.Signature]:
    return dspex.Signature.from_string("q -> x: T", types={"T": annotation})


def read(annotation: object, text: str) -> Any:
    return CHAT.parse(asked(annotation), f"[[ ## x ## ]]\n{text}\n\n[[ ## completed ## ]]").outputs["x"]


UNSURE: list[tuple[object, str]] = [
    (int, "1.000"),
    (int, "-12.000.000"),
    (list[int], "[1,000, 2]"),
    (list[int], "[12,050]"),
    (list[str], '["a""b"]'),
    (list[str], '["say ""hi"" now", "b"]'),
    (Item, '{"name": "a", "size": 1,000}'),
    (Item, '{"name": "a", "size": 5, "tags": ["b""c"]}'),
    (Item, '{"name": NaN, "size": 5}'),
]


@pytest.mark.parametrize(("annotation", "text"), UNSURE, ids=[text for _, text in UNSURE])
def test_a_person_could_read_it_in_two_ways(annotation: object, text: str) -> None:
    with pytest.raises(dspex.ResponseUnparsable):
        read(annotation, text)


SURE: list[tuple[object, str, object]] = [
    (int, "12.0", 12),
    (int, "1,000", 1_000),
    (list[int], "[1, 000]", [1, 0]),
    (list[int], "['7', 8]", [7, 8]),
    (list[str], """['x = "" and y', 'b']""", ['x = "" and y', "b"]),
    (Item, """{"name": "f"a{b}"", "size": 5}""", Item(name='f"a{b}"', size=5)),
    (Item, "{name: inf, size: 5}", "refused"),
    (float, "nan", "a number"),
]


@pytest.mark.parametrize(("annotation", "text", "value"), SURE, ids=[text for _, text, _ in SURE])
def test_what_is_like_it_and_sure_is_read(annotation: object, text: str, value: object) -> None:
    if value == "refused":
        with pytest.raises(dspex.ResponseUnparsable):
            read(annotation, text)
    elif value == "a number":
        assert isinstance(read(annotation, text), float)
    else:
        assert read(annotation, text) == value


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (float, "50 %", None),
        (float, "12.5%", None),
        (int, "50 %", 50),
        (bool, "false positive", None),
        (bool, "no problem", None),
        (bool, "No, because it rains", False),
        (bool, "the answer is **true**.", True),
        (Literal["yes", "no"], "no problem", None),
        (Literal["yes", "no"], "Yes - it is.", "yes"),
        (Literal["none", "some"], "none of the others", None),
        (Literal["low", "high"], "high risk", "high"),
    ],
)
def test_a_value_in_a_short_sentence(annotation: object, text: str, value: object) -> None:
    if value is None:
        with pytest.raises(dspex.ResponseUnparsable):
            AUTO.parse(asked(annotation), text)
    else:
        assert AUTO.parse(asked(annotation), text).outputs == {"x": value}
