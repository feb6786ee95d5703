"""The common part of wires that use blocks: the order of an answer's pieces, addresses that hold data, merging."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from dspex.protocols.content import MediaPart, Part, ReasoningPart, TextPart, ToolCall

__all__ = ["add_extra", "inline_data", "place", "plain_json", "replayed"]

_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_AT: Final = "at"
"""In the data of a reasoning part: how many characters and calls of the answer came before it."""


def place(characters: int, calls: int) -> dict[str, object]:
    """Return the entry that notes where in an answer a reasoning part stood; nothing for the beginning."""
    return {_AT: [characters, calls]} if characters or calls else {}


def replayed(content: tuple[Part, ...], provider: str) -> Iterator[Part]:
    """
    Yield the parts of an assistant's turn in the order in which the provider sent them.

    ``Completion.turn`` puts thoughts first, then the text, then the calls; providers that think between calls want
    each thought where it was. A turn of another shape comes as it is; thoughts of other wires are left out.
    """
    content = tuple(part for part in content if not isinstance(part, ReasoningPart) or part.provider == provider)
    thoughts = [part for part in content if isinstance(part, ReasoningPart)]
    texts = [part for part in content if isinstance(part, TextPart)]
    calls = [part for part in content if isinstance(part, ToolCall)]
    if len(texts) > 1 or [*thoughts, *texts, *calls] != list(content):
        yield from content
        return
    text = texts[0].text if texts else ""
    said = called = 0
    for thought in thoughts:
        characters, number = _position(thought)
        if characters > said and said < len(text):
            yield TextPart(text[said:characters])
            said = characters
        yield from calls[called:number]
        called = max(called, number)
        yield thought
    if said < len(text):
        yield TextPart(text[said:])
    yield from calls[called:]


def _position(thought: ReasoningPart) -> tuple[int, int]:
    at = thought.data.get(_AT)
    if isinstance(at, (list, tuple)) and len(at) == 2 and all(type(each) is int and each >= 0 for each in at):
        return at[0], at[1]
    return 0, 0


def inline_data(part: MediaPart) -> tuple[str, str] | None:
    """Return media type and base64 of a part that holds its bytes, in a ``data:`` address too; None for others."""
    if part.data is not None:
        return part.media_type, part.base64
    url = part.url or ""
    if url[:5].lower() != "data:":
        return None
    head, _, body = url[5:].partition(",")
    media_type, *attributes = head.split(";")
    data = unquote_to_bytes(body)
    if attributes and attributes[-1].strip().lower() == "base64":
        try:
            data = base64.b64decode(data)
        except (binascii.Error, ValueError):
            return None
    return part.media_type or media_type or "text/plain", base64.b64encode(data).decode("ascii")


def add_extra(fields: dict[str, object], extra: Mapping[str, object]) -> None:
    """
    Add what the user passes on as it is.

    An object joins ours of the same name, entry by entry; tools join ours; anything else replaces ours.
    """
    for name, value in extra.items():
        ours = fields.get(name)
        if isinstance(ours, dict) and isinstance(value, Mapping):
            fields[name] = {**ours, **value}
        elif name == "tools" and isinstance(ours, list) and isinstance(value, (list, tuple)):
            fields[name] = [*ours, *value]
        else:
            fields[name] = value


def plain_json(value: object) -> str:
    """
    Return what the other side sent as compact JSON again.

    Raises:
        ValueError: It is nested too deeply to be written.
    """
    try:
        return _to_json(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
