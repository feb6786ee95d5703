"""The page's own files: code of others as its makers publish it, and nothing from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from dspex.app.dashboard import web

PAGE = web.PAGE
VENDOR = PAGE / "vendor"
OWN = sorted(path for path in PAGE.iterdir() if path.suffix in web.KINDS)


def test_code_of_others_is_as_it_was_published() -> None:
    sums = {line.split()[1]: line.split()[0] for line in (VENDOR / "SHA256SUMS").read_text().splitlines()}
    code = {path.name for path in VENDOR.iterdir() if path.suffix in web.KINDS}

    assert sums.keys() == code
    for name, expected in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == expected, name


def test_code_of_others_is_small_and_its_licences_lie_beside_it() -> None:
    packed = sum(len(gzip.compress(path.read_bytes())) for path in VENDOR.iterdir() if path.suffix in web.KINDS)

    assert packed <= 30 * 1024
    assert {path.name for path in VENDOR.glob("LICENSE-*")} == {"LICENSE-htm", "LICENSE-preact", "LICENSE-uplot"}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere_and_nothing_becomes_html(path: Path) -> None:
    """The policy that is sent along forbids it as well; this tells it to whoever writes the page."""
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert not re.search(r"https?://|//[a-z]+\.[a-z]{2}", text)
    assert not re.search(r"innerHTML|outerHTML|dangerously|insertAdjacent|document\.write|\beval\(|new Function", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=\"", text)


def test_every_file_that_is_asked_for_is_there() -> None:
    asked = {
        found
        for path in OWN
        for found in re.findall(
            r"(?:from |src=|href=)\"(\.?/?[\w/.-]+\.(?:js|css|svg))\"", path.read_text(encoding="utf-8")
        )
    }

    assert "./store.js" in asked
    assert [name for name in asked if not (PAGE / name).exists()] == []
