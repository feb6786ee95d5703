"""Signatures written as one line: ``"question, context: list[str] -> answer: Literal['yes', 'no']"``."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import typing
from collections.abc import Callable, Mapping

from dspex.errors import SignatureError
from dspex.programs.adapters._types import Annotation
from dspex.programs.adapters._values import UNTYPED
from dspex.programs.types.code import Code
from dspex.protocols.retrieval import Passage

__all__ = ["Lookup", "make_lookup", "parse_signature", "split_signature"]

Lookup = Callable[[str], object]
"""Returns what a name stands for, or raises KeyError."""

_BUILTIN_TYPES: Mapping[str, object] = {
    **{name: value for name, value in vars(builtins).items() if isinstance(value, type)},
    "None": None,
    "Passage": Passage,
}


def parse_signature(spec: str, lookup: Lookup) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
    """
    Return inputs and outputs as (name, annotation) pairs; the annotation of a name without one is ``UNTYPED``.

    Args:
        spec: The text.
        lookup: Finds types by name; see ``make_lookup``.

    Raises:
        SignatureError: The text is not a signature; the message points at the part.
    """
    sides = _split_at_arrow(spec)
    inputs, outputs = (_parse_side(side, offset, spec, lookup) for side, offset in sides)
    if not outputs:
        raise _error(spec, len(spec), "there is no output behind the arrow")
    names = {name for name, _ in inputs}
    for name, _ in outputs:
        if name in names:
            raise _error(spec, spec.rindex(name), f"{name!r} is both input and output; give one another name")
    return inputs, outputs


_TYPE = r"[A-Za-z_][\w.]*(?:\[[\w., |]*(?:\[[\w., |]*\][\w., |]*)*\])?"
_FIELD = re.compile(
    rf"[ \t\r\n]*([A-Za-z]\w*)[ \t\r\n]*(?::[ ]*({_TYPE}(?: *\| *{_TYPE})*)[ \t\r\n]*)?(,|\Z)|.+", re.ASCII | re.DOTALL
)
"""A field and the mark behind it; what is not a field matches to the end, without a name."""


def split_signature(spec: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]] | None:
    """
    Return inputs and outputs as (name, the annotation's text, the comma) triples, without reading the annotations.

    None for whatever is not plainly a signature: it may be one all the same, or have a mistake to point at.
    """
    before, _, after = spec.partition("->")
    inputs: list[tuple[str, str, str]] = _FIELD.findall(before) if before and not before.isspace() else []
    outputs: list[tuple[str, str, str]] = _FIELD.findall(after)
    if not outputs or outputs[-1][2] or (inputs and inputs[-1][2]):
        return None
    return (inputs, outputs) if all(name for name, _, _ in inputs + outputs) else None


def _split_at_arrow(spec: str) -> list[tuple[str, int]]:
    """Split at the one arrow outside quotes; offsets point into ``spec``."""
    before, arrow, after = spec.partition("->")
    if arrow and "->" not in after and "'" not in before and '"' not in before:
        return [(before, 0), (after, len(before) + 2)]
    arrows = []
    quote = ""
    for at, char in enumerate(spec):
        if quote:
            quote = "" if char == quote and spec[at - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char == "-" and spec[at + 1 : at + 2] == ">":
            arrows.append(at)
    if len(arrows) != 1:
        wrong = "no arrow" if not arrows else f"{len(arrows)} arrows"
        raise _error(
            spec, arrows[1] if arrows else len(spec), f"{wrong}: write one `->` between the inputs and the outputs"
        )
    at = arrows[0]
    return [(spec[:at], 0), (spec[at + 2 :], at + 2)]


_HEAD = "def f(*,"
_PLAIN = re.compile(r"\s*[^\W\d]\w*(?:\s*,\s*[^\W\d]\w*)*\s*")


def _plain_names(side: str, offset: int, spec: str) -> list[tuple[str, object]]:
    names = [name.strip() for name in side.split(",")]
    for name in names:
        if keyword.iskeyword(name):
            raise _error(spec, offset + side.index(name), f"{name!r} is a word of Python's own and cannot be a field")
        if names.count(name) > 1:
            raise _error(spec, offset + side.rindex(name), f"{name!r} appears twice")
    return [(name, UNTYPED) for name in names]


def _parse_side(side: str, offset: int, spec: str, lookup: Lookup) -> list[tuple[str, object]]:
    """Read one side as the parameters of a function, which is the grammar it has."""
    if not side.strip():
        return []
    if _PLAIN.fullmatch(side):  # names only, the common case: no grammar needed
        return _plain_names(side, offset, spec)
    flat = side.replace("\n", " ").replace("\r", " ")
    try:
        tree = ast.parse(f"{_HEAD}{flat}): pass")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        column = getattr(error, "offset", None) or len(_HEAD) + 1
        at = min(max(offset, offset + column - 1 - len(_HEAD)), offset + len(side))
        raise _error(spec, at, "expected `name` or `name: type`, separated by commas") from error
    function = tree.body[0]
    if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef) or not _only_names(function):
        raise _error(spec, offset, "expected `name` or `name: type`, separated by commas, and no default values")
    fields: list[tuple[str, object]] = []
    for each in function.args.kwonlyargs:
        at = offset + _characters(flat, each.col_offset - len(_HEAD))
        if any(each.arg == name for name, _ in fields):
            raise _error(spec, at, f"{each.arg!r} appears twice")
        fields.append(
            (each.arg, UNTYPED if each.annotation is None else _annotation(each.annotation, spec, at, lookup))
        )
    return fields


def _characters(text: str, column: int) -> int:
    """Ast counts UTF-8 bytes; people count characters."""
    return column if text.isascii() else len(text.encode()[:column].decode(errors="ignore"))


def _only_names(function: ast.FunctionDef) -> bool:
    arguments = function.args
    return (
        not (arguments.args or arguments.posonlyargs or arguments.vararg or arguments.kwarg)
        and all(default is None for default in arguments.kw_defaults)
        and len(function.body) == 1
        and isinstance(function.body[0], ast.Pass)
        and function.returns is None
    )


def _annotation(node: ast.expr, spec: str, at: int, lookup: Lookup) -> object:
    """Build the type a syntax tree stands for, without evaluating anything."""
    try:
        return _build(node, lookup)
    except KeyError as error:
        raise _error(
            spec, at, f"the type {error.args[0]!r} is not known; pass types={{{error.args[0]!r}: ...}}"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _error(spec, at, f"{ast.unparse(node)} is not a type ({error})") from error


def _build(node: ast.expr, lookup: Lookup) -> object:
    match node:
        case ast.Name(id=name):
            return lookup(name)
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _build(ast.parse(text, mode="eval").body, lookup)
        case ast.Attribute(value=owner, attr=name) if not name.startswith("_"):
            return getattr(_build(owner, lookup), name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_build(left, lookup), _build(right, lookup)]  # noqa: UP007 - built at run time
        case ast.Subscript(value=base, slice=arguments):
            return _subscript(_build(base, lookup), arguments, lookup)
    raise ValueError("expected names, dots, brackets and |")


def _subscript(base: Annotation, arguments: ast.expr, lookup: Lookup) -> object:
    nodes = arguments.elts if isinstance(arguments, ast.Tuple) else [arguments]
    if base is Code and isinstance(arguments, ast.Constant):  # a language, not the name of a type
        return base[arguments.value]
    if base is typing.Literal:
        return typing.Literal[tuple(_literal(each, lookup) for each in nodes)]
    built = [_build_argument(each, lookup) for each in nodes]
    return base[tuple(built) if len(built) > 1 else built[0]]


def _literal(node: ast.expr, lookup: Lookup) -> object:
    """A Literal's choice: a constant, or an enum's member."""
    if isinstance(node, ast.Attribute):
        return _build(node, lookup)
    value = ast.literal_eval(node)
    if not isinstance(value, (str, bytes, int, bool, type(None))):
        raise TypeError(f"{value!r} cannot be a choice of a Literal")
    return value


def _build_argument(node: ast.expr, lookup: Lookup) -> object:
    if isinstance(node, ast.Constant) and node.value is ...:
        return ...
    return _build(node, lookup)


def make_lookup(types: Mapping[str, object], fallback: Lookup) -> Lookup:
    """Return a lookup through ``types``, builtins, ``Passage`` and typing, and last ``fallback``."""

    def lookup(name: str) -> object:
        if name in types:
            return types[name]
        if name in _BUILTIN_TYPES:
            return _BUILTIN_TYPES[name]
        if name in typing.__all__:
            return getattr(typing, name)
        return typing if name == "typing" else fallback(name)

    return lookup


def _error(spec: str, at: int, problem: str) -> SignatureError:
    """Return an error whose message shows the text with a caret under the part."""
    shown = "".join(" " if char.isspace() else char for char in spec)
    return SignatureError(f"{problem}\n  {shown}\n  {' ' * at}^")
