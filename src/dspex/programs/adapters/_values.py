"""
Values to text and back: one codec per field, made once when its signature is compiled.

``read(write(value)) == value`` for every value of the field's type, with one rule: white space around a ``str``
is not part of it, because models put blank lines around what they write. Reading is a ladder: the text as it is
(JSON, or plain text where the type takes it), then repaired JSON, then a Python literal; whoever reads is told
which rung held, so that no repair goes unnoticed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic import Field as PydanticField
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json

from dspex.errors import SignatureError
from dspex.programs.adapters._choices import Choices
from dspex.programs.adapters._exact_json import DoubleKey, ExactFloat, exact_json, refuse_losses, without_texts
from dspex.programs.adapters._forgive import (
    aliases_agree,
    forgiven,
    has_dates,
    may_be_doubtful,
    refuse_doubts,
    refuse_swaps,
)
from dspex.programs.adapters._marks import without_marks
from dspex.programs.adapters._plain_json import in_order, unmistakable
from dspex.programs.adapters._repair import Reading, checked, describe, led, repaired
from dspex.programs.adapters._types import (
    Annotation,
    allows_none,
    literal_values,
    plain_type,
    type_text,
    unaliased,
    without_none,
)
from dspex.programs.types.field_type import FieldType, PartCollector
from dspex.programs.types.quote import Document
from dspex.protocols.content import Part
from dspex.protocols.json_values import JsonDict
from dspex.protocols.retrieval import Passage

__all__ = [
    "UNTYPED",
    "Codec",
    "Content",
    "FieldTypeCodec",
    "TextCodec",
    "UntypedCodec",
    "any_codec",
    "make_codec",
    "numbered",
]

Content = str | tuple[Part, ...]
"""The text for a value in a user's turn."""

UNTYPED: object = object()
"""The annotation of a field that was given none."""
NONE_WORDS = frozenset({"None", "null", "NULL", "Null"})
"""Texts that are None wherever None is a value, although a text could be one too."""


