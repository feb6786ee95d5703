"""
Pages as one file: the components of the dashboard's page, and data, in HTML that needs nothing else.

The file works from a disk and without a network. Its policy allows the one script and the one style that are in it, by
their hashes, and nothing else; the data is text in a block that no browser runs, and becomes text on the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Final

from dspex._files import write_private
from dspex.errors import FileError, InternalError, TargetExists

__all__ = ["PAGE", "one_file", "write_page"]

_BEGIN: Final = '<!doctype html>\n<html lang="en" data-made-by="dspex">'

PAGE: Final = Path(__file__).parent / "app" / "dashboard" / "page"
"""The components, as plain files."""

_IMPORT: Final = re.compile(r'^import \{([^}]*)\} from "\./([\w/.-]+)";$', re.MULTILINE)
_EXPORTED: Final = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)
_LIST: Final = re.compile(r"^export \{([^}]*)\};$|export\{([^}]*)\};?\s*\Z", re.MULTILINE)
_PAIR: Final = re.compile(r"(\w+)\s+as\s+(\w+)")


def one_file(entry: str, data: object, *, title: str) -> str:
    """
    Return a page as HTML.

    Args:
        entry: The module that draws it, a name in ``PAGE``; it finds the data in the element ``data``.
        data: JSON values; surrogates and ends of scripts in its texts are escaped.
        title: The page's.
    """
    script = _script(entry)
    style = _text("vendor/uplot.css") + _text("style.css")
    # In a block of data no browser runs anything; "<" as an escape of JSON's keeps the block from being ended.
    block = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    icon = base64.b64encode(_text("icon.svg").encode()).decode()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        (
            _BEGIN,
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="content-security-policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(title)}</title>",
            f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">',
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<noscript>This page needs JavaScript; it fetches nothing.</noscript>",
            f'<script type="application/json" id="data">{block}</script>',
            f'<script type="text/plain" id="licences">{_licences()}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        )
    )


def write_page(path: Path, entry: str, data: object, *, title: str, overwrite: bool = False) -> None:
    """
    Write a page to a file; one of ours that stands there is replaced.

    Raises:
        TargetExists: Something else stands there; it is untouched.
        FileError: It cannot be read or written.
    """
    if not overwrite and not _is_ours(path):
        raise TargetExists(path, "it is not a page of dspex")
    write_private(path, one_file(entry, data, title=title))


def _is_ours(path: Path) -> bool:
    """True where no file, an empty one, or a page of dspex stands."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_BEGIN))
    except FileNotFoundError:
        return True
    except OSError as error:
        raise FileError(path, f"it cannot be read: {error.strerror or error}") from error
    return not begin or begin.decode("utf-8", "replace") == _BEGIN


def _text(name: str) -> str:
    return (PAGE / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _licences() -> str:
    """Return the words under which the code of others in the file may be handed on."""
    found = sorted((PAGE / "vendor").glob("LICENSE-*"))
    return "\n\n".join(f"{path.name[8:]}\n\n{path.read_text('utf-8')}" for path in found).replace("</", "< /")


def _script(entry: str) -> str:
    """Return the module and those that it imports as one script, each in a function of its own."""
    done: dict[str, str] = {}
    _add(entry, done, ())
    parts = [_text("vendor/uplot.js"), "const modules = {};", *done.values()]
    script = "\n".join(parts)
    if "</script" in script.lower() or "<!--" in script:
        raise InternalError("a module holds the end of a script")
    return f"(() => {{\n{script}\n}})();\n"


def _add(name: str, done: dict[str, str], above: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in above:
        raise InternalError(f"the page's modules import each other in a circle: {' '.join((*above, name))}")
    text = _text(name)
    for _, other in _IMPORT.findall(text):
        _add(other, done, (*above, name))
    body = _IMPORT.sub(lambda found: f'const {{{_renamed(found[1])}}} = modules["{found[2]}"];', text)
    names = {each: each for each in _EXPORTED.findall(body)}
    for plain, packed in _LIST.findall(body):
        for each in (plain or packed).split(","):
            pair = _PAIR.fullmatch(each.strip())
            names |= {pair[2]: pair[1]} if pair is not None else {each.strip(): each.strip()}
    body = re.sub(r"^export (?=(?:async )?(?:function|const|class) )", "", _LIST.sub("", body), flags=re.MULTILINE)
    told = ", ".join(f"{outer}: {inner}" for outer, inner in names.items())
    done[name] = f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {told} }};\n}})();'


def _renamed(names: str) -> str:
    return _PAIR.sub(r"\1: \2", names)
