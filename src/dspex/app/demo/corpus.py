"""
The demo's corpus: the documentation of the Python that runs it.

Modules written in Python are read, not run. Modules written in C can only be imported to be read; those listed
here print nothing, open nothing and change nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dspex.protocols.retrieval import Passage

__all__ = ["passages"]

_LEFT_OUT: Final = frozenset(
    {"antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "this", "turtledemo"}
)
"""Modules and folders of the standard library that are not documentation, or no longer there in newer versions."""

_WRITTEN_IN_C: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "array": "array",
        "asyncio": "_asyncio",
        "atexit": "atexit",
        "binascii": "binascii",
        "bisect": "_bisect",
        "builtins": "builtins",
        "bz2": "_bz2",
        "cmath": "cmath",
        "codecs": "_codecs",
        "collections": "_collections",
        "contextvars": "_contextvars",
        "csv": "_csv",
        "datetime": "_datetime",
        "decimal": "_decimal",
        "errno": "errno",
        "faulthandler": "faulthandler",
        "fcntl": "fcntl",
        "functools": "_functools",
        "gc": "gc",
        "grp": "grp",
        "hashlib": "_hashlib",
        "heapq": "_heapq",
        "io": "_io",
        "itertools": "itertools",
        "json": "_json",
        "lzma": "_lzma",
        "marshal": "marshal",
        "math": "math",
        "mmap": "mmap",
        "operator": "_operator",
        "os": "posix",
        "pickle": "_pickle",
        "pwd": "pwd",
        "queue": "_queue",
        "random": "_random",
        "re": "_sre",
        "resource": "resource",
        "select": "select",
        "signal": "_signal",
        "socket": "_socket",
        "sqlite3": "_sqlite3",
        "ssl": "_ssl",
        "struct": "_struct",
        "sys": "sys",
        "syslog": "syslog",
        "termios": "termios",
        "threading": "_thread",
        "time": "time",
        "tracemalloc": "_tracemalloc",
        "types": "types",
        "unicodedata": "unicodedata",
        "weakref": "_weakref",
        "zlib": "zlib",
    }
)
"""Public module to the C module behind it; one that this platform lacks is skipped."""

_REPLACEABLE: Final = frozenset({"sys.breakpointhook", "sys.displayhook", "sys.excepthook", "sys.unraisablehook"})
"""Left out: what is there depends on what else the process has loaded."""

_C_FUNCTIONS: Final = (types.BuiltinFunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
_C_ATTRIBUTES: Final = (
    *_C_FUNCTIONS,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    staticmethod,
    classmethod,
)


def passages(progress: Callable[[int], object] | None = None) -> list[Passage]:
    """
    Return the docstrings of the standard library's public functions, classes and methods, by dotted name.

    Args:
        progress: Called with the number of passages found so far, after each module.
    """
    found: dict[str, str] = {}
    defined: set[str] = set()
    for module, path in _sources(Path(sysconfig.get_paths()["stdlib"])):
        for name, text in _read(module, path):
            defined.add(name)
            if text:
                found.setdefault(name, text)
        if progress is not None:
            progress(len(found))
    for module, behind in _WRITTEN_IN_C.items():
        for name, text in _inspect(module, behind):
            if name not in defined:
                found.setdefault(name, text)
        if progress is not None:
            progress(len(found))
    return [Passage(text, name, id=name) for name, text in sorted(found.items())]


# --- modules written in Python ------------------------------------------------------------------------------


def _sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Give the dotted name and the file of each public module."""
    for name in sorted(sys.stdlib_module_names):
        if not _public(name):
            continue
        if (file := root / f"{name}.py").is_file():
            yield name, file
        for path in sorted((root / name).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            if all(map(_public, parts)):
                yield ".".join(parts), path


def _public(name: str) -> bool:
    return not name.startswith("_") and name not in _LEFT_OUT


def _read(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """Give the name and the docstring, which may be empty, of each public definition in a file."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a file this Python was built without, or for another one
        return
    yield from _definitions(tree.body, module)


def _definitions(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if _public(node.name):
                name = f"{prefix}.{node.name}"
                yield name, (ast.get_docstring(node) or "").strip()
                if isinstance(node, ast.ClassDef):
                    yield from _definitions(node.body, name)
            case ast.If() | ast.Try():
                parts = [node.body, node.orelse]
                if isinstance(node, ast.Try):
                    parts += [handler.body for handler in node.handlers]
                for part in parts:
                    yield from _definitions(part, prefix)


# --- modules written in C -----------------------------------------------------------------------------------


def _inspect(module: str, behind: str) -> Iterator[tuple[str, str]]:
    """Give the name and the docstring of each public function, class and method that a C module gives a public one."""
    try:
        loaded = importlib.import_module(module)
    except ImportError:  # not on this platform
        return
    homes = {module, behind}
    for attribute, value in sorted(vars(loaded).items()):
        if attribute.startswith("_") or getattr(value, "__module__", None) not in homes:
            continue
        name = f"{module}.{attribute}"
        if name in _REPLACEABLE:
            continue
        if isinstance(value, type) and value.__name__ == attribute:
            yield from _documented(name, value)
            for member, descriptor in sorted(vars(value).items()):
                if not member.startswith("_") and isinstance(descriptor, _C_ATTRIBUTES):
                    yield from _documented(f"{name}.{member}", descriptor)
        elif isinstance(value, _C_FUNCTIONS):
            yield from _documented(name, value)


def _documented(name: str, value: object) -> Iterator[tuple[str, str]]:
    text = getattr(value, "__doc__", None)
    if isinstance(text, str) and (text := inspect.cleandoc(text).strip()):
        yield name, text