class Codec:
    """
    Checks, writes and reads the values of one annotation; this class itself does so through JSON.

    Attributes:
        annotation: The type, constraints included.
        exact: Values of exactly this class need no check.
        in_words: The form of a value, for a prompt; empty when the type's name says it all.
    """

    __slots__ = ("_adapter", "_by_alias", "_with_infinity", "annotation", "exact", "in_words")

    streams_text = False
    """True when a stream of it is the text itself, white space around it left out."""

    def __init__(self, annotation: object, *, exact: type | None = None, in_words: str = "") -> None:
        self.annotation = annotation
        self.exact = exact
        self.in_words = in_words
        self._adapter: TypeAdapter[object] | None = None
        self._by_alias: bool | None = None
        self._with_infinity: TypeAdapter[object] | None = None

    @property
    def by_alias(self) -> bool:
        """True when values are written with the names of aliases: wherever those are also the names that are read."""
        if self._by_alias is None:
            self._by_alias = aliases_agree(self.annotation)
        return self._by_alias

    @property
    def adapter(self) -> TypeAdapter[object]:
        """The annotation's pydantic adapter, built when first needed and kept."""
        adapter = self._adapter
        if adapter is None:
            adapter = self._adapter = _type_adapter(self.annotation)
        return adapter

    def schema(self) -> JsonDict:
        """Return the JSON schema, with the names that are written; empty where the type has none."""
        try:
            return self.adapter.json_schema(by_alias=self.by_alias)
        except PydanticUserError:
            return {}

    def check(self, value: object) -> object:
        """
        Return ``value`` as the field's type, converting what pydantic's lax mode converts.

        Raises:
            ValueError: It is not of the type; pydantic's ValidationError says where.
        """
        return self.adapter.validate_python(value, by_alias=True, by_name=True)

    def write(self, value: object) -> str:
        """
        Return the text of a value.

        Raises:
            ValueError: The value has no JSON form.
        """
        return self._bare(self.write_json(value), value)

    def content(self, value: object) -> Content:
        """
        Return what stands for a value in a user's turn: its text, with the media inside it at their places.

        Raises:
            ValueError: The value has no JSON form.
        """
        collector = PartCollector()
        text = self.write_json(value, collector)
        for attempt in range(text.count("~part") if collector.parts else 0):
            if collector.is_clean(text):
                break
            collector = PartCollector(f"~part{attempt}.")  # the value has the mark in a text of its own
            text = self.write_json(value, collector)
        return collector.assemble(text) if collector.parts else self._bare(text, value)

    def write_json(self, value: object, collector: PartCollector | None = None) -> str:
        """
        Return the value as JSON, as it stands inside a larger document.

        Args:
            value: A value of the type.
            collector: Takes media out of it; None leaves them in, as addresses.

        Raises:
            ValueError: The value has no JSON form.
        """
        context = {"prompt": True, "parts": collector}
        how: dict[str, Any] = {"by_alias": self.by_alias, "round_trip": True, "warnings": False, "context": context}
        try:
            text = self.adapter.dump_json(value, **how).decode()
            if "null" in text:  # which JSON also says for infinity, unless it is told not to
                (plain,) = self._infinite().dump_python((value,), mode="json", **how)
                text = to_json(plain, inf_nan_mode="constants").decode()
        except (PydanticSerializationError, UnicodeDecodeError) as error:
            raise ValueError(f"it has no JSON form: {error}") from error
        return unmistakable(in_order(text) if isinstance(value, (set, frozenset)) else text)

    def _infinite(self) -> TypeAdapter[object]:
        """Return an adapter that keeps infinity where no type says that a value is a number; for a tuple of one."""
        adapter = self._with_infinity
        if adapter is None:
            config = ConfigDict(ser_json_inf_nan="constants", arbitrary_types_allowed=True)
            adapter = self._with_infinity = TypeAdapter(tuple[self.annotation], config=config)  # type: ignore[name-defined]  # a type made at run time
        return adapter

    def _bare(self, text: str, value: object) -> str:
        """Leave JSON's quotes away where the text means the same without them."""
        if not text.startswith('"'):
            return text
        plain: str = json.loads(text)
        return plain if self._reads_back(plain, value) else text

    def _reads_back(self, text: str, value: object) -> bool:
        """Tell whether bare text, without JSON's quotes, means the same value; an empty section means "left out"."""
        if not text or text != text.strip():
            return False
        try:
            read, _ = self.read(text)
        except ValueError:
            return False
        return type(read) is type(value) and bool(read == value)

    def read(self, text: str) -> Reading:
        """
        Return the value of a text and the repair it took.

        Raises:
            ValueError: No rung of the ladder gives a value of the type; the message says why the first one failed.
        """
        adapter = self.adapter
        problem: ValueError
        if has_dates(self.annotation):
            try:
                value = _decoded(text)  # a number stands for itself: its type may take it as a text
                return self._dated(text if isinstance(value, (int, float)) else value)
            except ValueError as error:
                return repaired(adapter, text, error, self.annotation)
        try:
            found = adapter.validate_json(text, by_alias=True, by_name=True)
        except ValueError as error:
            problem = error
        else:
            refuse_losses(text)
            if "true" in text or "false" in text or "{" in text or may_be_doubtful(text):
                return self._sure(exact_json(text), found), ""
            return found, ""
        if text in NONE_WORDS and allows_none(self.annotation):
            return None, "literal"
        try:
            return adapter.validate_python(text, by_alias=True, by_name=True), ""
        except ValueError:
            return repaired(adapter, text, problem, self.annotation)

    def read_json(self, value: object) -> Reading:
        """
        Return the value that JSON already decoded stands for, and the repair it took.

        A text that holds the JSON of a value, which models write where an object was asked for, is read too.

        Raises:
            ValueError: It is not a value of the type.
        """
        adapter = self.adapter
        try:
            if has_dates(self.annotation):
                return self._dated(value)
            found = checked(adapter, value)
            return self._sure(value, found), ""
        except (ValueError, TypeError):
            if isinstance(value, str):
                return self.read(value)[0], "json"
            return led(adapter, self.annotation, value), "json"

    def _sure(self, value: object, found: object) -> object:
        """Return what pydantic made of a JSON value, unless it made a number of a truth value or lost a key."""
        put = refuse_swaps(value, self.annotation)
        return found if put is value or put == value else checked(self.adapter, put)

    def _dated(self, value: object) -> Reading:
        """Read a type with dates in it, for which pydantic takes any number."""
        put = forgiven(value, self.annotation)
        return checked(self.adapter, put), "" if put is value or put == value or str(put) == value else "literal"

    def so_far(self, text: str) -> object:
        """Return what can be told of a value whose text is not complete; None where nothing can."""
        try:
            found = from_json(text, allow_partial="trailing-strings")
        except (ValueError, TypeError):  # half a surrogate pair is a TypeError
            return None
        return found if isinstance(found, (list, dict)) else None


