"""The parts of a turn of a conversation beside plain text: frozen, and known to every wire."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from dspex.protocols.json_values import Json

__all__ = [
    "AudioPart",
    "Citation",
    "FilePart",
    "ImagePart",
    "MediaPart",
    "Part",
    "ReasoningPart",
    "TextPart",
    "ToolCall",
    "ToolResult",
]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True)
class MediaPart:
    """
    Bytes of some media type, or the address where the provider finds them; exactly one of the two.

    Base64 and digest are computed once per object, however many calls it takes part in.

    Raises:
        ValueError: Neither ``data`` nor ``url`` is given, or both.
    """

    media_type: str
    """For example ``image/png``; for an address it may be empty."""
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.url is None):
            raise ValueError(f"{type(self).__name__} takes either data or url")

    @cached_property
    def base64(self) -> str:
        """The bytes in base64; empty for an address."""
        return base64.b64encode(self.data).decode("ascii") if self.data is not None else ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, or of the address, in hex: what a cache key holds of this part."""
        return hashlib.sha256(self.data if self.data is not None else (self.url or "").encode()).hexdigest()

    @property
    def data_url(self) -> str:
        """The address, or the bytes as a ``data:`` address."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.base64}"


@dataclass(frozen=True)
class ImagePart(MediaPart):
    """An image; ``detail`` is OpenAI's word for how closely it is looked at."""

    detail: Literal["auto", "low", "high"] | None = None


@dataclass(frozen=True)
class AudioPart(MediaPart):
    """Recorded sound."""


@dataclass(frozen=True)
class FilePart(MediaPart):
    """A document, a PDF for example; an address ``file-id://…`` is one that the provider has already."""

    name: str = ""

    @property
    def provider_id(self) -> str:
        """The name that the provider gave to a file it has; empty for all others."""
        return (self.url or "").removeprefix(_FILE_ID) if (self.url or "").startswith(_FILE_ID) else ""


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """
    A model's thoughts before it answered.

    Attributes:
        text: The thoughts, or their summary; empty where the provider keeps them to itself.
        provider: The wire that sent it; the other wires leave it out.
        data: Data that the wire needs to send it back unchanged (signatures, encrypted content).
    """

    text: str
    provider: str = ""
    data: Mapping[str, object] = field(default_factory=dict)  # the provider's own JSON


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    The model's wish to have a tool called.

    Attributes:
        id: The id that the result must repeat; made up by the wire where the provider has none.
        name: The tool.
        arguments: The arguments by name; ``None`` when ``raw`` is not a JSON object.
        raw: The arguments as they came.
        data: Data that the wire needs to send the call back unchanged.
    """

    id: str
    name: str
    arguments: Json | None
    raw: str = ""
    data: Mapping[str, object] = field(default_factory=dict)  # the provider's own JSON


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's return value for the call ``call_id``."""

    call_id: str
    name: str
    content: str | tuple[TextPart | ImagePart | FilePart, ...]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A source that the model names for its answer; what the provider does not tell is empty or None."""

    text: str = ""
    """The words of the source."""
    title: str = ""
    url: str = ""
    start: int | None = None
    """Where in the answer's text the cited span begins."""
    end: int | None = None


_FILE_ID = "file-id://"

Part = TextPart | ImagePart | AudioPart | FilePart | ReasoningPart | ToolCall | ToolResult
