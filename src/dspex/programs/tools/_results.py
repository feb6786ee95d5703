"""A tool's return value, as a model is shown it."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json

from dspex.programs.signature import Signature, values_of
from dspex.programs.types.field_type import FieldType, PartCollector
from dspex.protocols.content import AudioPart, FilePart, ImagePart, Part, TextPart
from dspex.protocols.retrieval import Passage

__all__ = ["Content", "content_of", "text_of_content"]

Content = str | tuple[TextPart | ImagePart | FilePart, ...]
"""Text, or parts where there is more than text."""

_PARTS = (TextPart, ImagePart, FilePart, AudioPart)
_NOTHING = "(nothing)"
_MARKS = 20


def content_of(value: object) -> Content:
    """
    Return a result as text or content parts: texts as they are, images and files as parts, all else as JSON.

    A value that has no JSON form is shown as ``str`` shows it. Sound cannot be shown in a result, and is named instead.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return _NOTHING
    if isinstance(value, FieldType):
        parts = value.to_parts()
        return parts if isinstance(parts, str) else _showable(parts)
    if isinstance(value, (TextPart, ImagePart, FilePart, AudioPart)):
        return _showable((value,))
    if (
        isinstance(value, tuple)
        and value
        and all(isinstance(each, (TextPart, ImagePart, FilePart, AudioPart)) for each in value)
    ):
        return _showable(value)
    return _json(value)


def text_of_content(content: Content) -> str:
    """Return the text of a result; parts that are not text are named."""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else f"({part.media_type or 'a file'})" for part in content)


def _json(value: object) -> Content:
    collector = PartCollector()
    for number in range(_MARKS):
        collector = PartCollector(f"~part{number}." if number else "~part")
        try:
            text = to_json(
                _without_nothing(value), context={"parts": collector}, fallback=_plain, inf_nan_mode="constants"
            ).decode()
        except (PydanticSerializationError, ValueError, RecursionError):
            return str(value)
        if not collector.parts:
            return str(json.loads(text)) if text.startswith('"') else text
        if collector.is_clean(text):
            break
    return _showable(collector.assemble(text))


def _without_nothing(value: object) -> object:
    """Return passages without metadata as what they have; pydantic_core tells all fields of a dataclass."""
    if isinstance(value, (list, tuple)):
        return [_without_nothing(each) for each in value] if any(isinstance(each, Passage) for each in value) else value
    if not isinstance(value, Passage) or value.metadata:
        return value
    return {"text": value.text, "title": value.title, "score": value.score, "id": value.id}


def _plain(value: object) -> object:
    """Return what stands for a value that pydantic does not know: its fields, or its text."""
    if isinstance(value, Signature):
        return values_of(value)  # as they are: media among them become parts
    to_dict = getattr(type(value), "to_dict", None)
    return to_dict(value) if callable(to_dict) else str(value)


def _showable(parts: tuple[Part, ...]) -> Content:
    shown: list[TextPart | ImagePart | FilePart] = []
    for part in parts:
        if isinstance(part, (TextPart, ImagePart, FilePart)):
            shown.append(part)
        else:
            name = part.media_type if isinstance(part, AudioPart) else type(part).__name__
            shown.append(TextPart(f"({name}: cannot be shown)"))
    return tuple(shown)