class TextCodec(Codec):
    """Text as it is; lists of texts or passages become numbered lines."""

    __slots__ = ("_constrained",)
    streams_text = True

    def __init__(self, annotation: object) -> None:
        constrained = annotation is not str
        super().__init__(annotation, exact=None if constrained else str)
        self._constrained = constrained

    def check(self, value: object) -> object:
        """As always, and a list of texts or passages is joined into numbered lines."""
        if isinstance(value, (list, tuple)) and all(isinstance(each, (str, Passage)) for each in value):
            value = numbered(value)
        if type(value) is str and not self._constrained:
            return value
        return super().check(value)

    def write(self, value: object) -> str:
        """The text itself; anything else (a demonstration's number, say) in Python's words."""
        if type(value) is str:
            return value
        return numbered(value) if isinstance(value, (list, tuple)) else str(value)

    def content(self, value: object) -> Content:
        """The text."""
        return self.write(value)

    def write_json(self, value: object, collector: PartCollector | None = None) -> str:
        """The text in quotes."""
        return unmistakable(json.dumps(self.write(value), ensure_ascii=False))

    def read(self, text: str) -> Reading:
        """The text itself, checked against the constraints where there are any."""
        return (self.adapter.validate_python(text) if self._constrained else text), ""

    def read_json(self, value: object) -> Reading:
        """A text; whatever else stands there is its JSON."""
        if isinstance(value, str):
            return self.read(value)
        if value is None:
            raise ValueError("expected a text, got null")
        return self.read(value.text if isinstance(value, ExactFloat) else _to_json(value))[0], "json"

    def so_far(self, text: str) -> object:
        """The text so far."""
        return text


class UntypedCodec(TextCodec):
    """A field without a type: text, and whatever else is given for an input is put as text."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(str)

    def check(self, value: object) -> object:
        """Numbers, dates and the like in Python's words; lists, mappings and records as JSON."""
        try:
            return super().check(value)
        except ValueError:
            if value is None:
                raise
        if isinstance(value, (list, tuple, set, dict)) or hasattr(type(value), "__pydantic_core_schema__"):
            return any_codec().write_json(value)
        return str(value)


class NumberCodec(Codec):
    """``int``, ``float`` and ``bool`` as Python writes them."""

    __slots__ = ()

    def write(self, value: object) -> str:
        """Return ``str(value)``."""
        return str(value)

    def content(self, value: object) -> Content:
        """The number."""
        return str(value)

    def write_json(self, value: object, collector: PartCollector | None = None) -> str:
        """The number; infinity is the constant that Python writes and reads."""
        return json.dumps(value if isinstance(value, (int, float)) else str(value))

    def read(self, text: str) -> Reading:
        """Pydantic reads numbers from text; what it does not take goes down the ladder."""
        try:
            found = self.adapter.validate_python(text)
        except ValueError as error:
            if plain_type(self.annotation) is not bool and without_marks(text).lower() in ("true", "false"):
                raise  # a truth value is not a number
            return repaired(self.adapter, text, error, self.annotation)
        refuse_doubts(text, type(found))
        return found, ""

    def read_json(self, value: object) -> Reading:
        """Pydantic takes numbers and texts of numbers; a truth value is not a number."""
        if type(value) is bool and plain_type(self.annotation) is not bool:
            raise ValueError("expected a number, got a truth value")
        if isinstance(value, str):
            return self.read(value)
        found = self.adapter.validate_python(float(value) if isinstance(value, ExactFloat) else value)
        refuse_doubts(value, type(found))
        return found, ""


