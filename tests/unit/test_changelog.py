"""The changelog is built from the fragments, and what was released stays as it was."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "changelog.d"
SCRIPT: dict[str, Any] = runpy.run_path(str(FOLDER / "build.py"))
main: Callable[[list[str]], int] = SCRIPT["main"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one new feature and two repairs."""
    made = tmp_path / "changelog.d"
    made.mkdir()
    (made / "README.md").write_text("# About fragments\n")
    (made / "zebra.fixed.md").write_text("Zebras have stripes.\n")
    (made / "antler.fixed.md").write_text("Antlers grow\nagain.\n")
    (made / "moose.added.md").write_text("There are moose.\n")
    return made


def changelog(folder: Path) -> str:
    return (folder.parent / "CHANGELOG.md").read_text()


def test_fragments_are_listed_by_kind_and_slug(folder: Path) -> None:
    """A text of two lines stays one item of the list."""
    assert main(["--folder", str(folder)]) == 0

    _, _, unreleased = changelog(folder).partition("## Unreleased\n")
    assert unreleased == (
        "\n### Added\n\n- There are moose.\n\n### Fixed\n\n- Antlers grow\n  again.\n- Zebras have stripes.\n"
    )
    assert len(list(folder.glob("*.md"))) == 4


def test_building_twice_changes_nothing(folder: Path) -> None:
    """The check tells whether the file is as it would be written."""
    assert main(["--folder", str(folder), "--check"]) == 1
    main(["--folder", str(folder)])
    first = changelog(folder)
    main(["--folder", str(folder)])

    assert changelog(folder) == first
    assert main(["--folder", str(folder), "--check"]) == 0


def test_a_release_takes_the_fragments_and_stays_as_it_was(folder: Path) -> None:
    """Later builds write the part above it only."""
    main(["--folder", str(folder)])
    main(["--folder", str(folder), "--release", "0.2.0", "--date", "2030-01-31"])
    released = changelog(folder)
    assert [path.name for path in folder.glob("*.md")] == ["README.md"]
    assert "## 0.2.0 (2030-01-31)" in released
    assert "Unreleased" not in released

    (folder / "newt.removed.md").write_text("Newts are gone.\n")
    main(["--folder", str(folder)])
    assert changelog(folder).endswith(released[released.index("## 0.2.0") :])
    assert changelog(folder).index("Newts are gone.") < changelog(folder).index("## 0.2.0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("moose.md", "No kind."),
        ("moose.improved.md", "A kind that is not in the list."),
        ("Moose_2.added.md", "A slug with other letters."),
        ("moose.fixed.md", ""),
        ("moose.fixed.md", "Two\n\nparagraphs."),
    ],
)
def test_an_invalid_fragment_is_refused_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    """Nothing is written and nothing is deleted."""
    (folder / name).write_text(text)

    assert main(["--folder", str(folder), "--release", "1.0", "--date", "2030-01-31"]) == 2
    assert name in capsys.readouterr().err
    assert not (folder.parent / "CHANGELOG.md").exists()
    assert (folder / "zebra.fixed.md").exists()


def test_every_fragment_of_this_repository_is_valid() -> None:
    """A fragment with a wrong name would be left out of a release."""
    assert any(SCRIPT["read_fragments"](FOLDER).values())
