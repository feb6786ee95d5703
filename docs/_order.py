"""MkDocs hook: the order of the pages beside every page, which otherwise is that of the alphabet."""

from __future__ import annotations

from typing import Any

__all__ = ["on_nav"]

_FIRST = (
    *("index.md", "tutorial.md", "features.md", "how-to", "runtime", "reference"),
    *("architecture.md", "internals", "decisions", "contributing"),
)
"""Pages and folders as a reader needs them; what is not named comes last."""


def on_nav(nav: Any, **_: Any) -> Any:
    """Put the pages and sections of the first level in order."""
    nav.items.sort(key=_place)
    return nav


def _place(item: Any) -> int:
    """Return where a page, or a section by the folder of its first page, stands."""
    page = item if item.is_page else next(each for each in item.children if each.is_page)
    first = page.file.src_uri.partition("/")[0]
    return _FIRST.index(first) if first in _FIRST else len(_FIRST)
