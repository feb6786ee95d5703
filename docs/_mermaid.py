"""
MkDocs hook: diagrams are drawn by our own copy of Mermaid, so that the documentation is whole without a network.

The theme fetches Mermaid from another host, unless a page has loaded it already. So pages with a diagram load the copy
in ``assets`` first, and the addresses in the theme's script are taken out: without the copy a diagram shows as words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.utils import get_relative_url

__all__ = ["on_post_build", "on_post_page"]

_COPY = "assets/mermaid.min.js"  # of mermaid 11, as published; its licence lies beside it
_OUTSIDE = re.compile(r'"https://unpkg\.com/[^"]*"')


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load the copy, before the theme's own script, on pages with a diagram."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(_COPY, page.url)}"></script>'
    # The order matters: the theme's script looks once whether Mermaid is there.
    return re.sub(r"(<script src=\"[^\"]*bundle)", lambda found: script + found[1], output, count=1)


def on_post_build(config: Any, **_: Any) -> None:
    """Take the addresses of other hosts out of the theme's script; one that is not found any more is an error."""
    bundles = list(Path(config.site_dir, "assets/javascripts").glob("bundle.*.min.js"))
    for bundle in bundles:
        text, count = _OUTSIDE.subn('"about:blank"', bundle.read_text(encoding="utf-8"))
        if count == 0:
            raise RuntimeError(f"{bundle.name} fetches Mermaid in another way than before: look at docs/_mermaid.py")
        bundle.write_text(text, encoding="utf-8")
    if not bundles:
        raise RuntimeError("the theme has no bundle any more: look at docs/_mermaid.py")
