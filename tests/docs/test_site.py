"""The built documentation is whole without a network: its pages load nothing from another host."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.missing import developers_tool

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Elements that a browser loads something for, and the attribute that says what."""


class Loads(HTMLParser):
    """The addresses that a browser fetches for a page by itself; a link is followed by the reader, not by it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        if tag in LOADING and (address := given.get(LOADING[tag])):
            self.found.append(address)


def outside(page: str) -> list[str]:
    loads = Loads()
    loads.feed(page)
    return [address for address in loads.found if re.match(r"(?:[a-z]+:)?//", address)]


def hook() -> dict[str, Any]:
    developers_tool("mkdocs")
    return runpy.run_path(str(ROOT / "docs/_mermaid.py"))


def test_outside_addresses_are_found() -> None:
    """Addresses that a browser loads, whatever the scheme; not those that a reader may follow."""
    page = '<a href="https://a.example"></a><script src="//b.example/x.js"></script><img src="c.png"><link href="https://d">'

    assert outside(page) == ["//b.example/x.js", "https://d"]


def test_pages_with_a_diagram_load_our_copy_first() -> None:
    """The theme's script looks once, when it runs, whether Mermaid is there."""
    on_post_page = hook()["on_post_page"]
    script = '<script src="../assets/javascripts/bundle.0.min.js"></script>'
    page = SimpleNamespace(url="architecture/")

    drawn = on_post_page(f'<pre class="mermaid"></pre>{script}', page=page)
    assert drawn.index('<script src="../assets/mermaid.min.js">') < drawn.index(script)
    assert on_post_page(script, page=page) == script


def test_the_theme_has_no_address_to_fetch_from(tmp_path: Path) -> None:
    """In the theme that is installed, not in one that a test has made up."""
    on_post_build = hook()["on_post_build"]
    spec = importlib.util.find_spec("material")
    assert spec is not None
    assert spec.origin is not None
    scripts = tmp_path / "assets/javascripts"
    scripts.mkdir(parents=True)
    for bundle in Path(spec.origin).parent.glob("templates/assets/javascripts/bundle.*.min.js"):
        (scripts / bundle.name).write_text(bundle.read_text())

    on_post_build(config=SimpleNamespace(site_dir=str(tmp_path)))
    assert [path.name for path in scripts.iterdir() if "unpkg" in path.read_text()] == []
    with pytest.raises(RuntimeError, match="another way than before"):
        on_post_build(config=SimpleNamespace(site_dir=str(tmp_path)))


@pytest.mark.slow
def test_no_page_loads_from_another_host(tmp_path: Path) -> None:
    """Every page of the site as it is built."""
    hook()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))

    assert len(pages) > 50
    assert {page.name: found for page in pages if (found := outside(page.read_text()))} == {}
    sheets = [path for path in (tmp_path / "site").rglob("*.css") if re.search(r"url\([\"']?https?:", path.read_text())]
    assert sheets == []
    assert (tmp_path / "site/assets/mermaid.min.js").exists()
