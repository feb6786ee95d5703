"""Signatures under any names, types and edits."""

from __future__ import annotations

import builtins
import keyword
import types
from typing import Any

import pydantic
from hypothesis import assume, given
from hypothesis import strategies as st

from dspex.errors import SignatureError
from dspex.programs import Example, InputField, OutputField, Signature, render_class

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
TYPES = st.sampled_from(
    ["", "str", "int", "list[str]", "dict[str, int]", "Literal['a', \"b\"]", "float | None", "tuple[int, ...]", "Any"]
)
FIELDS = st.lists(st.tuples(NAMES, TYPES), min_size=2, max_size=6, unique_by=lambda field: field[0])
SIGNATURE_TEXTS = st.builds(
    lambda fields, at: (fields[: at % len(fields)], fields[at % len(fields) :]), FIELDS, st.integers(0, 9)
)


def spec(sides: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> str:
    return " -> ".join(", ".join(f"{name}: {type_}" if type_ else name for name, type_ in side) for side in sides)


@given(SIGNATURE_TEXTS)
def test_a_string_gives_the_fields_it_names_in_order(
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]],
) -> None:
    signature = Signature.from_string(spec(sides))

    assert [*signature.input_fields] == [name for name, _ in sides[0]]
    assert [*signature.output_fields] == [name for name, _ in sides[1]]


@given(SIGNATURE_TEXTS, st.text(st.characters(codec="utf-8"), max_size=40) | st.text(alphabet='"\\ a', max_size=8))
def test_the_printed_class_is_the_same_signature(
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]], instructions: str
) -> None:
    assume(instructions.isprintable())
    signature = Signature.from_string(spec(sides), instructions)
    dspex = types.SimpleNamespace(Signature=Signature, InputField=InputField, OutputField=OutputField)
    namespace: dict[str, Any] = {"__name__": __name__, "dspex": dspex}

    exec(render_class(signature).replace("import dspex", "", 1), namespace, namespace)

    assert namespace[signature.__name__].equals(signature)


@given(SIGNATURE_TEXTS)
def test_a_class_is_the_same_signature_however_its_annotations_are_evaluated(
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]],
) -> None:
    """At once (before Python 3.14) or when read (from then on), or as text; a string says it, too."""
    assume(not any(hasattr(builtins, name) for side in sides for name, _ in side))  # a field may hide a type
    made = [
        f"    {name}: {type_ or 'str'} = {maker}()"
        for side, maker in zip(sides, ("InputField", "OutputField"), strict=True)
        for name, type_ in side
    ]
    source = "\n".join(["from typing import *", "class Made(Signature):", *made])
    expected = Signature.from_string(spec(sides))

    for head in ("", "from __future__ import annotations\n"):
        namespace = {"__name__": __name__, "Signature": Signature, "InputField": InputField, "OutputField": OutputField}
        exec(compile(head + source, "made.py", "exec", dont_inherit=True), namespace)

        assert namespace["Made"].equals(expected)  # type: ignore[attr-defined]  # what the source defines


@given(st.text(max_size=40) | st.text(alphabet="ab,:->[]' |\n\\#()=*", max_size=24))
def test_any_text_is_a_signature_or_a_typed_error(text: str) -> None:
    try:
        signature = Signature.from_string(text)
    except SignatureError:
        return
    assert signature.output_fields


@given(SIGNATURE_TEXTS, NAMES, st.integers(0, 6), st.booleans())
def test_what_is_inserted_can_be_deleted(
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]], name: str, index: int, is_input: bool
) -> None:
    signature = Signature.from_string(spec(sides))
    assume(name not in signature.fields)

    wider = signature.insert(index, name, InputField() if is_input else OutputField(), int)

    assert wider.delete(name).equals(signature)
    side = [*(wider.input_fields if is_input else wider.output_fields)]
    assert side.index(name) == min(index, len(side) - 1)


class Record(Signature):
    text: str = InputField()
    numbers: list[int] = InputField(default_factory=list)
    answer: str | None = OutputField()


@given(st.text(), st.lists(st.integers(-(2**60), 2**60)), st.none() | st.text())
def test_records_cross_borders(text: str, numbers: list[int], answer: str | None) -> None:
    assume(all(ord(char) < 0xD800 or ord(char) > 0xDFFF for char in text + (answer or "")))
    record = Record(text=text, numbers=numbers)
    record.answer = answer
    adapter = pydantic.TypeAdapter(Record)

    assert adapter.validate_json(adapter.dump_json(record)) == record
    assert adapter.validate_python(adapter.dump_python(record)) == record


VALUES = st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2), max_leaves=3)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=4))
def test_examples_are_values(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, two = Example(first), Example(second)

    assert (one == two) == (first == second)
    assert hash(one) == hash(Example(dict(reversed(first.items()))))
    assert one.with_fields(**second).to_dict() == {**first, **second}
    assert one.without(*second).to_dict() == {name: value for name, value in first.items() if name not in second}
