"""
Values to text and back: one codec per field, made once when its signature is compiled.

``read(write(value)) == value`` for every value of the field's type, with one rule: white space around a ``str``
is not part of it, because models put blank lines around what they write. Reading is a ladder: the text as it is
(JSON, or plain text where the type takes it), then repaired JSON, then a Python literal; whoever reads is told
which rung held, so that no repair goes unnoticed.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Field as PydanticField
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from dspex.errors import SignatureError
from dspex.programs.adapters._repair import Reading, describe, repaired
from dspex.programs.adapters._types import literal_values, type_text, without_none, without_titles
from dspex.programs.types.field_type import FieldType, PartCollector
from dspex.protocols.content import Part
from dspex.protocols.retrieval import Passage

__all__ = ["Codec", "Content", "FieldTypeCodec", "TextCodec", "make_codec", "numbered", "to_plain"]

Content = str | tuple[Part, ...]
"""What stands for a value in a user's turn."""


class Codec:
    """
    Checks, writes and reads the values of one annotation; this class itself does so through JSON.

    Attributes:
        annotation: The type, constraints included.
        exact: Values of exactly this class need no check.
        in_words: What a value must look like, for a prompt; empty when the type's name says it all.
    """

    __slots__ = ("_adapter", "annotation", "exact", "in_words")

    streams_text = False
    """Whether a stream of it is the text itself, white space around it left out."""

    def __init__(self, annotation: Any, *, exact: type | None = None, in_words: str = "") -> None:
        self.annotation = annotation
        self.exact = exact
        self.in_words = in_words
        self._adapter: TypeAdapter[Any] | None = None

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """The annotation's pydantic adapter, built when first needed and kept."""
        adapter = self._adapter
        if adapter is None:
            adapter = self._adapter = _type_adapter(self.annotation)
        return adapter

    def schema_text(self) -> str:
        """Return the JSON schema for a prompt; empty where the type has none, or plain text will do."""
        try:
            schema = self.adapter.json_schema()
        except PydanticUserError:
            return ""
        if schema.get("type") == "string" or not schema:
            return ""
        return json.dumps(without_titles(schema, schema.get("title", "")), ensure_ascii=False)

    def check(self, value: Any) -> Any:
        """
        Return ``value`` as the field's type, converting what pydantic's lax mode converts.

        Raises:
            ValueError: It is not of the type; pydantic's ValidationError says where.
        """
        return self.adapter.validate_python(value)

    def write(self, value: Any) -> str:
        """
        Return the text of a value.

        Raises:
            ValueError: The value has no JSON form.
        """
        return self._bare(self.write_json(value), value)

    def content(self, value: Any) -> Content:
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

    def write_json(self, value: Any, collector: PartCollector | None = None) -> str:
        """
        Return the value as JSON, as it stands inside a larger document.

        Args:
            value: A value of the type.
            collector: Takes media out of it; None leaves them in, as addresses.

        Raises:
            ValueError: The value has no JSON form.
        """
        context = None if collector is None else {"parts": collector}
        try:
            return self.adapter.dump_json(value, warnings=False, context=context).decode()
        except (PydanticSerializationError, UnicodeDecodeError) as error:
            raise ValueError(f"it has no JSON form: {error}") from error

    def _bare(self, text: str, value: Any) -> str:
        """Leave JSON's quotes away where the text means the same without them."""
        if not text.startswith('"'):
            return text
        plain: str = json.loads(text)
        return plain if self._reads_back(plain, value) else text

    def _reads_back(self, text: str, value: Any) -> bool:
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
        try:
            return adapter.validate_json(text), ""
        except ValueError as error:
            problem = error
        try:
            return adapter.validate_python(text), ""
        except ValueError:
            return repaired(adapter, text, problem)

    def read_json(self, value: Any) -> Reading:
        """
        Return the value that JSON already decoded stands for, and the repair it took.

        A text that holds the JSON of a value, which models write where an object was asked for, is read too.

        Raises:
            ValueError: It is not a value of the type.
        """
        try:
            return self.adapter.validate_json(_to_json(value)), ""
        except ValueError:
            if not isinstance(value, str):
                raise
            return self.read(value)[0], "json"

    def so_far(self, text: str) -> Any:
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

    def __init__(self, annotation: Any) -> None:
        constrained = annotation is not str
        super().__init__(annotation, exact=None if constrained else str)
        self._constrained = constrained

    def check(self, value: Any) -> Any:
        """As always, and a list of texts or passages is joined into numbered lines."""
        if isinstance(value, (list, tuple)) and all(isinstance(each, (str, Passage)) for each in value):
            value = numbered(value)
        if type(value) is str and not self._constrained:
            return value
        return super().check(value)

    def write(self, value: Any) -> str:
        """The text itself; anything else (a demonstration's number, say) in Python's words."""
        if type(value) is str:
            return value
        return numbered(value) if isinstance(value, (list, tuple)) else str(value)

    def content(self, value: Any) -> Content:
        """The text."""
        return self.write(value)

    def write_json(self, value: Any, collector: PartCollector | None = None) -> str:
        """The text in quotes."""
        return json.dumps(self.write(value), ensure_ascii=False)

    def read(self, text: str) -> Reading:
        """The text itself, checked against the constraints where there are any."""
        return (self.adapter.validate_python(text) if self._constrained else text), ""

    def read_json(self, value: Any) -> Reading:
        """A text; whatever else stands there is its JSON."""
        if isinstance(value, str):
            return self.read(value)
        return self.read(_to_json(value))[0], "json"

    def so_far(self, text: str) -> Any:
        """The text so far."""
        return text


