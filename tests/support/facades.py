"""
The parts of façades that repeat the table of names, for type checkers.

``python -m tests.support.facades`` writes them anew after a change of ``dspex._names``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from dspex._names import NAMES

SOURCE = Path(__file__).parents[2] / "src"
ROOMS = ("errors", "evaluation", "lm", "optimizers", "programs", "retrieval", "runtime")


def path_of(facade: str) -> Path:
    """Return the file of a façade."""
    package = SOURCE.joinpath(*facade.split("."))
    return package / "__init__.py" if package.is_dir() else package.with_suffix(".py")


def written(facade: str, text: str, ruff: str) -> str:
    """Return a façade's text with its imports for type checkers, and its ``__all__``, as the table has them."""
    lines = [f"    from {module} import {name} as {name}" for module, names in NAMES[facade].items() for name in names]
    if facade == "dspex":
        lines += [f"    from dspex import {room} as {room}" for room in ROOMS]
        lines.append("    from dspex.errors import *  # noqa: F403 - the whole tree of errors is public")
    text = re.sub(r"(?<=^if TYPE_CHECKING:\n)(    .*\n)+", "\n".join(lines) + "\n", text, count=1, flags=re.MULTILINE)
    names = ", ".join(f'"{name}"' for names in NAMES[facade].values() for name in names)
    text = re.sub(r"^__all__ = \[[^\]]*\]", f"__all__ = [{names}]", text, count=1, flags=re.MULTILINE)
    return _in_style(text, ruff)


def _in_style(text: str, ruff: str) -> str:
    """Return it as the formatter and the linter order it."""
    for command in (["check", "--select", "I,RUF022", "--fix", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", "src/dspex/x.py", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=SOURCE.parent,
        )
        text = done.stdout or text
    return text


if __name__ == "__main__":
    program = str(Path(sys.executable).parent / "ruff")
    for each in NAMES:
        file = path_of(each)
        file.write_text(written(each, file.read_text(encoding="utf-8"), program), encoding="utf-8")
