"""MkDocs hook: the order of the pages beside every page, which otherwise is that of the alphabet."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.nav import Section

__all__ = ["on_nav"]

_FIRST = (
    *("index.md", "tutorial.md", "features.md", "how-to", "runtime", "reference"),
    *("architecture.md", "internals", "decisions", "contributing"),
)
"""Pages and folders as a reader needs them; what is not named comes last."""

_GUIDES = {
    "Programs": "extraction first-agent adapters field-types tools agents several-attempts streams migrate",
    "Retrieval": "retrievers index-documents multi-hop",
    "Running": "load errors cache share-a-cache money several-workers rows resume plain-code serve deploy runtime",
    "Providers": "point-it-at-your-provider providers local-models network own-provider",
    "Learning": "evaluate when-not-to-optimize optimize optimize-overnight fine-tune optimizers-from-dspy "
    "write-an-optimizer",
    "Watching": "watch reports observe opentelemetry",
    "Testing": "testing chaos",
}
"""The guides by the question that leads a reader to them; each file of docs/how-to stands here once."""


def on_nav(nav: Any, **_: Any) -> Any:
    """Put the pages and sections of the first level in order, and the guides into sections of their own."""
    nav.items.sort(key=_place)
    at = next(number for number, item in enumerate(nav.items) if _folder(item) == "how-to")
    nav.items[at : at + 1] = _sections(nav.items[at].children)
    return nav


def _sections(guides: list[Any]) -> list[Any]:
    """Part the guides into sections; one that stands nowhere stops the build, which says where to write it."""
    known = {PurePosixPath(page.file.src_uri).stem: page for page in guides}
    placed = [name for names in _GUIDES.values() for name in names.split()]
    if wrong := sorted(set(known).symmetric_difference(placed)):
        raise PluginError(f"docs/_order.py: {', '.join(wrong)} must stand once in _GUIDES, and in docs/how-to")
    sections = [Section(title, [known[name] for name in names.split()]) for title, names in _GUIDES.items()]
    for section in sections:
        for page in section.children:
            page.parent = section
    return sections


def _folder(item: Any) -> str:
    """Return the folder that a page, or the first page of a section, is in; a page of no folder is its own."""
    page = item if item.is_page else next(each for each in item.children if each.is_page)
    return str(page.file.src_uri).partition("/")[0]


def _place(item: Any) -> int:
    """Return where a page or section stands."""
    first = _folder(item)
    return _FIRST.index(first) if first in _FIRST else len(_FIRST)
