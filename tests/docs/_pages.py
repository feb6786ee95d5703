"""
The blocks of a documentation page that are to be run, in order.

``python`` blocks run one after another in one module; ``console`` blocks run the commands after each ``$``, if there
are any. The output of a block must be shown in a ``text`` block below it (in the ``console`` block itself), where
``...`` stands for anything. Comments in the Markdown, which no reader sees, steer this:

- ``<!-- test: vary WHAT -->`` before a ``text`` block lets its numbers differ: times, tokens, ports;
- ``<!-- test: skip REASON -->`` before a block leaves it out;
- ``<!-- test: setup CODE -->`` is a hidden block;
- ``<!-- test: needs MODULE ... -->`` leaves the page out where a module is not installed;
- ``<!-- test: nothing to run: REASON -->`` says why a page has no block.

Every block may use two names that no block defines: ``lm``, the reader's model, and ``simulator``, which plays it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Block", "Page", "read_page"]

_PIECE = re.compile(
    r"^(?P<indent>[ ]*)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```[ ]*$"
    r"|^<!-- test: (?P<word>[\w ]+?)(?:[:\s]+(?P<rest>.*?))?-->[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_WORDS = ("skip", "setup", "needs", "vary", "nothing to run")


@dataclass
class Block:
    """Code and what it prints; ``shown`` is None where the page shows none, ``varies`` when numbers may differ."""

    kind: Literal["python", "console"]
    code: str
    line: int
    shown: str | None = None
    varies: bool = False


@dataclass
class Page:
    """The blocks of one page."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    needs: tuple[str, ...] = ()
    skipped: list[str] = field(default_factory=list)
    nothing_to_run: str = ""


def read_page(path: Path) -> Page:
    """
    Read the blocks and the comments of a page.

    Raises:
        ValueError: A comment says something that is not known, or lacks its reason.
    """
    text = path.read_text(encoding="utf-8")
    page = Page(path)
    skip = False
    last: Block | None = None
    for piece in _PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 1
        if piece["language"] is None:
            word, _, rest = f"{piece['word']} {piece['rest'] or ''}".strip().partition(" ")
            if word == "nothing":
                word, rest = "nothing to run", rest.removeprefix("to run").strip()
            if word not in _WORDS or not rest:
                raise ValueError(f"{path}:{line}: not known or without its reason: {piece[0]!r}")
            if word == "vary" and last is not None:
                last.varies = True
            else:
                skip, last = _note(page, word, rest, line), None
            continue
        code = _dedent(piece["code"], len(piece["indent"]))
        if piece["language"] == "text" and last is not None:
            last.shown, last = code, None
        elif piece["language"] in ("python", "console"):
            last = None if skip else _block(piece["language"], code, line + 1)
            if last is not None and last.code:
                page.blocks.append(last)
        skip = False
    return page


def _note(page: Page, word: str, rest: str, line: int) -> bool:
    """Write down what a comment says; return whether the next block is left out."""
    if word == "setup":
        page.blocks.append(Block("python", rest, line))
    elif word == "needs":
        page.needs += tuple(rest.split())
    elif word == "nothing to run":
        page.nothing_to_run = rest
    else:
        page.skipped.append(f"line {line}: {rest}")
    return word == "skip"


def _block(language: str, code: str, line: int) -> Block:
    if language == "python":
        return Block("python", code, line)
    lines = code.splitlines(keepends=True)
    commands = [each.removeprefix("$ ") for each in lines if each.startswith("$ ")]
    return Block("console", "".join(commands), line, "".join(each for each in lines if not each.startswith("$ ")))


def _dedent(code: str, width: int) -> str:
    return "".join(line[width:] if line[:width].isspace() else line for line in code.splitlines(keepends=True))
