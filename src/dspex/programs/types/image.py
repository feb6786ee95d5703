"""Images as fields."""

from __future__ import annotations

from typing import ClassVar, final

from dspex.programs.types._media import Media
from dspex.protocols.content import ImagePart

__all__ = ["Image"]


@final
class Image(Media, ImagePart):
    """
    An image: ``Image.from_file("cat.png")``, ``Image.from_url("https://…")``, ``Image.from_bytes(data)``.

    As an input, also inside lists, mappings and models, it stands at its place in the user's turn. ``detail``
    (``low``, ``high``) is how closely OpenAI's models look at it.
    """

    _extras: ClassVar[tuple[str, ...]] = ("detail",)
    _family: ClassVar[str] = "image/"
