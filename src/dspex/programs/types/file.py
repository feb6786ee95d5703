"""Documents as fields."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self, final

from dspex.programs.types._media import Media
from dspex.protocols.content import FilePart

__all__ = ["File"]


@final
class File(Media, FilePart):
    """
    A document, a PDF for example: ``File.from_file("report.pdf")``; otherwise as ``Image``.

    It keeps its ``name``.
    """

    @classmethod
    def from_id(cls, provider_id: str, *, media_type: str = "", name: str = "") -> Self:
        """
        Name a file that was given to the provider before, by the id it gave: ``file-abc123``.

        Raises:
            ValueError: There is no id.
        """
        if not provider_id or any(char.isspace() for char in provider_id):
            raise ValueError(f"File: {provider_id!r} is not the id of a file")
        return cls.from_url(f"file-id://{provider_id}", media_type=media_type, name=name)

    _extras: ClassVar[tuple[str, ...]] = ("name",)
    _default_type: ClassVar[str] = "application/octet-stream"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, media_type: str = "", **extras: str) -> Self:
        """
        Read a file; the media type is found by its first bytes or its suffix, the name is the file's.

        Raises:
            OSError: The file cannot be read.
        """
        return super().from_file(path, media_type=media_type, **{"name": Path(path).name, **extras})
