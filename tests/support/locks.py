"""Lock files, read without the network: what a lock lacks of what its distributions and its project require."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

__all__ = ["ENVIRONMENTS", "Locked", "Requires", "environment", "faults", "read_lock", "wanted"]

Environment = dict[str, str]

_PIN = re.compile(r"(?P<name>[^\s=]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.+))?")


class Locked(NamedTuple):
    """One line of a lock."""

    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]


class Requires(NamedTuple):
    """The requirements in a distribution's own metadata."""

    python: SpecifierSet
    requirements: tuple[Requirement, ...]

    @classmethod
    def of(cls, python: str, requirements: Iterable[str]) -> Requires:
        """Read both as metadata has them."""
        return cls(SpecifierSet(python), tuple(map(Requirement, requirements)))


def environment(python: str, system: str, machine: str) -> Environment:
    """Return the markers' values of CPython ``python`` on ``system``, "linux" or "darwin"."""
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": system,
    }


ENVIRONMENTS = {
    f"{python}-{system}-{machine}": environment(python, system, machine)
    for python, (system, machine) in product(
        ("3.11.0", "3.11.4", "3.11.14", "3.12.1", "3.13.0", "3.14.0"),
        (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64")),
    )
}
"""Where the locks have to be closed."""


def read_lock(text: str) -> list[Locked]:
    """Read what ``make lock`` writes."""
    found = []
    for entry in text.replace("\\\n", " ").splitlines():
        pin, *hashes = entry.split(" --hash=")
        match = _PIN.fullmatch(pin.strip())
        assert match is not None, f"{entry[:80]!r} is not a pin"
        marker = Marker(match["marker"]) if match["marker"] else None
        found.append(Locked(match["name"], match["version"], marker, frozenset(each.strip() for each in hashes)))
    return found


def wanted(project: Mapping[str, Any], extras: Sequence[str], groups: Sequence[str]) -> list[Requirement]:
    """Return what a pyproject.toml asks for: its dependencies, some extras and groups, and what builds it."""
    about = project["project"]
    found = [*map(Requirement, project["build-system"]["requires"]), *map(Requirement, about["dependencies"])]
    pending: list[str | dict[str, str]] = [each for extra in extras for each in about["optional-dependencies"][extra]]
    pending += [each for group in groups for each in project["dependency-groups"][group]]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += project["dependency-groups"][each["include-group"]]
        elif canonicalize_name((requirement := Requirement(each)).name) == about["name"]:
            pending += [one for extra in requirement.extras for one in about["optional-dependencies"][extra]]
        else:
            found.append(requirement)
    return found


def faults(
    wanted: Iterable[Requirement], lock: Iterable[Locked], metadata: Mapping[str, Requires], where: Environment
) -> Iterator[str]:
    """Yield what an installation without dependencies would lack in one environment, and what nothing there needs."""
    present: dict[str, str] = {}
    for each in lock:
        if each.marker is None or each.marker.evaluate(where):
            if each.name in present:
                yield f"{each.name} is locked twice: {present[each.name]} and {each.version}"
            present[each.name] = each.version
    needed: set[str] = set()
    seen: set[tuple[str, str]] = set()
    pending = [("the project", "", requirement) for requirement in wanted]
    while pending:
        who, of_extra, requirement = pending.pop()
        if not _holds(requirement, where, of_extra) or (of_extra and _holds(requirement, where, "")):
            continue  # not required here, or by the distribution itself, which is told without the extra
        name = canonicalize_name(requirement.name)
        if name not in present:
            yield f"{who} requires {requirement}, which is not locked"
            continue
        needed.add(name)
        pin = f"{name}=={present[name]}"
        if not requirement.specifier.contains(present[name], prereleases=True):
            yield f"{who} requires {requirement}, and {pin} is locked"
        if pin not in metadata:
            yield f"nothing is known of {pin}"
            continue
        if not metadata[pin].python.contains(where["python_full_version"]):
            yield f"{pin} requires Python {metadata[pin].python}"
        # an extra adds to what is required without it, and may require further extras, its own distribution's too
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                whose = f"{name}[{extra}]" if extra else name
                pending += [(whose, extra, each) for each in metadata[pin].requirements]
    yield from (f"nothing requires {name}" for name in present if name not in needed)


def _holds(requirement: Requirement, where: Environment, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(where | {"extra": extra})
