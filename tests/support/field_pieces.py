"""The pieces that a stream parser tells of an answer that comes in chunks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from dspex.programs import Adapter, Signature

__all__ = ["streamed"]


def streamed(
    adapter: Adapter, signature: type[Signature], chunks: Iterable[str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return each field's text and its last value."""
    parser = adapter.stream_parser(signature)
    texts: dict[str, str] = defaultdict(str)
    values: dict[str, Any] = {}
    for pieces in [*map(parser.feed, chunks), parser.finish()]:
        for piece in pieces:
            texts[piece.field] += piece.text
            values[piece.field] = piece.value_so_far
    return dict(texts), values
