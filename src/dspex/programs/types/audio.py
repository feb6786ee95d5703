"""Sound as fields."""

from __future__ import annotations

from typing import ClassVar, final

from dspex.programs.types._media import Media
from dspex.protocols.content import AudioPart

__all__ = ["Audio"]


@final
class Audio(Media, AudioPart):
    """Recorded sound: ``Audio.from_file("call.wav")``, ``Audio.from_bytes(data)``; otherwise as ``Image``."""

    _family: ClassVar[str] = "audio/"
