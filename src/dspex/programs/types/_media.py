"""The type of media by file name and first bytes, and their form in JSON."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from dspex.programs.types.field_type import FieldType
from dspex.protocols.content import MediaPart, Part

__all__ = ["Media", "media_type_of"]

_BY_SUFFIX: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".xml": "application/xml",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_BY_FIRST_BYTES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), media_type)
    for pattern, media_type in (
        (rb"\x89PNG\r\n\x1a\n", "image/png"),
        (rb"\xff\xd8\xff", "image/jpeg"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"RIFF....WEBP", "image/webp"),
        (rb"BM....\x00\x00\x00\x00", "image/bmp"),
        (rb"II\*\x00|MM\x00\*", "image/tiff"),
        (rb"....ftyp(?:heic|heix|mif1)", "image/heic"),
        (rb"RIFF....WAVE", "audio/wav"),
        (rb"ID3|\xff[\xfb\xf3\xf2]", "audio/mpeg"),
        (rb"OggS", "audio/ogg"),
        (rb"fLaC", "audio/flac"),
        (rb"....ftypM4A", "audio/mp4"),
        (rb"%PDF-", "application/pdf"),
    )
)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,([A-Za-z0-9+/=\s]*)\Z", re.IGNORECASE)
_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://\S+\Z", re.IGNORECASE)


def media_type_of(name: str = "", data: bytes = b"") -> str:
    """Return the media type by the first bytes, else by the name's suffix; empty when neither tells."""
    for pattern, media_type in _BY_FIRST_BYTES:
        if pattern.match(data):
            return media_type
    path = name.partition("?")[0].partition("#")[0]
    return _BY_SUFFIX.get(os.path.splitext(path)[1].lower(), "")  # noqa: PTH122 - an address is not a path


class Media(FieldType, MediaPart):
    """
    The common part of Image, Audio and File: constructors, and a JSON form that is an address.

    Values are frozen and encoded at most once, however many calls they take part in.
    """

    in_words: ClassVar[str] = "a URL, or a data: URL"
    _extras: ClassVar[tuple[str, ...]] = ()
    """Attributes that an address cannot carry."""
    _default_type: ClassVar[str] = ""
    _family: ClassVar[str] = ""
    """The beginning of the media type."""

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, media_type: str = "", **extras: str) -> Self:
        """
        Read a file; the media type is found by its first bytes or its suffix.

        Raises:
            ValueError: The media type is neither given nor found.
            OSError: The file cannot be read.
        """
        file = Path(path)
        data = file.read_bytes()
        return cls.from_bytes(data, media_type=media_type or media_type_of(file.name, data), **extras)

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "", **extras: str) -> Self:
        """
        Take bytes as they are; the media type is found by the first of them.

        Raises:
            ValueError: The media type is neither given nor found, or is that of something else.
        """
        found = media_type or media_type_of(data=data) or cls._default_type
        if not found:
            raise ValueError(f"{cls.__name__}: the bytes do not tell their media type: give media_type=")
        cls._refuse_others(found)
        if data.startswith(b"%PDF-"):  # whatever it is called
            cls._refuse_others("application/pdf")
        return cls(found, bytes(data), **extras)

    @classmethod
    def _refuse_others(cls, media_type: str) -> None:
        """A PDF is not an image, whatever it is called."""
        if media_type and not media_type.lower().startswith(cls._family):
            hint = "; give it as a File" if cls._family else ""
            raise ValueError(f"{cls.__name__}: {media_type} is something else{hint}")

    @classmethod
    def from_url(cls, url: str, *, media_type: str = "", **extras: str) -> Self:
        """
        Name an address; nothing is fetched here: the provider reads it. A ``data:`` address becomes its bytes.

        Raises:
            ValueError: It is not an address, or one of a local file.
        """
        data = _DATA_URL.match(url)
        if data is not None:
            try:
                content = base64.b64decode(data[2], validate=False)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"{cls.__name__}: the data: address is not base64 ({error})") from error
            return cls.from_bytes(content, media_type=media_type or data[1] or "", **extras)
        if not _URL.match(url):
            shown = url if len(url) <= 60 else url[:60] + "…"
            raise ValueError(f"{cls.__name__}: {shown!r} is not an address; for a file use {cls.__name__}.from_file")
        found = media_type or media_type_of(url)
        cls._refuse_others(found)
        return cls(found, None, url, **extras)

    def to_text(self) -> str:
        """Return the address, the bytes as a ``data:`` address, or JSON where there is more to say."""
        value = self.to_json()
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def to_parts(self) -> tuple[Part, ...]:
        """Return this very object: it is a content part."""
        return (self,)  # type: ignore[return-value]  # the subclasses are ImagePart, AudioPart and FilePart

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read an address, or the JSON of an object with one."""
        return cls.from_json(json.loads(text)) if text.startswith("{") else cls.from_url(text)

    def to_json(self) -> object:
        """Return the address; an object where there is more to say."""
        more = {name: value for name in self._extras if (value := getattr(self, name))}
        if type(self).from_url(self.data_url).media_type != self.media_type:
            more["media_type"] = self.media_type
        return {"url": self.data_url, **more} if more else self.data_url

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read an address, an object with one, or take bytes."""
        if isinstance(value, (bytes, bytearray)):
            return cls.from_bytes(bytes(value))
        if isinstance(value, Mapping) and isinstance(value.get("url"), str):
            given = {name: value[name] for name in ("media_type", *cls._extras) if name in value}
            return cls.from_url(value["url"], **given)
        if not isinstance(value, str):
            raise ValueError(f"expected {cls.__name__}, an address or bytes, got {type(value).__name__}")
        return cls.from_url(value)

    def __repr__(self) -> str:
        what = self.url if self.data is None else f"{len(self.data):,} bytes"
        more = "".join(f", {name}={value!r}" for name in self._extras if (value := getattr(self, name)))
        kind = f"{self.media_type}, " if self.media_type else ""
        return f"{type(self).__name__}({kind}{what}{more})"
