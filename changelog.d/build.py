"""
Build CHANGELOG.md from the fragments in this folder: ``make changelog``.

The section ``Unreleased`` is written anew each time; released sections stay as they are. With ``--release 0.2.0`` the
fragments become the section of that version and are deleted.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
"""The kinds in the order in which a release lists them."""

HEAD = """# Changelog

Built from the fragments in `changelog.d` by `make changelog`. Versions follow the
[deprecation policy](docs/contributing/deprecations.md).
"""
UNRELEASED = "## Unreleased"


class FragmentInvalid(Exception):
    """The name or the text of a fragment is wrong; the message says which and how to repair it."""


def read_fragments(folder: Path) -> dict[str, list[str]]:
    """
    Return the texts of the fragments by kind, each kind sorted by slug.

    Raises:
        FragmentInvalid: A name is not ``<slug>.<kind>.md``, or a text is empty or has paragraphs.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.glob("*.md")):
        if path.name == "README.md":
            continue
        _, _, kind = path.stem.rpartition(".")
        if not re.fullmatch(r"[a-z0-9-]+\.[a-z]+", path.stem) or kind not in found:
            raise FragmentInvalid(f"{path.name}: expected <slug>.<kind>.md, kind one of {', '.join(KINDS)}")
        text = path.read_text(encoding="utf-8").strip()
        if not text or "\n\n" in text:
            raise FragmentInvalid(f"{path.name}: expected one paragraph of one to three sentences")
        found[kind].append(text)
    return found


def section(title: str, fragments: dict[str, list[str]]) -> str:
    """Return one section; a text of several lines is indented below its dash."""
    parts = [title]
    for kind, texts in fragments.items():
        if texts:
            items = "\n".join("- " + text.replace("\n", "\n  ") for text in texts)
            parts.append(f"### {kind.capitalize()}\n\n{items}")
    return "\n\n".join(parts) + "\n"


def build(old: str, fragments: dict[str, list[str]], title: str = UNRELEASED) -> str:
    """Return the changelog: its head, a section of the fragments, and the released sections of ``old``."""
    released = [each for each in re.split(r"^(?=## )", old, flags=re.MULTILINE)[1:] if not each.startswith(UNRELEASED)]
    new = [section(title, fragments)] if any(fragments.values()) else []
    return "\n".join([HEAD, *new, *(each.rstrip("\n") + "\n" for each in released)])


def main(arguments: list[str] | None = None) -> int:
    """Write CHANGELOG.md; 1 with ``--check`` when it is not as it would be written, 2 when a fragment is invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where the fragments are")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when CHANGELOG.md is out of date")
    parser.add_argument("--release", metavar="VERSION", help="make the fragments the section of this version")
    parser.add_argument("--date", help="the day of the release, YYYY-MM-DD")
    given = parser.parse_args(arguments)
    if (given.release is None) != (given.date is None):
        parser.error("--release and --date go together")
    target: Path = given.folder.resolve().parent / "CHANGELOG.md"
    old = target.read_text(encoding="utf-8") if target.exists() else ""
    try:
        fragments = read_fragments(given.folder)
    except FragmentInvalid as error:
        sys.stderr.write(f"changelog: {error}\n")
        return 2
    title = UNRELEASED if given.release is None else f"## {given.release} ({given.date})"
    new = build(old, fragments, title)
    if given.check:
        return int(new != old)
    target.write_text(new, encoding="utf-8")
    if given.release is not None:
        for path in given.folder.glob("*.*.md"):  # only after the changelog is written: nothing is lost in between
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
