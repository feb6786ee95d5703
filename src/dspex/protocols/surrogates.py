"""
Halves of characters, made harmless at the door.

JSON can say half of an emoji by its escape, and models that count tokens stop there; UTF-8 has no form for it, so
that whatever is sent, written or hashed after it would fail. Two halves that belong together become their character,
a half without its other becomes U+FFFD, the sign for what could not be read.
"""

from __future__ import annotations

from typing import TypeVar

from dspex.protocols.lm import LMDelta, LMResponse, Message
from dspex.protocols.texts import DeltaTexts, with_texts

__all__ = ["DeltaMender", "mended", "mended_messages", "mended_response"]

T = TypeVar("T")


def _mended_text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mended(value: T) -> T:
    """Return a text, JSON value or record without half characters; the very same object where it has none."""
    return with_texts(value, _mended_text)


def mended_messages(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the turns of a conversation without half characters: quick where all is ASCII."""
    for each in messages:
        content = each.content
        if not isinstance(content, str) or not content.isascii():
            return mended(messages)
    return messages


def mended_response(response: LMResponse) -> LMResponse:
    """Return an answer without half characters: quick where it is text alone, and all is ASCII."""
    names = (response.model, response.request_id or "", *response.headers, *response.headers.values())
    if not all(map(str.isascii, names)):
        return mended(response)
    for each in response.completions:
        if each.tool_calls or each.reasoning or each.logprobs is not None or each.citations:
            return mended(response)
        if not (each.text.isascii() and each.finish_reason.isascii()):
            return mended(response)
    return response


class DeltaMender(DeltaTexts):
    """Mends an answer that comes in pieces: a half at the end of one waits for its other half in the next."""

    __slots__ = ()

    async def take(self, delta: LMDelta) -> None:
        """Hand on what is whole of a piece: quick where all is ASCII."""
        if not self._held and delta.text.isascii() and delta.reasoning.isascii() and delta.arguments.isascii():
            await self._on_delta(delta)
        else:
            await super().take(delta)

    def split(self, text: str) -> tuple[str, str]:
        """Return the text without a first half at its end, and that half."""
        end = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return _mended_text(text[:-1] if end else text), end

    def rest(self, text: str) -> str:
        """Return the sign for a half without its other."""
        return _mended_text(text)
