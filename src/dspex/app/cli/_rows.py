"""Files with one JSON object a line."""

from __future__ import annotations

from pathlib import Path

from dspex._files import make_folder, parse_json
from dspex.errors import ConfigError
from dspex.programs import Example

__all__ = ["check_source", "check_target", "read_examples"]


def check_target(target: Path, *, overwrite: bool) -> None:
    """
    Look at the file that a command is going to write, before anything is paid.

    Raises:
        ConfigError: It is there already, or it is ``-``.
        FileError: Its folder is not there and cannot be made.
    """
    if str(target) == "-":
        raise ConfigError("- is not a file: name one to write")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is there already; --overwrite replaces it")
    make_folder(target)


def check_source(path: Path) -> None:
    """
    Look at a file that a command is going to read.

    Raises:
        ConfigError: It is not there, or not a file.
    """
    if str(path) == "-":
        raise ConfigError("- is not a file: write what it gives into one")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise ConfigError(f"there is no file {path}")
    if not path.is_file():
        raise ConfigError(f"{path} is not a file: write what it gives into one")


def read_examples(path: Path, label: str | None = None) -> list[Example]:
    """
    Return the lines of a file as examples; empty lines are left out.

    Args:
        path: With one JSON object a line.
        label: The field that a metric compares; at least one line must have it.

    Raises:
        ConfigError: There is no such file, it is empty, a line is not a JSON object, or none has the label.
    """
    check_source(path)
    found = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    found.append(_example(line, f"{path}, line {number}"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    if not found:
        raise ConfigError(f"{path} has no rows")
    if label is not None and not any(label in each for each in found):
        names = ", ".join(found[0].keys())
        raise ConfigError(
            f"no row of {path} has the field {label!r} to compare; they have {names}: name it with --field"
        )
    return found


def _example(line: str, where: str) -> Example:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is not a JSON object")
    return Example(**row)
