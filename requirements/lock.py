"""
Write requirements/*.lock and requirements/metadata.json, as `[tool.dspex.locks]` of pyproject.toml says.

    UV=uv python3 requirements/lock.py [--keep]

Every lock holds versions and hashes for all Pythons and systems that are supported. With ``--keep`` the versions that
are locked stay where they can; without it all become the newest. metadata.json has what each locked distribution
requires, as its own metadata says it: a test reads there, offline, that the locks are closed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
METADATA = FOLDER / "metadata.json"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?$", re.MULTILINE)
# Nothing of these systems is promised, and what is locked for them alone cannot be looked at from elsewhere.
ELSEWHERE = re.compile(r"^sys_platform == '(win32|emscripten)'$|and sys_platform == '(win32|emscripten)'$")


def compile_lock(name: str, lock: dict[str, Any], *, keep: bool) -> None:
    """Write one lock; a part of another takes its versions from there."""
    uv = shutil.which(os.environ.get("UV") or "uv")
    if uv is None:
        sys.exit("make: uv is not found; install it (pip install uv), or name it: make lock UV=/path/to/uv")
    command = [uv, "pip", "compile", "pyproject.toml", "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--quiet", "-o", f"requirements/{name}.lock"]
    command += [f"--extra={each}" for each in lock["extras"]] + [f"--group={each}" for each in lock["groups"]]
    if "part-of" in lock:
        command += ["--constraints", f"requirements/{lock['part-of']}.lock"]
    elif not keep:
        command += ["--upgrade"]
    subprocess.run(command, cwd=ROOT, check=True)
    text = (FOLDER / f"{name}.lock").read_text()
    if found := re.search(r"^.*(?:://|^torch==).*$", text, re.MULTILINE):
        sys.exit(f"requirements/{name}.lock: {found[0]!r} does not belong into a lock")


def batches(pins: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Part the pins, so that no batch has a name twice."""
    found: list[dict[str, str]] = []
    for name, version in sorted(pins):
        batch = next((each for each in found if name not in each), None)
        if batch is None:
            found.append(batch := {})
        batch[name] = version
    return [[f"{name}=={version}" for name, version in each.items()] for each in found]


def metadata_of(pins: list[str]) -> dict[str, dict[str, Any]]:
    """Ask the index what each of the distributions requires; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--report", str(report), *pins], check=True)
        installs = json.loads(report.read_text())["install"]
    found = {}
    for each in installs:
        about = each["metadata"]
        name = re.sub(r"[-_.]+", "-", about["name"]).lower()
        found[f"{name}=={about['version']}"] = {
            "python": about.get("requires_python", ""),
            "requires": sorted(about.get("requires_dist", ())),
        }
    return found


def write_metadata() -> None:
    """Write what every locked distribution requires, one line each; what is known already is not asked for again."""
    known = json.loads(METADATA.read_text()) if METADATA.exists() else {}
    pins = set()
    for path in FOLDER.glob("*.lock"):
        for found in PIN.finditer(path.read_text()):
            if not ELSEWHERE.search(found["marker"] or ""):
                pins.add((found["name"], found["version"]))
    for batch in batches(pin for pin in pins if "==".join(pin) not in known):
        known |= metadata_of(batch)
    lines = [f"{json.dumps(key)}: {json.dumps(known[key])}" for key in sorted("==".join(pin) for pin in pins)]
    METADATA.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main(arguments: list[str]) -> None:
    """Write everything."""
    locks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dspex"]["locks"]
    for name in sorted(locks, key=lambda each: "part-of" in locks[each]):  # the whole before its parts
        compile_lock(name, locks[name], keep="--keep" in arguments)
    write_metadata()


if __name__ == "__main__":
    main(sys.argv[1:])
