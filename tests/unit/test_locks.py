"""
The lock files are closed: installed without dependencies, as `make` does it, nothing is missing.

pip finds the requirements of extras anew even where everything is pinned, so that an installation with dependencies
breaks on the day on which one of them has a new release.
"""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.locks import ENVIRONMENTS, Requires, environment, faults, read_lock, wanted

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS: dict[str, dict[str, Any]] = PROJECT["tool"]["dspex"]["locks"]
METADATA = {
    pin: Requires.of(about["python"], about["requires"])
    for pin, about in json.loads((FOLDER / "metadata.json").read_text()).items()
}

each_lock = pytest.mark.parametrize("name", LOCKS)


def lock_of(name: str) -> str:
    return (FOLDER / f"{name}.lock").read_text()


# --- our own ------------------------------------------------------------------------------------------------


def test_every_lock_is_in_the_table() -> None:
    assert {path.stem for path in FOLDER.glob("*.lock")} == set(LOCKS)


@each_lock
@pytest.mark.parametrize("where", ENVIRONMENTS)
def test_a_lock_has_what_is_required_and_nothing_else(name: str, where: str) -> None:
    """Of the project and of every locked distribution, with the extras that are asked for, and those of the extras."""
    asked = wanted(PROJECT, LOCKS[name]["extras"], LOCKS[name]["groups"])

    assert list(faults(asked, read_lock(lock_of(name)), METADATA, ENVIRONMENTS[where])) == []


@each_lock
def test_every_locked_file_has_a_hash(name: str) -> None:
    assert [each.name for each in read_lock(lock_of(name)) if not each.hashes] == []


@each_lock
def test_no_lock_names_an_index(name: str) -> None:
    assert "://" not in lock_of(name)


@pytest.mark.parametrize("name", [name for name in LOCKS if "part-of" in LOCKS[name]])
def test_a_part_is_locked_as_the_whole_is(name: str) -> None:
    """Then an environment grows from one to the other, and nothing in it is replaced."""
    whole = {(each.name, each.version): each.hashes for each in read_lock(lock_of(LOCKS[name]["part-of"]))}

    for each in read_lock(lock_of(name)):
        assert whole[each.name, each.version] == each.hashes


def test_what_is_installed_requires_what_the_table_of_requirements_says() -> None:
    """The table is not written by hand: metadata that came with the packages says the same."""
    compared = 0
    for pin, told in METADATA.items():
        name, version = pin.split("==")
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version == version:
            own = Requires.of(str(found.metadata.json.get("requires_python", "")), found.requires or ())
            assert (own.python, set(own.requirements)) == (told.python, set(told.requirements)), pin
            compared += 1
    assert compared > 50


# --- made-up ones -------------------------------------------------------------------------------------------

HERE = environment("3.12.1", "linux", "x86_64")
AUTH = {
    "auth==2.0": ["requests[socks]>=2 ; extra == 'http'", "extras-only ; extra == 'other'"],
    "requests==2.1": ["idna", "socks>=1.5 ; extra == 'socks'", "old ; python_version < '3.12'"],
    "idna==3.0": [],
    "socks==1.7": ["appnope ; sys_platform == 'darwin'"],
    "appnope==1.0": [],
    "old==1.0": [],
}
CLOSED = "auth==2.0\nidna==3.0\nold==1.0 ; python_full_version < '3.12'\nrequests==2.1\nsocks==1.7"


def made_up(lock: str, asked: str = "auth[http]>=1", where: dict[str, str] = HERE) -> list[str]:
    metadata = {pin: Requires.of(">=3.11", requires) for pin, requires in AUTH.items()}
    return list(faults([Requirement(asked)], read_lock(lock), metadata, where))


def test_a_closed_lock_has_no_faults() -> None:
    assert made_up(CLOSED) == []
    assert made_up(CLOSED, where=environment("3.11.0", "linux", "x86_64")) == []


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("auth==2.0", "the project requires auth[http]>=1, which is not locked"),
        ("requests==2.1", 'auth[http] requires requests[socks]>=2; extra == "http", which is not locked'),
        ("socks==1.7", 'requests[socks] requires socks>=1.5; extra == "socks", which is not locked'),
        ("idna==3.0", "requests requires idna, which is not locked"),
    ],
)
def test_a_hole_is_found_through_extras_of_extras(gone: str, told: str) -> None:
    lock = "\n".join(line for line in CLOSED.splitlines() if line != gone)

    assert told in made_up(lock)


def test_a_hole_of_one_system_is_found_there() -> None:
    (fault,) = made_up(CLOSED, where=environment("3.12.1", "darwin", "arm64"))

    assert fault == 'socks requires appnope; sys_platform == "darwin", which is not locked'


def test_a_marker_that_leaves_out_too_much_is_found() -> None:
    lock = CLOSED.replace("idna==3.0", "idna==3.0 ; python_full_version < '3.12'")

    assert made_up(lock) == ["requests requires idna, which is not locked"]


@pytest.mark.parametrize(
    ("lock", "asked", "told"),
    [
        (CLOSED, "auth[http]>=3", "the project requires auth[http]>=3, and auth==2.0 is locked"),
        (CLOSED.replace("socks==1.7", "socks==1.4"), "auth[http]", "nothing is known of socks==1.4"),
        (f"{CLOSED}\nidna==3.1", "auth[http]", "idna is locked twice: 3.0 and 3.1"),
        (f"{CLOSED}\nappnope==1.0", "auth[http]", "nothing requires appnope"),
        (CLOSED, "auth", "nothing requires requests"),
    ],
)
def test_a_lock_is_told_what_is_wrong_with_it(lock: str, asked: str, told: str) -> None:
    assert told in made_up(lock, asked)


def test_a_distribution_for_other_pythons_is_found() -> None:
    metadata = {"new==1.0": Requires.of(">=3.13", [])}

    assert list(faults([Requirement("new")], read_lock("new==1.0"), metadata, HERE)) == [
        "new==1.0 requires Python >=3.13"
    ]


def test_groups_and_extras_of_a_project_are_unfolded() -> None:
    project = {
        "build-system": {"requires": ["builder"]},
        "project": {
            "name": "dspex",
            "dependencies": ["core"],
            "optional-dependencies": {"all": ["dspex[one]"], "one": ["first"], "two": ["second"]},
        },
        "dependency-groups": {"base": ["tool"], "work": [{"include-group": "base"}, "other"], "unused": ["never"]},
    }

    found = wanted(project, ["all"], ["work"])

    assert {each.name for each in found} == {"builder", "core", "first", "tool", "other"}
