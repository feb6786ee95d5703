"""The page about providers has a row for each of the table's, and says of it what the table says."""

from __future__ import annotations

import re
from pathlib import Path

from dspex.services.lm.providers import PROVIDERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/providers.md"
FEATURES = ROOT / "docs/features.md"


def rows() -> dict[str, list[str]]:
    """Return the cells of the page's table by the provider's name."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    return {row[0].strip("`"): row for row in cells if len(row) == 4 and row[0].strip("`") in PROVIDERS}


def test_each_provider_has_its_row() -> None:
    """No name is missing, and none is made up."""
    assert rows().keys() == PROVIDERS.keys()


def test_a_row_says_where_the_key_is_kept_and_whether_it_is_wanted() -> None:
    """In the order in which the variables are read."""
    for name, row in rows().items():
        assert tuple(re.findall(r"`([A-Z_]+)`", row[1])) == PROVIDERS[name].key_env
        assert ("if you set one" in row[1]) == (not PROVIDERS[name].needs_key)


def test_a_row_says_the_address_of_a_server_of_one_s_own() -> None:
    """The others are reached at their providers' public addresses."""
    for name, row in rows().items():
        local = re.findall(r"`(http[^`]+)`", row[2])
        assert local == ([] if PROVIDERS[name].needs_key else [PROVIDERS[name].base_url])


def test_a_row_says_whether_there_are_vectors() -> None:
    """Which ``Embed`` needs."""
    assert {name: row[3] == "yes" for name, row in rows().items()} == {
        name: each.embeddings is not None for name, each in PROVIDERS.items()
    }


def test_the_features_count_them() -> None:
    """A number in prose is out of date first."""
    assert f"[{len(PROVIDERS)} provider names](how-to/providers.md)" in FEATURES.read_text()