class NumberCodec(Codec):
    """``int``, ``float`` and ``bool`` as Python writes them."""

    __slots__ = ()

    def write(self, value: Any) -> str:
        """Return ``str(value)``."""
        return str(value)

    def content(self, value: Any) -> Content:
        """The number."""
        return str(value)

    def write_json(self, value: Any, collector: PartCollector | None = None) -> str:
        """The number; JSON has no infinity, so that is a text."""
        if isinstance(value, (int, float)) and math.isfinite(value):
            return json.dumps(value)
        return json.dumps(str(value))

    def read(self, text: str) -> Reading:
        """Pydantic reads numbers from text; what it does not take goes down the ladder."""
        try:
            return self.adapter.validate_python(text), ""
        except ValueError as error:
            return repaired(self.adapter, text, error)

    def read_json(self, value: Any) -> Reading:
        """Pydantic takes numbers and texts of numbers."""
        try:
            return self.adapter.validate_python(value), ""
        except ValueError:
            if not isinstance(value, str):
                raise
            return self.read(value)


class ChoiceCodec(Codec):
    """A Literal or an enum: each choice has one text of its own."""

    __slots__ = ("_folded", "_json", "_texts", "_values")

    def __init__(self, annotation: Any, choices: Sequence[Any]) -> None:
        self._texts, self._values = _choice_texts(choices)
        self._folded: dict[str, Any] | None = None
        shown = ", ".join(self._texts[_choice_key(each)] for each in choices)
        super().__init__(annotation, in_words=f"exactly one of: {shown}")
        self._json: dict[tuple[type, Any], Any] = {}
        """The choice that a JSON value stands for: first those that are that value, then enum members with it."""
        for each in sorted(choices, key=lambda choice: isinstance(choice, enum.Enum)):
            if (value := _json_of_choice(each)) is not None or each is None:
                self._json.setdefault(_choice_key(value), each)

    def write(self, value: Any) -> str:
        """Return the choice's own text."""
        try:
            return self._texts[_choice_key(value)]
        except (KeyError, TypeError):
            return str(value)  # a demonstration with a value that is not a choice

    def read(self, text: str) -> Reading:
        """Look it up; quotes, a full stop, an enum's class before its name, and its case are forgiven and reported."""
        try:
            return self._values[text], ""
        except KeyError:
            pass
        bare = text.strip("\"'` \t\r\n\u2018\u2019\u201c\u201d")
        for candidate in (bare, bare.rpartition(".")[2]):
            if candidate and candidate in self._values:  # "Maybe." is not "nothing"
                return self._values[candidate], "literal"
        folded = self._folded
        if folded is None:
            folded = self._folded = _without_case(self._values)
        plain = bare.rstrip(".").casefold()
        if plain and plain in folded:
            return folded[plain], "literal"
        raise ValueError(f"{_short(text)} is not {self.in_words}")

    def content(self, value: Any) -> Content:
        """The choice's own text."""
        return self.write(value)

    def write_json(self, value: Any, collector: PartCollector | None = None) -> str:
        """The choice, or the enum member's value, where JSON has it; otherwise its text."""
        plain = _json_of_choice(value)
        if self._json.get(_choice_key(plain), self) == value and (plain is not None or value is None):
            return json.dumps(plain, ensure_ascii=False)
        return json.dumps(self.write(value), ensure_ascii=False)

    def read_json(self, value: Any) -> Reading:
        """Look the value up, and its text where that fails."""
        if isinstance(value, (str, int, float, type(None))):
            key = _choice_key(value)
            if key in self._json:
                return self._json[key], ""
            return self.read(value if isinstance(value, str) else _to_json(value))
        raise ValueError(f"{_short(str(value))} is not {self.in_words}")

    def so_far(self, text: str) -> Any:
        """Half a choice is none."""
        return None