class ChoiceCodec(Codec):
    """A Literal or an enum: each choice has one text of its own."""

    __slots__ = ("_choices",)

    def __init__(self, annotation: object, choices: Sequence[object]) -> None:
        self._choices = Choices(choices)
        super().__init__(annotation, in_words=self._choices.in_words)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each choice, in order."""
        return self._choices.texts

    def write(self, value: object) -> str:
        """Return the choice's own text."""
        text = self._choices.text_of(value)
        return str(value) if text is None else text  # a demonstration with a value that is not a choice

    def read(self, text: str) -> Reading:
        """Look it up; what is forgiven is reported."""
        return self._choices.read(text)

    def content(self, value: object) -> Content:
        """The choice's own text."""
        return self.write(value)

    def write_json(self, value: object, collector: PartCollector | None = None) -> str:
        """The choice, or the enum member's value, where JSON has it; otherwise its text."""
        return self._choices.json_of(value) or json.dumps(self.write(value), ensure_ascii=False)

    def read_json(self, value: object) -> Reading:
        """Look the value up, and its text where that fails."""
        return self._choices.read_json(value)

    def so_far(self, text: str) -> object:
        """Half a choice is none."""
        return None


class FieldTypeCodec(Codec):
    """A FieldType: it says itself how it is written and read."""

    __slots__ = ("_type", "streams_text")

    def __init__(self, annotation: type[FieldType]) -> None:
        super().__init__(annotation, exact=annotation, in_words=annotation.in_words)
        self._type = annotation
        self.streams_text = issubclass(annotation, str) and not annotation.in_words

    def write(self, value: object) -> str:
        """Return ``to_text``, or the text of a value that is none of the type."""
        return value.to_text() if isinstance(value, FieldType) else str(value)

    def content(self, value: object) -> Content:
        """Return ``to_parts``."""
        return value.to_parts() if isinstance(value, FieldType) else str(value)

    def read(self, text: str) -> Reading:
        """Return ``from_text``."""
        return self._type.from_text(text), ""

    def read_json(self, value: object) -> Reading:
        """Return ``from_json``."""
        return self._type.from_json(without_texts(value)), ""

    def so_far(self, text: str) -> object:
        """Return ``so_far``."""
        return self._type.so_far(text)


class PassagesCodec(Codec):
    """``list[Passage]`` as an input: one numbered line each."""

    __slots__ = ()

    def content(self, value: object) -> Content:
        """The same lines."""
        return self.write(value)

    def write(self, value: object) -> str:
        """Return ``[1] title | text`` lines."""
        if isinstance(value, (list, tuple)) and all(isinstance(each, (str, Passage)) for each in value):
            return numbered(value)
        return super().write(value)


@functools.cache
def any_codec() -> Codec:
    """Return the codec of values whose type nobody says."""
    return Codec(Any)


