"""Every text of a record, or of an answer that comes in pieces, changed by one rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from dspex.protocols.lm import LMDelta

__all__ = ["DeltaTexts", "with_texts"]

T = TypeVar("T")


def with_texts(value: T, change: Callable[[str], str]) -> T:
    """
    Return a text, JSON value or record with ``change`` made to each of its texts, keys of mappings included.

    Args:
        value: The value; it is untouched.
        change: Returns the very same text where there is nothing to change. Then the value is the very same object.
    """
    found: T = _changed(value, change)
    return found


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    kind = type(value)
    if kind is str:
        return change(value)
    if kind in (list, tuple):
        made = [_changed(each, change) for each in value]
        return value if all(map(_is, made, value)) else kind(made)
    if kind is dict or isinstance(value, Mapping):
        pairs = {_changed(name, change): _changed(each, change) for name, each in value.items()}
        same = len(pairs) == len(value) and all(name in value and pairs[name] is value[name] for name in pairs)
        return value if same else pairs
    if is_dataclass(kind):
        changes = {}
        for each in fields(kind):
            old = getattr(value, each.name)
            new = _changed(old, change)
            if new is not old and each.init:
                changes[each.name] = new
        return replace(value, **changes) if changes else value
    return value


def _is(one: object, other: object) -> bool:
    return one is other


class DeltaTexts:
    """
    Changes an answer that comes in pieces; subclasses say how a text is changed, and how much of it must wait.

    The end of a piece that only the next one explains is held back until that comes.

    Args:
        on_delta: Where changed pieces go.
    """

    __slots__ = ("_held", "_on_delta")

    def __init__(self, on_delta: Callable[[LMDelta], Awaitable[object]]) -> None:
        self._on_delta = on_delta
        self._held: dict[tuple[int, int | None, str], str] = {}

    def split(self, text: str) -> tuple[str, str]:
        """Return what may be told of a text now, changed, and its end, which waits as it is."""
        raise NotImplementedError

    def rest(self, text: str) -> str:
        """Return what is told of an end that waited in vain."""
        return text

    async def take(self, delta: LMDelta) -> None:
        """Hand on what of a piece can be told; a piece of which nothing is left is dropped."""
        text = self._told(delta, "text", delta.text)
        reasoning = self._told(delta, "reasoning", delta.reasoning)
        arguments = self._told(delta, "arguments", delta.arguments)
        if (text, reasoning, arguments) != (delta.text, delta.reasoning, delta.arguments):
            if not (text or reasoning or arguments or delta.tool_name):
                return
            delta = replace(delta, text=text, reasoning=reasoning, arguments=arguments)
        await self._on_delta(delta)

    async def finish(self) -> None:
        """Hand on what has waited in vain."""
        held, self._held = self._held, {}
        for (index, tool, name), end in held.items():
            blank = {"text": "", "reasoning": "", "arguments": "", name: self.rest(end)}
            text, reasoning, arguments = blank.values()
            await self._on_delta(LMDelta(index, text, reasoning, tool, arguments=arguments))

    def _told(self, delta: LMDelta, name: str, text: str) -> str:
        if not text:
            return text
        place = (delta.index, delta.tool, name)
        if self._held:
            text = self._held.pop(place, "") + text
        text, end = self.split(text)
        if end:
            self._held[place] = end
        return text
