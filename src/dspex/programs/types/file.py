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

    _extras: ClassVar[tuple[str, ...]] = ("name",)
    _default_type: ClassVar[str] = "application/octet-stream"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, media_type: str = "", **extras: object) -> Self:
        """
        Read a file; the media type is found by its first bytes or its suffix, the name is the file's.

        Raises:
            OSError: The file cannot be read.
        """
        return super().from_file(path, media_type=media_type, **{"name": Path(path).name, **extras})
