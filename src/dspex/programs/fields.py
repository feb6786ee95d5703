"""The right side of the equals sign in a signature, and the compiled field it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from dspex.errors import SignatureError
from dspex.programs.adapters._values import Codec

__all__ = [
    "CONSTRAINTS",
    "MISSING",
    "AnyRecord",
    "AnySignature",
    "Bounds",
    "Field",
    "FieldSpec",
    "InputField",
    "OutputField",
    "Role",
]

Role = Literal["input", "output"]
AnySignature = type[Any]
"""A signature class made at run time: type checkers do not know its fields."""

AnyRecord = Any
"""A record of a signature that type checkers do not know."""


class Bounds(TypedDict, total=False):
    """
    The bounds of a field's values; told to the model and checked. ``None`` is no bound.

    Attributes:
        gt: A number must be greater than this.
        ge: A number must be at least this.
        lt: A number must be less than this.
        le: A number must be at most this.
        min_length: The least length of a text or a collection.
        max_length: The greatest length of a text or a collection.
        multiple_of: A number must be a multiple of this.
    """

    gt: float | None
    ge: float | None
    lt: float | None
    le: float | None
    min_length: int | None
    max_length: int | None
    multiple_of: float | None


CONSTRAINTS: tuple[str, ...] = ("gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of")
"""The names of bounds, in the order in which a prompt states them."""


class _Missing:
    """The type of the one value that means "nothing was given"."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<missing>"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"  # there is one


MISSING: object = _Missing()  # stands where any field's value could stand


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """The author's words about a field; its name and annotation are known only to the class."""

    role: Role
    desc: str = ""
    default: object = MISSING  # a value of the field's own type
    default_factory: Callable[[], object] | None = None
    constraints: Mapping[str, object] = field(default_factory=dict)  # numbers, or what the field's type compares with


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a compiled signature."""

    name: str
    role: Role
    annotation: object  # any type pydantic can validate
    desc: str
    default: object  # a value of the field's own type, or MISSING
    default_factory: Callable[[], object] | None
    constraints: tuple[tuple[str, object], ...]
    type_text: str
    """The type as a prompt and an error message state it."""
    codec: Codec = field(compare=False, repr=False)
    optional: bool = False
    """True when ``None`` is one of the field's values."""

    @property
    def has_default(self) -> bool:
        """True when the field may be left out."""
        return self.default is not MISSING or self.default_factory is not None

    def make_default(self) -> object:
        """Return the default: the value, a fresh one from the factory, or ``None`` for an optional field."""
        if self.default is not MISSING:
            return self.default
        return self.default_factory() if self.default_factory is not None else None

    @property
    def spec(self) -> FieldSpec:
        """The text that an author would write to get this field again."""
        return FieldSpec(self.role, self.desc, self.default, self.default_factory, dict(self.constraints))


def InputField(  # noqa: N802 - named like the class it stands for
    *,
    default: object = MISSING,
    default_factory: Callable[[], object] | None = None,
    desc: str = "",
    **bounds: Unpack[Bounds],
) -> Any:  # the annotation beside it is the type
    """
    Declare an input of a signature.

    For example ``question: str = InputField(desc="as the user typed it")``.

    Args:
        default: Used when the input is left out; mutable values need ``default_factory``.
        default_factory: Called for a fresh default each time.
        desc: The description of the field for the model.
        bounds: The bounds of a value, ``ge=1`` for example; see ``Bounds``.

    Raises:
        SignatureError: Two defaults were given, or a mutable one, or there is no such bound.
    """
    return _spec("input", default, default_factory, desc, bounds)


def OutputField(  # noqa: N802 - named like the class it stands for
    *,
    init: Literal[False] = False,  # noqa: ARG001 - read by type checkers only
    default: object = MISSING,
    default_factory: Callable[[], object] | None = None,
    desc: str = "",
    **bounds: Unpack[Bounds],
) -> Any:  # the annotation beside it is the type
    """
    Declare an output of a signature.

    For example ``answer: str = OutputField(desc="a short phrase")``.

    An output with a default, or whose type allows ``None``, may be missing from a completion: it is filled from
    ``default``, else ``default_factory``, else ``None``. Constraints are told to the model and checked.

    Args:
        init: Always False: outputs are not constructor parameters; type checkers read this.
        default: The value of a missing output; mutable values need ``default_factory``.
        default_factory: Called for a fresh default each time.
        desc: The description of the field for the model.
        bounds: The bounds of a value, ``ge=1`` for example; see ``Bounds``.

    Raises:
        SignatureError: Two defaults were given, or a mutable one, or there is no such bound.
    """
    return _spec("output", default, default_factory, desc, bounds)


def _spec(role: Role, default: object, factory: Callable[[], object] | None, desc: str, bounds: Bounds) -> FieldSpec:
    if default is not MISSING and factory is not None:
        raise SignatureError("a field takes default or default_factory, not both")
    if isinstance(default, (list, dict, set, bytearray)):
        kind = type(default).__name__
        raise SignatureError(f"a {kind} as default would be shared by all records: use default_factory={kind}")
    if unknown := bounds.keys() - set(CONSTRAINTS):
        raise SignatureError(
            f"{', '.join(sorted(unknown))}: a field takes desc, default, default_factory, {', '.join(CONSTRAINTS)}"
        )
    given: Mapping[str, object] = bounds  # a number or None each
    constraints = {name: bound for name in CONSTRAINTS if (bound := given.get(name)) is not None}
    return FieldSpec(role, desc, default, factory, constraints)
