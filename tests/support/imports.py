"""The imports and reads of each module of a package, from its source alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["Import", "Module", "Package", "read_package"]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module; ``from a import b`` names ``a.b`` where that is a module of the package."""

    target: str
    line: int
    in_function: bool
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A module, its imports and the dotted names it uses."""

    name: str
    path: Path
    imports: tuple[Import, ...] = ()
    uses: tuple[tuple[str, int], ...] = ()

    @property
    def room(self) -> str:
        """The part of the name below the package; empty for the package's own ``__init__``."""
        return self.name.split(".")[1] if "." in self.name else ""


@dataclass(frozen=True, slots=True)
class Package:
    """Every module of a package by name."""

    name: str
    modules: dict[str, Module] = field(default_factory=dict)

    def own(self, target: str) -> bool:
        """True when a target is part of this package."""
        return target == self.name or target.startswith(f"{self.name}.")

    def cycle(self) -> list[str]:
        """Return one cycle among the imports that run when a module is loaded, or nothing."""
        graph = {
            module.name: {
                found.target
                for found in module.imports
                if self.own(found.target) and not found.typing_only and not found.in_function
            }
            for module in self.modules.values()
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            return list(error.args[1])
        return []


def read_package(root: Path) -> Package:
    """Read every module below ``root``, the folder of the package."""
    files = {_module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    modules = {name: _read_module(name, path, frozenset(files)) for name, path in files.items()}
    return Package(root.name, modules)


def _module_name(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_module(name: str, path: Path, known: frozenset[str]) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports: list[Import] = []
    uses: list[tuple[str, int]] = []
    for node, in_function, typing_only in _walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            targets = _targets(node, package, known)
            imports += (Import(target, node.lineno, in_function, typing_only) for target in targets)
        if isinstance(node, ast.ImportFrom) and not node.level:
            uses += ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            uses.append((ast.unparse(node), node.lineno))
    return Module(name, path, tuple(imports), tuple(uses))


def _walk(node: ast.AST, in_function: bool = False, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    yield node, in_function, typing_only
    inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    guarded = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, inside, typing_only or (guarded and name == "body"))


def _targets(node: ast.Import | ast.ImportFrom, package: str, known: frozenset[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parent = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parent, base] if base else parent)
    return sorted({inner if (inner := f"{base}.{alias.name}") in known else base for alias in node.names})