class FieldTypeCodec(Codec):
    """A FieldType: it says itself how it is written and read."""

    __slots__ = ("_type", "streams_text")

    def __init__(self, annotation: type[FieldType]) -> None:
        super().__init__(annotation, exact=annotation, in_words=annotation.in_words)
        self._type = annotation
        self.streams_text = issubclass(annotation, str) and not annotation.in_words

    def write(self, value: Any) -> str:
        """Return ``to_text``, or the text of a value that is none of the type."""
        return value.to_text() if isinstance(value, FieldType) else str(value)

    def content(self, value: Any) -> Content:
        """Return ``to_parts``."""
        return value.to_parts() if isinstance(value, FieldType) else str(value)

    def read(self, text: str) -> Reading:
        """Return ``from_text``."""
        return self._type.from_text(text), ""

    def read_json(self, value: Any) -> Reading:
        """Return ``from_json``."""
        return self._type.from_json(value), ""

    def so_far(self, text: str) -> Any:
        """Return ``so_far``."""
        return self._type.so_far(text)


class PassagesCodec(Codec):
    """``list[Passage]`` as an input: one numbered line each."""

    __slots__ = ()

    def content(self, value: Any) -> Content:
        """The same lines."""
        return self.write(value)

    def write(self, value: Any) -> str:
        """Return ``[1] title | text`` lines."""
        if isinstance(value, (list, tuple)) and all(isinstance(each, (str, Passage)) for each in value):
            return numbered(value)
        return super().write(value)


def make_codec(annotation: Any, constraints: dict[str, Any], role: str) -> Codec:
    """
    Return the codec of a field.

    Args:
        annotation: The field's type.
        constraints: Bounds to check, by pydantic's names.
        role: ``input`` or ``output``; passages have a reading form that only inputs need.

    Raises:
        SignatureError: Pydantic cannot validate the type, the constraints do not fit it, or an output cannot be read.
    """
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
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if plain is str:
        return _checked(TextCodec(full))
    if plain in (int, float, bool):
        return _checked(NumberCodec(full, exact=plain if full is plain else None))
    choices = literal_values(inner)
    if choices is not None and not constraints:
        return ChoiceCodec(full, choices if inner is annotation else (*choices, None))
    if role == "input" and get_origin(plain) in (list, tuple, Sequence) and get_args(plain)[:1] == (Passage,):
        return PassagesCodec(full)
    codec = Codec(full)
    if not _is_known(plain):
        _ = codec.adapter  # a type pydantic refuses is the author's error, and belongs to the class statement
    return codec


_LENGTHS = frozenset({"min_length", "max_length"})


def _refuse_misfits(annotation: Any, constraints: dict[str, Any]) -> None:
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


def _is_known(annotation: Any) -> bool:
    """Whether the adapter may wait: types that pydantic surely takes."""
    if annotation in (str, int, float, bool, dict, list, type(None), Any, Passage):
        return True
    return get_origin(annotation) in (list, dict, set, tuple) and all(map(_is_known, get_args(annotation)))


def _type_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        raise SignatureError(
            f"{type_text(annotation)} is not a type whose values can be checked: {describe(error)}"
        ) from error


def _choice_key(value: Any) -> tuple[type, Any]:
    """1, True and Color.RED == 1 are different choices."""
    return type(value), value


def _json_of_choice(choice: Any) -> Any:
    """Return the JSON value that is a choice; None where only its text will do."""
    value = choice.value if isinstance(choice, enum.Enum) else choice
    return value if type(value) in (str, int, bool) else None


def _choice_texts(choices: Sequence[Any]) -> tuple[dict[tuple[type, Any], str], dict[str, Any]]:
    """Give each choice the first of its texts that is free, and read every text that means one choice."""
    texts: dict[tuple[type, Any], str] = {}
    values: dict[str, Any] = {}
    for choice in choices:
        names = _choice_names(choice)
        text = next((each for each in names if each and each == each.strip() and each not in values), None)
        while text is None or text in values:
            text = json.dumps(names[0] if text is None else text)
        texts[_choice_key(choice)] = text
        values[text] = choice
    for choice in choices:
        for each in _choice_names(choice):
            values.setdefault(each, choice)
    return texts, values


def _without_case(values: dict[str, Any]) -> dict[str, Any]:
    """Return the choices by their texts in any case; where two differ by nothing else, neither."""
    found: dict[str, list[Any]] = {}
    for text, choice in values.items():
        found.setdefault(text.casefold(), []).append(choice)
    return {text: several[0] for text, several in found.items() if len(set(map(_choice_key, several))) == 1}


def _choice_names(choice: Any) -> tuple[str, ...]:
    if isinstance(choice, enum.Enum):
        return str(choice.value), choice.name
    return ("null", "None", "") if choice is None else (str(choice),)


def numbered(items: Sequence[Any]) -> str:
    """Return numbered lines: ``[1] title | text`` for passages, ``[1] "text"`` for texts; further lines indented."""
    lines = []
    for number, item in enumerate(items, 1):
        shown = f'"{item}"' if isinstance(item, str) else str(item)
        lines.append(f"[{number}] " + shown.replace("\n", "\n    "))
    return "\n".join(lines)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def to_plain(value: Any) -> Any:
    """Return a value as JSON has it: for saved demonstrations."""
    return value if isinstance(value, str) else json.loads(to_json(value, fallback=str))
