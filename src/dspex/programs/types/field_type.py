"""The base of field types: how a value is shown to a model, and how it is read from what a model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from dspex.protocols.content import Part, TextPart

__all__ = ["FieldType", "PartCollector"]


class PartCollector:
    """
    Takes the content parts out of a value that is being written as JSON, and puts them back at their places.

    Args:
        mark: The mark of a part in the JSON, with its number; it must not occur in the value itself.
    """

    __slots__ = ("mark", "parts")

    def __init__(self, mark: str = "~part") -> None:
        self.mark = mark
        self.parts: list[tuple[Part, ...]] = []

    def add(self, parts: Sequence[Part]) -> str:
        """Keep ``parts`` and return what stands for them."""
        self.parts.append(tuple(parts))
        return f"{self.mark}{len(self.parts) - 1}~"

    def is_clean(self, text: str) -> bool:
        """Tell whether the mark stands in ``text`` for parts only."""
        return text.count(self.mark) == len(self.parts)

    def assemble(self, text: str) -> tuple[Part, ...]:
        """Return the text with the parts at their places."""
        found: list[Part] = []
        rest = text
        for number, parts in enumerate(self.parts):
            before, _, rest = rest.partition(f'"{self.mark}{number}~"')
            if before:
                found.append(TextPart(before))
            found += parts
        if rest:
            found.append(TextPart(rest))
        return tuple(found)


class FieldType:
    """
    Base of your own field types.

    Define how a value is written and, for outputs, how it is read::

        class Price(dspex.FieldType):
            in_words = "an amount and a currency, such as 3.50 EUR"

            def __init__(self, amount: float, currency: str) -> None:
                self.amount, self.currency = amount, currency

            def to_text(self) -> str:
                return f"{self.amount:.2f} {self.currency}"

            @classmethod
            def from_text(cls, text: str) -> Self:
                amount, currency = text.split()
                return cls(float(amount), currency)

    A type that is more than text, an image with a caption for example, defines ``to_parts`` too. In JSON a value is
    its text; ``to_json`` and ``from_json`` change that.
    """

    __slots__ = ()

    in_words: ClassVar[str] = ""
    """The form of a value, as a prompt says it."""
    json_schema: ClassVar[Mapping[str, object]] = {"type": "string"}
    """The JSON schema of ``to_json``'s values."""

    def to_text(self) -> str:
        """Return how the value is written for a model; by default ``str(self)``."""
        return str(self)

    def to_parts(self) -> str | tuple[Part, ...]:
        """Return what stands for the value in a user's turn: text, or content parts; by default the text."""
        return self.to_text()

    @classmethod
    def from_text(cls, text: str) -> Self:  # noqa: ARG003 - for the subclasses
        """
        Read a value from what a model wrote; white space around it is gone.

        Raises:
            ValueError: The text is not such a value.
        """
        raise ValueError(f"{cls.__name__} cannot be read from text: it does not define from_text")

    @classmethod
    def so_far(cls, text: str) -> object:  # what can be shown of half a value
        """Return what a stream shows of a value whose text is not complete; by default that text."""
        return text

    def to_json(self) -> object:  # a JSON value
        """Return the value as JSON has it; by default its text."""
        return self.to_text()

    @classmethod
    def from_json(cls, value: object) -> Self:  # a JSON value
        """
        Read a value from JSON; by default from its text.

        Raises:
            ValueError: It is not such a value.
        """
        if not isinstance(value, str):
            raise ValueError(f"expected text for {cls.__name__}, got {type(value).__name__}")
        return cls.from_text(value)

    @classmethod
    def is_readable(cls) -> bool:
        """Tell whether the type says how a value is read: it defines ``from_text`` or ``from_json``."""
        here, base = cls.__mro__, FieldType.__dict__
        return any(
            next(each.__dict__[name] for each in here if name in each.__dict__) is not base[name]
            for name in ("from_text", "from_json")
        )

    @classmethod
    def _validate(cls, value: object) -> Self:
        return value if isinstance(value, cls) else cls.from_json(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Values pass as they are, JSON becomes values; written, they are JSON."""
        return core_schema.no_info_plain_validator_function(cls._validate, serialization=_WRITING)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return ``json_schema``."""
        return dict(cls.json_schema)


def _write(value: FieldType, info: core_schema.SerializationInfo) -> object:
    """Write JSON; while a turn is composed, leave a mark and hand over the parts."""
    context = info.context
    collector = context.get("parts") if isinstance(context, dict) else None
    if isinstance(collector, PartCollector):
        parts = value.to_parts()
        if not isinstance(parts, str):
            return collector.add(parts)
    return value.to_json()


_WRITING = core_schema.plain_serializer_function_ser_schema(_write, info_arg=True, when_used="json")

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
FieldType.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)
