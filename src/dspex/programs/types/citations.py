"""The sources of an answer as a field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from dspex.protocols.content import Citation

__all__ = ["Citations"]

_NAMES = tuple(Citation.__dataclass_fields__)


@dataclass(frozen=True, slots=True, init=False)
class Citations:
    """
    The sources that the model names for its answer; an output.

    Where the provider itself names sources, those are the value; otherwise the model writes them as a list.

    Attributes:
        sources: Each with ``text``, ``title`` and ``url``, empty where they are not known.

    Args:
        sources: Citation records, mappings with these names, or the texts cited.

    Raises:
        ValueError: One of them is none of these.
    """

    sources: tuple[Citation, ...]

    def __init__(self, sources: Sequence[object] = ()) -> None:
        object.__setattr__(self, "sources", tuple(map(_source, sources)))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Citation]:
        return iter(self.sources)

    def __getitem__(self, index: int) -> Citation:
        return self.sources[index]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """From a list of sources, or an object with ``citations``; written as a list of objects."""
        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, Citations) else cls(_listed(given)), serialization=_WRITING
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> JsonSchemaValue:
        """Return the schema of a list of sources."""
        properties = {name: {"type": "string"} for name in ("text", "title", "url")}
        return {"type": "array", "items": {"type": "object", "properties": properties, "required": ["text"]}}


def _listed(given: object) -> Sequence[object]:
    if isinstance(given, Mapping):
        given = given.get("citations")
    if isinstance(given, (list, tuple)):
        return given
    raise ValueError("expected a list of sources, each with text, title and url")


def _source(given: object) -> Citation:
    if isinstance(given, Citation):
        return given
    if isinstance(given, str):
        return Citation(given)
    if not isinstance(given, Mapping):
        raise ValueError(f"a source is an object or a text, not {type(given).__name__}")
    known = {name: given[name] for name in _NAMES if given.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, int if name in ("start", "end") else str) or isinstance(value, bool):
            raise ValueError(f"{name} of a source cannot be {value!r}")
    return Citation(**known)


def _dump(citations: Citations) -> list[dict[str, object]]:
    return [
        {name: value for name, value in asdict(each).items() if name == "text" or value not in ("", None)}
        for each in citations
    ]


_WRITING = core_schema.plain_serializer_function_ser_schema(_dump, when_used="json")

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
Citations.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)
