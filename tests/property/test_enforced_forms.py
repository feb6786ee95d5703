"""Forms of a text that servers enforce: every answer that an adapter writes is allowed by the form that it asks for."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dspex.programs import OutputField, Signature
from dspex.programs.adapters._grammar import chat_grammar
from dspex.programs.adapters.auto import AutoAdapter, form_of
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.signature import plan_of
from dspex.protocols.lm import Capabilities
from dspex.protocols.model import LMParams
from dspex.protocols.text_shapes import Grammar, TextChoice, one_of_pattern
from dspex.simulator.dialects._choices import choices_of
from tests.property.test_stream_parsers import PLACES, cut
from tests.support.field_pieces import streamed
from tests.support.field_values import TEXTS, VALUES
from tests.support.gbnf import accepts

FEWER = settings(max_examples=settings.default.max_examples // 20 if settings.default else 3)
ABLE = Capabilities(choices=True, grammar=True)
KINDS = [each for each in VALUES if "image" not in each and each != "files"]
ALONE: dict[str, type[Signature]] = {
    name: Signature.from_string("question -> other: int").append("out", OutputField(), type_).delete("other")
    for name, (type_, _) in VALUES.items()
}
WITH_TEXT: dict[str, type[Signature]] = {name: each.append("note", OutputField(), str) for name, each in ALONE.items()}
EXACT = [each for each in KINDS if chat_grammar(plan_of(ALONE[each])) is not None]
MANY = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True)
MARKS = st.sampled_from(
    [
        "[",
        "[[",
        "[[ ##",
        "[[ ## out ## ]]",
        "\\",
        " ",
        "#",
        "a",
        "\n",
        "out:",
        "Out: 1",
        "OUT :",
        "- out: ",
        "note: ",
        "\u2003",
    ]
)
HOSTILE = st.lists(MARKS, max_size=7).map("".join).map(str.strip)
WRITTEN = st.one_of(HOSTILE, TEXTS, st.text(max_size=20)).filter(lambda text: "\x00" not in text)


@given(texts=MANY, other=st.text(max_size=12))
@example(texts=['a"b', "a\\b", "a\nb", "(x|y)", "a.b*", "^$", "-", "\u2028"], other="axb")
def test_one_of_some_texts_is_each_of_them_and_nothing_else(texts: list[str], other: str) -> None:
    form = TextChoice(tuple(texts))
    pattern = re.compile(one_of_pattern(texts))

    for text in [*texts, other]:
        assert accepts(form.gbnf, text) == (text in texts)
        assert (pattern.fullmatch(text) is not None) == (text in texts)
    if not any(each in text for text in texts for each in ("\x00", "\x85")):
        assert choices_of({"grammar": form.gbnf}) == form.texts
    assert choices_of({"structured_outputs": {"choice": texts}}) == form.texts
    assert choices_of({"regex": one_of_pattern(texts)}) == form.texts


@pytest.mark.parametrize("kind", EXACT)
@FEWER
@given(data=st.data(), note=WRITTEN)
def test_the_chat_grammar_allows_what_the_chat_format_writes(kind: str, data: st.DataObject, note: str) -> None:
    value = data.draw(VALUES[kind][1])
    for signature, outputs in ((ALONE[kind], {"out": value}), (WITH_TEXT[kind], {"out": value, "note": note})):
        grammar = chat_grammar(plan_of(signature))
        written = ChatAdapter().format_outputs(signature, outputs)
        assert grammar is not None
        assert "\x00" in written or accepts(grammar.gbnf, written)


@pytest.mark.parametrize("kind", [*EXACT, "str"])
@FEWER
@given(data=st.data(), note=WRITTEN, places=PLACES)
def test_an_answer_that_ended_at_its_mark_is_whole(
    kind: str, data: st.DataObject, note: str, places: list[int]
) -> None:
    """Servers leave the stop sequence out; no value holds one, so that none is cut off."""
    outputs = {"out": data.draw(VALUES[kind][1]), "note": note.strip()}
    written = ChatAdapter().format_outputs(WITH_TEXT[kind], outputs)
    params = ChatAdapter().request(WITH_TEXT[kind], (), LMParams(), Capabilities(stop=True)).params

    (stop,) = params.stop
    assert written.find(stop) == len(written) - len(stop)
    said = written.removesuffix(stop)
    parsed = ChatAdapter().parse(WITH_TEXT[kind], said)
    assert (parsed.outputs, parsed.repairs) == (outputs, ())
    _, values = streamed(ChatAdapter(), WITH_TEXT[kind], cut(said, places))
    assert {**outputs, **values} == outputs


@pytest.mark.parametrize("kind", [each for each in KINDS if form_of(plan_of(ALONE[each])) == "value"])
@FEWER
@given(data=st.data())
def test_a_value_alone_is_allowed_by_its_form(kind: str, data: st.DataObject) -> None:
    signature, value = ALONE[kind], data.draw(VALUES[kind][1])
    form = AutoAdapter().request(signature, (), LMParams(), ABLE).output
    written = AutoAdapter().format_outputs(signature, {"out": value})

    assert form is None or isinstance(form, (TextChoice, Grammar))
    assert form is None or accepts(form.gbnf, written)


def grammar_of(text: str, types: dict[str, Any] | None = None) -> str:
    found = chat_grammar(plan_of(Signature.from_string(text, types=types or {})))
    assert found is not None
    return found.gbnf


def test_a_grammar_keeps_wrong_values_out() -> None:
    grammar = grammar_of("q -> size: int, kind: Literal['a', 'b'], sure: bool, tags: list[str]")
    right = (
        "[[ ## size ## ]]\n-12\n\n[[ ## kind ## ]]\nb\n\n[[ ## sure ## ]]\nTrue\n\n"
        '[[ ## tags ## ]]\n["x", "y"]\n\n[[ ## completed ## ]]'
    )

    assert accepts(grammar, right)
    for old, new in (
        ("-12", "1.5"),
        ("\nb\n", "\nc\n"),
        ("True", "yes"),
        ('"y"]', '"y"'),
        ("size", "sizes"),
        ("\n\n", "\n"),
    ):
        assert not accepts(grammar, right.replace(old, new)), (old, new)
    assert not accepts(grammar, f"Sure! {right}")


def test_a_text_holds_no_mark_that_is_not_one() -> None:
    """Small models copy a header wrongly: one that they begin they have to end as it should be."""
    grammar = grammar_of("q -> why, sure: bool")

    assert accepts(grammar, "[[ ## why ## ]]\nSo [1] and [[2]].\n\n[[ ## sure ## ]]\nTrue\n\n[[ ## completed ## ]]")
    assert not accepts(
        grammar, "[[ ## why ## ]]\nSo.\n\n[[ ## sure ## ]] True\n\n[[ ## sure ## ]]\nTrue\n\n[[ ## completed ## ]]"
    )


def test_a_field_with_a_default_may_be_left_out() -> None:
    signature = Signature.from_string("q -> size: int").append("more", OutputField(default=3), int)
    grammar = chat_grammar(plan_of(signature))

    assert grammar is not None
    assert accepts(grammar.gbnf, "[[ ## size ## ]]\n1\n\n[[ ## completed ## ]]")
    assert accepts(grammar.gbnf, "[[ ## size ## ]]\n1\n\n[[ ## more ## ]]\n2\n\n[[ ## completed ## ]]")


def test_texts_alone_need_no_grammar() -> None:
    assert chat_grammar(plan_of(Signature.from_string("q -> a, b"))) is None


def test_more_choices_than_a_server_can_bear_are_left_to_the_words_of_the_prompt() -> None:
    """The prompt names them all; no request grows by a grammar of them, and a form made by hand is refused."""
    many = Literal.__getitem__(tuple(f"choice {number}" for number in range(10_000)))
    alone = Signature.from_string("q -> a: Many", types={"Many": many})

    assert AutoAdapter().request(alone, (), LMParams(), ABLE).output is None
    assert chat_grammar(plan_of(alone)) is None
    with pytest.raises(ValueError, match=r"10,000 texts with .* cannot be enforced: at most 1,000"):
        TextChoice(tuple(f"{number}" for number in range(10_000)))
    with pytest.raises(ValueError, match="one of several texts"):
        TextChoice(("a", "a"))
    with pytest.raises(ValueError, match="a rule of the name root"):
        Grammar('answer ::= "a"')
    with pytest.raises(ValueError, match="at most 65,536"):
        Grammar("root ::= " + '"a" ' * 20_000)


@pytest.mark.parametrize(
    ("params", "able"),
    [
        (LMParams(), Capabilities()),
        (LMParams(reasoning="low"), ABLE),
        (LMParams(), Capabilities(choices=True, grammar=True, reasoning=True)),
    ],
)
def test_a_model_that_thinks_first_is_not_kept_from_it(params: LMParams, able: Capabilities) -> None:
    signature = Signature.from_string("q -> a: bool")

    assert AutoAdapter().request(signature, (), params, able).output is None
    assert ChatAdapter().request(signature, (), params, able).output is None


def test_stop_sequences_of_the_user_stay() -> None:
    able, ask = Capabilities(stop=True), Signature.from_string("q -> a")

    assert ChatAdapter().request(ask, (), LMParams(stop=("x",)), able).params.stop == ("x", "\n[[ ## completed ## ]]")
    assert ChatAdapter().request(ask, (), LMParams(stop=tuple("abcd")), able).params.stop == tuple("abcd")
    assert ChatAdapter().request(ask, (), LMParams(reasoning="low"), able).params.stop == ()
    assert ChatAdapter().request(ask, (), LMParams(), Capabilities()).params.stop == ()
