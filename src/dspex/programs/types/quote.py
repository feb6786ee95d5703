"""Words of a source, and where they stand in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from dspex.protocols.retrieval import Passage

__all__ = ["Document", "Quote", "Sources", "each_quote", "with_quotes"]


@dataclass(frozen=True, slots=True)
class Quote:
    """
    Words of a document, an output: ``quotes: list[dspex.retrieval.Quote] = dspex.OutputField()``.

    The words are looked up in the documents and passages among the inputs. Words that stand in none of them
    are not an answer: the model is told, and asked again. In a prediction every quote has its place, and its text is
    the document's own, to the character.

    Attributes:
        text: The words.
        document: The id of the document; its title where it has none, and else its number among the inputs.
        start: Where the words begin in the document's text; None of a quote that was not looked up.
        end: Where they end: ``document.text[quote.start:quote.end] == quote.text``.
    """

    text: str
    document: str = ""
    start: int | None = None
    end: int | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """From an object with text, or the text alone; models are not shown places."""
        return core_schema.no_info_plain_validator_function(_read, serialization=_WRITING)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> JsonSchemaValue:
        """Return the schema of an object with ``document`` and ``text``."""
        words = {
            "document": {"type": "string", "description": "the number, id or title of the source"},
            "text": {"type": "string", "description": "words of the source, copied exactly"},
        }
        return {"type": "object", "properties": words, "required": ["document", "text"]}


def _read(given: object) -> Quote:
    if isinstance(given, Quote):
        return given
    if isinstance(given, str):
        return Quote(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise ValueError("a quote is an object with the words of the source under 'text'")
    document, start, end = given.get("document", ""), given.get("start"), given.get("end")
    if isinstance(document, int) and not isinstance(document, bool):
        document = str(document)
    for place in (start, end):
        if place is not None and (isinstance(place, bool) or not isinstance(place, int) or place < 0):
            raise ValueError(f"the place of a quote cannot be {place!r:.60}")
    return Quote(given["text"], document if isinstance(document, str) else "", start, end)


def _dump(quote: Quote, info: core_schema.SerializationInfo) -> dict[str, object]:
    found: dict[str, object] = {**({"document": quote.document} if quote.document else {}), "text": quote.text}
    if quote.start is not None and not (isinstance(info.context, dict) and info.context.get("prompt")):
        found |= {"start": quote.start, "end": quote.end}
    return found


_WRITING = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True, when_used="json")

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
Quote.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)


@dataclass(frozen=True, slots=True)
class Document(Passage):
    """
    A whole text that answers are to be taken from, an input: a Passage that no search has found.

    For example ``Document(text, title="Handbook")``. A model is shown ``title | text``, those of a list numbered.
    """

    def quote(self, start: int, end: int) -> Quote:
        """
        Return the words between two places.

        Raises:
            ValueError: They are not places in the text, in their order.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"{start} to {end} is not a span of a text of {len(self.text)} characters")
        return Quote(self.text[start:end], self.id or self.title or "1", start, end)


# --- looking quotes up ----------------------------------------------------------------------------------------


_PLAIN: Final = {
    '"': "\u201c\u201d\u201e\u201f\u00ab\u00bb",
    "'": "\u2018\u2019\u201a\u201b\u2032",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212",
}
"""Plain marks, and those that stand for the same in printed text."""
_MARKS: Final = {ord(mark): plain for plain, marks in _PLAIN.items() for mark in marks}
_AROUND: Final = "\"' \t\r\n" + "".join(marks for plain, marks in _PLAIN.items() if plain != "-")


class Sources:
    """
    The documents of one call, in which quotes are looked up.

    Args:
        documents: Lists of documents or passages, each numbered from 1, as they are shown.
    """

    def __init__(self, documents: Sequence[Sequence[Passage]]) -> None:
        self._each = [(str(number), each) for one in documents for number, each in enumerate(one, 1)]
        self._folded: dict[int, tuple[str, list[int]]] = {}

    def place(self, quote: Quote) -> Quote:
        """
        Return a quote with its place, in the words of its source.

        White space, and the shape of quotation marks and dashes, may differ from the source's; nothing else. The
        document that the quote names goes first, then all others in their order.

        Raises:
            ValueError: The words stand in no source; the message is for the model.
        """
        named = quote.document.strip().strip("[]")
        order = sorted(range(len(self._each)), key=lambda at: named not in self._names(at))
        for words in dict.fromkeys((quote.text, quote.text.strip(_AROUND))):
            if not words.strip():
                continue
            for look in (self._exactly, self._nearly):
                for at in order:
                    if (found := look(at, words)) is not None:
                        number, source = self._each[at]
                        start, end = found
                        return Quote(source.text[start:end], source.id or source.title or number, start, end)
        if not quote.text.strip():
            raise ValueError("a quote is empty: copy words of a source")
        shown = quote.text if len(quote.text) <= 120 else f"{quote.text[:120]}…"
        raise ValueError(f"{shown!r} stands in none of the sources: copy words of a source exactly, without omissions")

    def _names(self, at: int) -> tuple[str, ...]:
        number, source = self._each[at]
        return tuple(name for name in (number, source.id, source.title) if name)

    def _exactly(self, at: int, words: str) -> tuple[int, int] | None:
        start = self._each[at][1].text.find(words)
        return (start, start + len(words)) if start >= 0 else None

    def _nearly(self, at: int, words: str) -> tuple[int, int] | None:
        if at not in self._folded:
            self._folded[at] = _folded(self._each[at][1].text)
        text, places = self._folded[at]
        wanted = _folded(words)[0].strip()
        start = text.find(wanted) if wanted else -1
        return (places[start], places[start + len(wanted) - 1] + 1) if start >= 0 else None


def _folded(text: str) -> tuple[str, list[int]]:
    """Return text with each run of white space as one blank and plain marks, and the place of each character in it."""
    kept: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text.translate(_MARKS)):
        if char.isspace():
            if kept and kept[-1] == " ":
                continue
            char = " "
        kept.append(char)
        places.append(place)
    return "".join(kept), places


# --- quotes inside of values ----------------------------------------------------------------------------------


def each_quote(value: object) -> Iterator[Quote]:
    """Yield the quotes in a value: in lists, tuples, mappings, dataclasses and pydantic models, however deep."""
    found: list[Quote] = []
    with_quotes(value, lambda quote: found.append(quote) or quote)  # type: ignore[func-returns-value]
    yield from found


def with_quotes(value: Any, change: Callable[[Quote], Quote]) -> Any:  # what comes out is of the type that went in
    """Return a value in which each quote is what ``change`` makes of it; the value itself is untouched."""
    if isinstance(value, Quote):
        return change(value)
    if isinstance(value, list):
        return [with_quotes(each, change) for each in value]
    if isinstance(value, tuple):
        made = [with_quotes(each, change) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    if isinstance(value, dict):
        return {name: with_quotes(each, change) for name, each in value.items()}
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: with_quotes(getattr(value, name), change) for name in type(value).model_fields}
        )
    if is_dataclass(value) and not isinstance(value, type):
        changes = {each.name: with_quotes(getattr(value, each.name), change) for each in fields(value) if each.init}
        return replace(value, **changes)
    return value