def make_codec(annotation: object, constraints: dict[str, Any], role: str) -> Codec:
    """
    Return the codec of a field.

    Args:
        annotation: The field's type.
        constraints: Bounds to check, by pydantic's names.
        role: ``input`` or ``output``; passages have a reading form that only inputs need.

    Raises:
        SignatureError: Pydantic cannot validate the type, the constraints do not fit it, or an output cannot be read.
    """
    if annotation is UNTYPED:
        return UntypedCodec() if role == "input" else TextCodec(str)
    if annotation is str and not constraints:
        return TextCodec(str)
    if isinstance(annotation, type) and issubclass(annotation, FieldType) and not constraints:
        if role == "output" and not annotation.is_readable():
            raise SignatureError(f"{annotation.__name__} cannot be an output: it does not define from_text")
        return FieldTypeCodec(annotation)
    inner = without_none(annotation)
    full = annotation
    if constraints:  # a bound on `int | None` is a bound on the int
        full = Annotated[inner, PydanticField(**constraints)]
        full = full if inner is annotation else Union[full, None]  # noqa: UP007 - built at run time
    _refuse_misfits(inner, constraints)
    if (plain := plain_type(annotation)) is str:
        return _checked(TextCodec(full))
    if plain in (int, float, bool):
        return _checked(NumberCodec(full, exact=plain if full is plain else None))
    choices = literal_values(plain)
    if choices is not None and not constraints and _only_told(annotation):
        return ChoiceCodec(full, choices)
    if role == "input" and get_origin(plain) in (list, tuple, Sequence) and get_args(plain)[:1] in _PASSAGES:
        return PassagesCodec(full)
    codec = Codec(full)
    if not _is_known(plain):
        _ = codec.adapter  # a type pydantic refuses is the author's error, and belongs to the class statement
    return codec


def _only_told(annotation: object) -> bool:
    """Tell whether what ``Annotated`` says of a type is for readers only: descriptions, not checks."""
    while get_origin(annotation := unaliased(annotation)) is Annotated:
        annotation, *notes = get_args(annotation)
        if not all(isinstance(each, str) or (isinstance(each, FieldInfo) and not each.metadata) for each in notes):
            return False
    return True


_LENGTHS, _PASSAGES = frozenset({"min_length", "max_length"}), ((Passage,), (Document,))


def _refuse_misfits(annotation: object, constraints: dict[str, object]) -> None:
    """Pydantic finds out about a length of a number only when it meets one."""
    names = constraints.keys()
    if names and isinstance(annotation, type) and issubclass(annotation, FieldType) and not issubclass(annotation, str):
        raise SignatureError(f"{annotation.__name__} takes no constraints: {', '.join(sorted(names))} does not fit")
    if annotation in (int, float, bool) and names & _LENGTHS:
        raise SignatureError(f"{annotation.__name__} has no length: {', '.join(sorted(names & _LENGTHS))} does not fit")
    sized = annotation is str or get_origin(annotation) in (list, dict, set, tuple)
    if sized and names - _LENGTHS:
        raise SignatureError(
            f"{type_text(annotation)} is not a number: {', '.join(sorted(names - _LENGTHS))} does not fit"
        )


def _checked(codec: Codec) -> Codec:
    """Build the adapter of a constrained type now, so that constraints that do not fit it are refused at once."""
    if get_origin(codec.annotation) is Annotated:
        _ = codec.adapter
    return codec


def _is_known(annotation: object) -> bool:
    """True when the adapter may wait: types that pydantic surely takes."""
    if annotation in (str, int, float, bool, dict, list, type(None), Any, Passage):
        return True
    return get_origin(annotation) in (list, dict, set, tuple) and all(map(_is_known, get_args(annotation)))


def _type_adapter(annotation: Annotation) -> TypeAdapter[object]:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        raise SignatureError(
            f"{type_text(annotation)} is not a type whose values can be checked: {describe(error)}"
        ) from error


def numbered(items: Sequence[object]) -> str:
    """Return numbered lines: ``[1] title | text`` for passages, ``[1] "text"`` for texts; further lines indented."""
    lines = []
    for number, item in enumerate(items, 1):
        shown = f'"{item}"' if isinstance(item, str) else str(item)
        lines.append(f"[{number}] " + shown.replace("\n", "\n    "))
    return "\n".join(lines)


def _decoded(text: str) -> object:
    """Return the JSON value that a text is, or the text."""
    try:
        return exact_json(text)
    except DoubleKey:
        raise
    except ValueError:
        return text


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
