"""Quotes of an answer are looked up in the documents of its inputs: found to the character, or not an answer."""

from __future__ import annotations

from dataclasses import dataclass

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex import App, Passage
from dspex.errors import ResponseUnparsable, SignatureError
from dspex.programs.types.quote import Sources
from dspex.retrieval import Document, Quote
from dspex.testing import ScriptedLM

PAPER = Document(
    "Ada wrote the first program.\n  It was for “the Engine” \N{EN DASH} never built.", title="Paper", id="p1"
)
LETTER = Passage("Charles designed the Engine. He asked Ada.", title="Letter")


class Quoted(dspex.Signature):
    """Answer with quotes."""

    sources: list[Document] = dspex.InputField()
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()
    quotes: list[Quote] = dspex.OutputField()


async def ask(lm: ScriptedLM, signature: type[dspex.Signature] = Quoted, **inputs: object) -> object:
    given = inputs or {"sources": [PAPER, Document(LETTER.text, LETTER.title)], "question": "Who?"}
    async with App(lm) as app:
        return await app.run(dspex.Predict(signature), **given)


def answer(*quotes: object) -> dict[str, object]:
    return {"answer": "Ada", "quotes": list(quotes)}


async def test_each_quote_has_its_place() -> None:
    lm = ScriptedLM([answer({"document": "2", "text": "He asked Ada."}, "the first program")])

    found = await ask(lm)

    assert isinstance(found, Quoted)
    assert found.quotes == [Quote("He asked Ada.", "Letter", 29, 42), Quote("the first program", "p1", 10, 27)]
    assert PAPER.quote(10, 27) == found.quotes[1]
    assert "[1] Paper | Ada wrote" in lm.requests[0].prompt


async def test_words_that_stand_nowhere_are_told_to_the_model_and_never_passed_on() -> None:
    wrong = answer("Ada wrote the second program.")
    lm = ScriptedLM([wrong, answer("Ada wrote the first program.")])

    found = await ask(lm)

    assert isinstance(found, Quoted)
    assert [each.text for each in found.quotes] == ["Ada wrote the first program."]
    assert "'Ada wrote the second program.' stands in none of the sources" in lm.requests[1].prompt

    with pytest.raises(ResponseUnparsable) as caught:
        await ask(ScriptedLM([wrong] * 4))
    assert "stands in none of the sources" in caught.value.invalid_fields["quotes"]


async def test_a_refused_answer_is_not_kept_in_the_cache() -> None:
    lm = ScriptedLM([answer("wrong"), answer("Ada"), answer("Ada")])
    async with App(lm) as app:
        for _ in range(2):
            found = await app.run(dspex.Predict(Quoted), sources=[PAPER], question="Who?")
            assert found.quotes == [Quote("Ada", "p1", 0, 3)]
    assert [each.attempt for each in lm.requests] == [1, 1, 1]


@dataclass
class Claim:
    """A statement, and the words that prove it."""

    text: str
    proof: Quote


class Verdict(pydantic.BaseModel):
    """A model of pydantic's."""

    claims: dict[str, Claim]
    best: Quote | None = None


async def test_quotes_are_found_inside_of_other_types() -> None:
    class Judge(dspex.Signature):
        """Judge."""

        passage: Passage = dspex.InputField()
        verdict: Verdict = dspex.OutputField()

    said = {"claims": {"a": {"text": "x", "proof": {"text": "designed the Engine"}}}, "best": {"text": "He"}}
    found = await ask(ScriptedLM([{"verdict": said}]), Judge, passage=LETTER)

    assert isinstance(found, Judge)
    assert found.verdict.claims["a"].proof == Quote("designed the Engine", "Letter", 8, 27)
    assert found.verdict.best == Quote("He", "Letter", 29, 31)


async def test_demonstrations_have_quotes_as_a_model_writes_them() -> None:
    async with App(ScriptedLM([answer("Ada")])) as app:
        request = app.options(trace=True).start(dspex.Predict(Quoted), sources=[PAPER], question="Who?")
        found = await request

    assert found.quotes == [Quote("Ada", "p1", 0, 3)]
    assert dspex.Predict(Quoted, demos=[{"question": "Who?", **answer(Quote("Ada", "p1"))}]).demos


def test_a_signature_needs_documents_to_quote() -> None:
    class Groundless(dspex.Signature):
        """Quote from nothing."""

        question: str = dspex.InputField()
        quotes: list[Quote] = dspex.OutputField()

    with pytest.raises(SignatureError, match="no input of documents to quote"):
        dspex.Predict(Groundless)
    assert "quote" in dspex.Predict("documents: list[Document], question -> quote: Quote").signature.fields


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ('"the Engine"', "“the Engine”"),
        ("program. It was for", "program.\n  It was for"),
        ("Engine” - never built", "Engine” \N{EN DASH} never built"),
        ("  'Ada wrote'  ", "Ada wrote"),
        ("\n", ""),
        ("ada wrote", ""),
        ("Ada … program", ""),
        ("Ada wrote the first program.  He asked Ada.", ""),
    ],
)
def test_white_space_and_the_shape_of_marks_may_differ_and_nothing_else(words: str, found: str) -> None:
    sources = Sources([[PAPER], [LETTER]])
    if not found:
        with pytest.raises(ValueError, match=r"stands in none of the sources|is empty"):
            sources.place(Quote(words))
        return
    placed = sources.place(Quote(words))
    assert placed.start is not None
    assert placed.end is not None
    assert placed.text == found == PAPER.text[placed.start : placed.end]


def test_the_named_document_goes_first() -> None:
    one, two = Passage("Same words.", title="One"), Passage("Same words.", id="2b")

    for named, where in (("1", "One"), ("One", "One"), ("[2]", "2b"), ("2b", "2b"), ("", "One"), ("no such", "One")):
        assert Sources([[one, two]]).place(Quote("Same", named)).document == where


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.data())
def test_whatever_is_placed_stands_there(texts: list[str], data: st.DataObject) -> None:
    sources = Sources([[Passage(text, id=f"d{number}") for number, text in enumerate(texts)]])
    words = data.draw(
        st.one_of(
            st.text(max_size=8),
            *[st.sampled_from([t[i:j] for i in range(len(t)) for j in range(i + 1, len(t) + 1)]) for t in texts if t],
        )
    )
    try:
        placed = sources.place(Quote(words))
    except ValueError:
        assert not words.strip() or not any(words in text for text in texts)
        return
    assert placed.text == texts[int(placed.document[1:])][placed.start : placed.end]
    if any(words in text for text in texts) and words.strip():
        assert placed.text == words


@pytest.mark.parametrize(
    "given", [1, {"words": "x"}, {"text": 1}, {"text": "x", "start": -1}, {"text": "x", "end": "1"}]
)
def test_what_is_no_quote_is_refused(given: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Quote).validate_python(given)


def test_places_survive_a_journal() -> None:
    adapter = pydantic.TypeAdapter(list[Quote])
    quotes = [Quote("Ada", "p1", 0, 3), Quote("x")]

    assert adapter.validate_json(adapter.dump_json(quotes)) == quotes
    with pytest.raises(ValueError, match="is not a span"):
        PAPER.quote(3, 3)
