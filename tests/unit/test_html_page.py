"""Pages as one file: nothing in them can become a script, and nothing of somebody else's is written over."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex._html import one_file, write_page
from dspex.errors import TargetExists

ENTRIES = ("report.js", "replay.js")
HOSTILE = "</script><script>window.hacked = 1</script><!--<img src=x onerror=window.hacked=1>\u2028\ud800"


class Parts(HTMLParser):
    """The elements of a page, with what is in scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def all(self, name: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for tag, attributes, text in self.found if tag == name]


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("entry", ENTRIES)
def test_only_its_own_script_and_style_may_run(entry: str) -> None:
    page = Parts(one_file(entry, {"kind": "x"}, title="a report"))
    (policy,) = [each["content"] for each, _ in page.all("meta") if each.get("http-equiv") == "content-security-policy"]
    scripts = page.all("script")
    (style,) = page.all("style")

    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert [each.get("type") for each, _ in scripts] == ["application/json", "text/plain", None]
    assert f"script-src {digest(scripts[2][1])};" in policy
    assert f"style-src {digest(style[1])};" in policy
    assert not any("src" in each or "href" in each for tag, each, _ in page.found if tag != "link")
    assert [each["href"][:5] for each, _ in page.all("link") if each["href"]] == ["data:"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_its_modules_are_one_script_without_imports(entry: str) -> None:
    script = Parts(one_file(entry, {}, title="t")).all("script")[2][1]

    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert script.count('modules["vendor/htm-preact.js"] = ') == 1
    assert script.index('modules["parts.js"] = ') < script.index(f'modules["{entry}"] = ')


@given(st.text(max_size=80))
def test_every_text_comes_back_as_it_was(text: str) -> None:
    page = Parts(one_file("report.js", {"text": text}, title=text))
    assert json.loads(page.all("script")[0][1]) == {"text": text}
    assert len(page.all("script")) == 3


def test_texts_that_look_like_ends_of_scripts_stay_data() -> None:
    text = one_file("report.js", {"answer": HOSTILE, HOSTILE: 1}, title=HOSTILE.replace("\ud800", ""))
    page = Parts(text)

    assert len(page.all("script")) == 3
    assert page.all("img") == []
    assert json.loads(page.all("script")[0][1])["answer"] == HOSTILE
    text.encode()  # whatever was in the texts


def test_it_is_small_and_its_licences_are_in_it() -> None:
    text = one_file("replay.js", {}, title="t")

    assert len(text) < 200_000
    assert all(
        name in text for name in ("preact\n", "htm\n", "uplot\n", "Permission is hereby granted", "Apache License")
    )


def test_what_is_not_a_page_of_ours_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "report.js", {"n": 1}, title="one")
    write_page(path, "report.js", {"n": 2}, title="two")
    assert "<title>two</title>" in path.read_text()

    path.write_text("<!doctype html>\n<html>mine")
    with pytest.raises(TargetExists, match="it is not a page of dspex"):
        write_page(path, "report.js", {}, title="three")
    assert path.read_text().endswith("mine")
    write_page(path, "report.js", {}, title="four", overwrite=True)
    assert "<title>four</title>" in path.read_text()
