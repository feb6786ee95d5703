"""
Halves of characters, made harmless at the door.

JSON can say half of an emoji by its escape, and models that count tokens stop there; UTF-8 has no form for it, so
that whatever is sent, written or hashed after it would fail. Two halves that belong together become their character,
a half without its other becomes U+FFFD, the sign for what could not be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dspex.protocols.lm import LMDelta, LMResponse, Message

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
    found: T = _mended(value)
    return found


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


def _mended(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _mended_text(value)
    if kind in (list, tuple):
        made = [_mended(each) for each in value]
        return value if all(map(_is, made, value)) else kind(made)
    if kind is dict or isinstance(value, Mapping):
        pairs = {_mended(name): _mended(each) for name, each in value.items()}
        same = len(pairs) == len(value) and all(name in value and pairs[name] is value[name] for name in pairs)
        return value if same else pairs
    if is_dataclass(kind):
        changes = {}
        for each in fields(kind):
            old = getattr(value, each.name)
            new = _mended(old)
            if new is not old and each.init:
                changes[each.name] = new
        return replace(value, **changes) if changes else value
    return value


def _is(one: object, other: object) -> bool:
    return one is other


class DeltaMender:
    """
    Mends an answer that comes in pieces: a half at the end of one waits for its other half in the next.

    Args:
        on_delta: Where mended pieces go.
    """

    __slots__ = ("_held", "_on_delta")

    def __init__(self, on_delta: Callable[[LMDelta], Awaitable[object]]) -> None:
        self._on_delta = on_delta
        self._held: dict[tuple[int, str, int | None], str] = {}

    async def take(self, delta: LMDelta) -> None:
        """Hand on what is whole of a piece."""
        if self._held or not (delta.text.isascii() and delta.reasoning.isascii() and delta.arguments.isascii()):
            whole: dict[str, Any] = {
                name: self._whole((delta.index, name, delta.tool), getattr(delta, name))
                for name in ("text", "reasoning", "arguments")
            }
            delta = replace(delta, **whole)
            if not (any(whole.values()) or delta.tool_name):
                return
        await self._on_delta(delta)

    async def finish(self) -> None:
        """Hand on what waited for its other half in vain."""
        held, self._held = self._held, {}
        for index, name, tool in held:
            more: dict[str, Any] = {name: "\ufffd"}
            await self._on_delta(LMDelta(index, tool=tool, **more))

    def _whole(self, place: tuple[int, str, int | None], text: str) -> str:
        if not text:
            return text
        text = self._held.pop(place, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[place] = text[-1]
            text = text[:-1]
        return _mended_text(text)
