"""Every block of the documentation runs, and prints what the page says it prints."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs._pages import Block, Page, read_page

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("_run_page.py")
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/index.md",
    *sorted((ROOT / "docs").glob("tutorial*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
    *sorted((ROOT / "docs/runtime").glob("*.md")),
    *sorted((ROOT / "docs/contributing").glob("add-*.md")),
]
SAME = doctest.OutputChecker()
KEYS = ("OPENAI_API_KEY", "GROQ_API_KEY")
"""The machine's own keys are none of the pages' business."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    """The blocks of a page run in order, each as it stands, and print what is shown below them."""
    page = read_page(path)
    if missing := _missing(page):
        pytest.skip(f"{path.name} needs {', '.join(missing)}")
    if not page.blocks:
        assert page.nothing_to_run or path.name == "README.md", f"{path.name} runs nothing and does not say why"
        return
    for block, result in zip(page.blocks, _run(page, tmp_path), strict=False):
        where = f"{path.name}, line {block.line}"
        assert not result["error"], f"{where} failed:\n{result['error']}"
        _check_output(block, result["printed"], where)


def _missing(page: Page) -> list[str]:
    return [name for name in page.needs if importlib.util.find_spec(name) is None]


def _check_output(block: Block, printed: str, where: str) -> None:
    if block.shown is None:
        assert not printed, f"{where} prints what the page does not show:\n{printed}"
        return
    shown, told = (block.shown, printed) if not block.varies else map(_without_numbers, (block.shown, printed))
    same = SAME.check_output(shown, told, doctest.ELLIPSIS)
    assert same, f"{where}: the page shows\n{block.shown}\nand this is printed\n{printed}"


def _without_numbers(text: str) -> str:
    """Fingerprints, then numbers, each become a sign."""
    return re.sub(r"\d+(?:[.,]\d+)*", "#", re.sub(r"\b[0-9a-f]{8}\b", "#", text))


def _run(page: Page, folder: Path) -> list[dict[str, str]]:
    blocks = json.dumps([[block.kind, block.code, block.line] for block in page.blocks])
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    name = "page_" + page.path.stem.replace("-", "_")
    done = subprocess.run(
        [sys.executable, RUNNER, name],
        input=blocks,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, str]] = json.loads(done.stdout)
    return results


def test_comment_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """A misspelt comment must not leave a block out by accident."""
    page = tmp_path / "page.md"
    page.write_text("<!-- test: skipp it -->\n")
    with pytest.raises(ValueError, match="skipp"):
        read_page(page)


def test_blocks_comments_and_outputs_are_read_in_order(tmp_path: Path) -> None:
    """A hidden block, a shown one with its output, one left out with its reason, and a command."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- test: setup\nx = 1\n-->\n\n```python\nprint(x)\n```\n\nIt prints:\n\n```text\n1\n```\n\n"
        "<!-- test: skip needs a key -->\n```python\ncall()\n```\n\n```console\n$ dspex version\ndspex ...\n```\n"
    )
    found = read_page(page)

    assert [(each.kind, each.code.strip(), each.shown) for each in found.blocks] == [
        ("python", "x = 1", None),
        ("python", "print(x)", "1\n"),
        ("console", "dspex version", "dspex ...\n"),
    ]
    assert found.skipped == ["line 15: needs a key"]
