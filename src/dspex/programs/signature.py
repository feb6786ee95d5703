"""Signatures: classes that say what goes in and what comes out, compiled when the class statement ends."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema
from typing_extensions import dataclass_transform

from dspex.errors import OutputNotSet, SignatureError
from dspex.programs._annotations import ClassAnnotations, read_annotations, resolve_annotations
from dspex.programs._compile import Plan, compile_field, make_init
from dspex.programs._from_string import compile_string
from dspex.programs._generic import with_types
from dspex.programs._plain import plain_json
from dspex.programs._record_schema import record_schema
from dspex.programs.adapters._values import UNTYPED, UntypedCodec
from dspex.programs.fields import MISSING, AnySignature, Field, FieldSpec, InputField, OutputField
from dspex.protocols.json_values import JsonDict
from dspex.protocols.surrogates import mended

if TYPE_CHECKING:
    from dspex.programs.prediction import Prediction

__all__ = ["Signature", "SignatureMeta", "plan_of", "values_of"]

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., object])


class _ClassLevel:
    """A method of signature classes that stays reachable when a field of the same name exists."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        functools.update_wrapper(cast("Any", self), function)  # documentation tools read the wrapper

    def __get__(self, cls: type | None, owner: type | None = None) -> object:
        return self if cls is None else types.MethodType(self._function, cls)

    def __set__(self, cls: type, value: object) -> None:
        raise AttributeError(f"{cls.__name__}.{self._function.__name__} cannot be assigned")


def _class_level(function: F) -> F:
    """Make a method win over a slot of the same name: on the class it is the method, on records the field."""
    return cast("F", _ClassLevel(function))


@dataclass_transform(kw_only_default=True, field_specifiers=(InputField, OutputField))
class SignatureMeta(type):
    """
    Compiles signature classes; what is defined here is read on the class, so no name is taken from the fields.

    A field may therefore be called ``instructions`` or ``append``: ``QA.instructions`` is the instructions,
    ``QA(...).instructions`` the field.
    """

    _plan_: Plan
    _string_base_: SignatureMeta

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **keywords: object,  # for __init_subclass__ of mixins
    ) -> SignatureMeta:
        """Create the record class and compile its plan."""
        parents = [base for base in bases if isinstance(base, SignatureMeta)]
        if not parents:
            return super().__new__(mcls, name, bases, namespace, **keywords)
        inherited = _inherited(parents)
        specs = {key: value for key, value in namespace.items() if isinstance(value, FieldSpec)}
        for key in specs:
            del namespace[key]
        annotations = read_annotations(namespace)
        own_slots = tuple(namespace.pop("__slots__", ()))
        namespace["__slots__"] = (*own_slots, *[key for key in specs if key not in inherited])
        try:
            cls = super().__new__(mcls, name, bases, namespace, **keywords)
        except TypeError as error:
            raise SignatureError(f"{name} cannot be a class with these bases and fields: {error}") from error
        caller = sys._getframe(1)  # noqa: SLF001 - types defined beside the class in a function
        types_ = resolve_annotations(cls, annotations, specs, caller)
        _refuse_strays(name, specs, annotations)
        cls._plan_ = Plan(name, _own_fields(name, specs, types_, inherited), _docstring(namespace, parents))
        if "__init__" not in namespace:
            type.__setattr__(cls, "__init__", make_init(cls.__qualname__, cls._plan_.inputs))
        return cls

    @property
    def instructions(cls) -> str:
        """The instructions for the model: the docstring, or a sentence made from the fields."""
        return cls._plan_.instructions

    @property
    def input_fields(cls) -> Mapping[str, Field]:
        """The inputs by name, in order; read-only."""
        return types.MappingProxyType({each.name: each for each in cls._plan_.inputs})

    @property
    def output_fields(cls) -> Mapping[str, Field]:
        """The outputs by name, in order; read-only."""
        return types.MappingProxyType({each.name: each for each in cls._plan_.outputs})

    @property
    def fields(cls) -> Mapping[str, Field]:
        """All fields by name, inputs first; read-only."""
        return cls._plan_.fields

    @_class_level
    def from_string(
        cls, spec: str, instructions: str = "", *, types: Mapping[str, object] | None = None
    ) -> type[Prediction]:
        """
        Compile ``"question, context: list[str] -> answer: Literal['yes', 'no']"``.

        Fields without a type are ``str``; as inputs they take numbers and the like too. Types are looked up in
        ``types``, builtins, typing, ``Passage``, then in the functions around the call, in the caller's module, and
        last among dspex's own (``Image``, ``History``, ``Code['python']``).

        Args:
            spec: Inputs, one arrow, outputs.
            instructions: The instructions for the model; made from the fields when empty.
            types: Further names the text may use.

        Raises:
            SignatureError: The text is not a signature; the message points at the part.
        """
        return compile_string(spec, instructions, types or {}, _make_from_string)

    @_class_level
    def with_instructions(cls: C, instructions: str) -> C:
        """Return a subclass that asks for something else with the same fields; its records equal this class's."""
        plan = plan_of(cls)
        return cast("C", derive(cast("SignatureMeta", cls), tuple(plan.fields.values()), instructions))

    @_class_level
    def append_instructions(cls: C, more: str) -> C:
        """Return a subclass that asks for the same with a further paragraph."""
        return cast("C", cls.with_instructions(f"{plan_of(cls).instructions}\n\n{inspect.cleandoc(more)}"))  # type: ignore[attr-defined]  # C is a signature class

    @_class_level
    def with_updated_fields(cls, name: str, type_: object = None, **changes: object) -> AnySignature:
        """
        Return a signature with one field changed.

        Args:
            name: The field.
            type_: Its new type; unchanged when None.
            changes: New ``desc``, ``default``, ``default_factory`` or constraints (``ge=1``).

        Raises:
            SignatureError: There is no such field, or the change is not valid.
        """
        fields = dict(cls._plan_.fields)
        if name not in fields:
            raise SignatureError(f"{cls.__name__} has no field {name!r}; it has {', '.join(fields)}")
        old = fields[name]
        known: dict[str, object] = {
            key: changes.pop(key) for key in ("desc", "default", "default_factory") if key in changes
        }
        settings: dict[str, Any] = {**dict(old.constraints), **changes}  # checked by the field itself
        settings.update(desc=old.desc, default=old.default, default_factory=old.default_factory)
        settings.update(known)
        spec = (InputField if old.role == "input" else OutputField)(**settings)
        if type_ is None:
            type_ = UNTYPED if isinstance(old.codec, UntypedCodec) else old.annotation
        fields[name] = compile_field(name, type_, spec, cls.__name__)
        return derive(cls, tuple(fields.values()), cls.authored_instructions)

    @_class_level
    def append(cls, name: str, field: object, type_: object = str) -> AnySignature:
        """Return a signature with ``field`` (an InputField or OutputField) last on its side."""
        made: AnySignature = cls.insert(-1, name, field, type_)
        return made

    @_class_level
    def prepend(cls, name: str, field: object, type_: object = str) -> AnySignature:
        """Return a signature with ``field`` (an InputField or OutputField) first on its side."""
        made: AnySignature = cls.insert(0, name, field, type_)
        return made

    @_class_level
    def insert(cls, index: int, name: str, field: object, type_: object = str) -> AnySignature:
        """
        Return a signature with a new field at ``index`` among the fields of its side.

        Args:
            index: As for ``list.insert``, but -1 means last.
            name: The new field's name.
            field: ``InputField(...)`` or ``OutputField(...)``.
            type_: Its type.

        Raises:
            SignatureError: The name is taken or not valid, or ``field`` is not a field.
        """
        plan = cls._plan_
        if not isinstance(field, FieldSpec):
            raise SignatureError(f"{cls.__name__}.{name}: expected InputField() or OutputField(), got {field!r}")
        if name in plan.fields:
            raise SignatureError(f"{cls.__name__} already has a field {name!r}")
        new = compile_field(name, type_, field, cls.__name__)
        sides = {"input": list(plan.inputs), "output": list(plan.outputs)}
        side = sides[field.role]
        side.insert(len(side) if index == -1 else index, new)
        return derive(cls, (*sides["input"], *sides["output"]), cls.authored_instructions)

    @_class_level
    def delete(cls, name: str) -> AnySignature:
        """
        Return a signature without one field; its class starts afresh from ``Signature``.

        Raises:
            SignatureError: There is no such field.
        """
        fields = cls._plan_.fields
        if name not in fields:
            raise SignatureError(f"{cls.__name__} has no field {name!r}; it has {', '.join(fields)}")
        kept = tuple(each for each in fields.values() if each.name != name)
        return make_class(cls.__name__, (Signature,), kept, cls.authored_instructions, cls.__module__)

    @_class_level
    def equals(cls, other: object) -> bool:
        """Tell whether another signature asks the same: equal instructions and equal fields in the same order."""
        if not isinstance(other, SignatureMeta):
            return False
        mine, theirs = cls._plan_, other._plan_
        return mine.instructions == theirs.instructions and [*mine.fields.values()] == [*theirs.fields.values()]

    @property
    def authored_instructions(cls) -> str:
        """The instructions somebody wrote; empty when they are made from the fields and must follow them."""
        return cls._plan_.instructions if cls._plan_.authored else ""


class Signature(metaclass=SignatureMeta):
    """
    Base of signatures, and of the records that calls return.

    The constructor takes the inputs, by keyword; outputs are set by whoever computes them::

        class QA(dspex.Signature):
            "Answer the question."
            question: str = dspex.InputField()
            answer: str = dspex.OutputField(desc="a short phrase")

        record = QA(question="Who wrote it?")
        record.answer = "Ada"

    Field names may be anything but keywords and names with a leading underscore. Reading an output that was not
    set raises OutputNotSet.
    """

    __slots__ = ("_details_",)

    if not TYPE_CHECKING:  # the fields are declared; what is not declared is an error for type checkers

        def __init__(self, *_given: object, **_fields: object) -> None:
            raise SignatureError(
                "Signature has no fields: subclass it, or use Signature.from_string('question -> answer')"
            )

        def __getattr__(self, name: str) -> object:
            cls = type(self)
            field = cls._plan_.fields.get(name)
            if field is not None and field.role == "output":
                raise OutputNotSet(cls.__name__, name)
            if not name.startswith("_"):
                details = getattr(self, "_details_", None)
                if details is not None and name in details.extras:
                    return details.extras[name]
            hint = _ELSEWHERE.get(name, "")
            raise AttributeError(f"{cls.__name__} has no field {name!r}{hint}", name=name, obj=self)

        def __class_getitem__(cls, arguments: object) -> AnySignature:
            """Return the signature with types for its parameters: ``Listed[int]``, the same class each time."""
            return with_types(cls, arguments, derive)

    def to_dict(self) -> JsonDict:
        """
        Return the fields that are set, by name, inputs first, as JSON has them: dates as texts, models as objects.

        Raises:
            TypeError: A value has no JSON form.
        """
        found = {}
        for name, value in self._values_().items():
            try:
                found[name] = plain_json(value)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}.{name}: {error}") from error
        return found

    def _values_(self) -> dict[str, object]:
        """Return the fields that are set, by name, inputs first; values are not copied."""
        return {name: value for name in type(self)._plan_.fields if (value := _get(self, name)) is not MISSING}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Signature):
            return NotImplemented
        if not _are_kin(type(self), type(other)):
            return False
        return all(_get(self, name) == _get(other, name) for name in type(self)._plan_.fields)

    __hash__ = None  # type: ignore[assignment]  # records are mutable

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in values_of(self).items())
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        """Return the fields for a notebook; every text in it is escaped."""
        cells = [(name, value if isinstance(value, str) else repr(value)) for name, value in values_of(self).items()]
        style = "white-space: pre-wrap; text-align: left"
        rows = (f'<tr><th>{escape(name)}</th><td style="{style}">{escape(text)}</td></tr>' for name, text in cells)
        return f"<table><caption>{escape(type(self).__name__)}</caption>{''.join(rows)}</table>"

    def __copy__(self) -> Self:
        return build(type(self), self._values_(), getattr(self, "_details_", None))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return build(type(self), copy.deepcopy(self._values_(), memo), getattr(self, "_details_", None))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as data: the class by its name or its fields, the values, and outputs the class does not declare."""
        extras = getattr(getattr(self, "_details_", None), "extras", None)
        return unpickled, (by_name_or_fields(type(self)), self._values_(), dict(extras) if extras else None)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let records be fields and response models: validated from a mapping of all fields, written as one."""
        return record_schema(cls, cls._plan_, handler, functools.partial(build, cls), values_of)


Signature._plan_ = Plan("Signature", (), "")


def values_of(record: Signature) -> dict[str, object]:
    """Return the fields of a record that are set, by name, as they are; values are not copied."""
    return record._values_()


class Extras:
    """The outputs that a record's class does not declare: the only data of its call that a pickle keeps."""

    __slots__ = ("extras",)

    def __init__(self, extras: Mapping[str, object]) -> None:
        self.extras = extras


_unset = object.__getattribute__


_ELSEWHERE = {
    "toDict": ": write prediction.to_dict()",
    "get_lm_usage": ": write dspex.details(prediction).usage",
    "completions": ": write dspex.details(prediction).completions",
    "usage": ": write dspex.details(prediction).usage",
    "trajectory": ": write dspex.details(prediction).trajectory",
}
"""Where to look for what other libraries keep among the fields."""


def _get(record: Signature, name: str) -> object:
    """Read a slot; MISSING when it is not set. Never asks ``__getattr__``."""
    try:
        return _unset(record, name)
    except AttributeError:
        return MISSING


def signature_of(given: object) -> AnySignature:
    """
    Return the signature class that a program is made of: the class itself, or the one that a string describes.

    Raises:
        SignatureError: The string is not a signature, or it is neither.
    """
    cls = Signature.from_string(given) if isinstance(given, str) else given
    plan_of(cls)
    return cast("AnySignature", cls)


def plan_of(signature: object) -> Plan:
    """
    Return the compiled plan of a signature class.

    Raises:
        SignatureError: It is not a signature class.
    """
    if not isinstance(signature, SignatureMeta):
        raise SignatureError(f"expected a Signature class or a string such as 'question -> answer', got {signature!r}")
    return signature._plan_


def build(cls: type[C], values: Mapping[str, object], details: object = None) -> C:
    """Make a record from values of the right types, outputs included, without its constructor."""
    record = cls.__new__(cls)
    for name, value in values.items():
        setattr(record, name, value)
    if details is not None:
        record._details_ = details  # type: ignore[attr-defined]  # the hidden slot of Signature
    return record


def make_class(
    name: str, bases: tuple[type, ...], fields: tuple[Field, ...], instructions: str, module: str
) -> AnySignature:
    """Make a signature class from compiled fields: whole at once, without what a class statement needs."""
    instructions = mended(instructions)  # a docstring must be UTF-8
    plan = Plan(name, fields, instructions)
    inherited = _inherited([base for base in bases if isinstance(base, SignatureMeta)])
    namespace = {
        "__module__": module,
        "__doc__": instructions,
        "__slots__": tuple([each.name for each in fields if each.name not in inherited]),
        "__init__": make_init(name, plan.inputs),
        "_plan_": plan,
    }
    meta: Any = type(bases[0])  # SignatureMeta, or the author's own below it
    try:
        cls = super(SignatureMeta, meta).__new__(meta, name, bases, namespace)
    except TypeError as error:
        raise SignatureError(f"{name} cannot be a class with these bases and fields: {error}") from error
    return cast("AnySignature", cls)


def by_name_or_fields(cls: SignatureMeta) -> object:
    """Return how a pickle names a signature class: itself where it can be imported, else what it is made of."""
    for each in (cls, _record_of(cls)):
        found: object = sys.modules.get(each.__module__)
        for name in each.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is each:
            return each
    plan = cls._plan_
    fields = [
        (each.name, each.annotation, FieldSpec(each.role, each.desc, constraints=dict(each.constraints)))
        for each in plan.fields.values()
    ]
    base = "Prediction" if issubclass(cls, Signature._string_base_) else "Signature"
    return plan.name, cls.__module__, cls.__qualname__, base, fields, plan.instructions if plan.authored else ""


def unpickled(kind: Any, values: Mapping[str, object], extras: Mapping[str, object] | None) -> object:
    """Make the record of a pickle."""
    details = Extras(extras) if extras else None
    if isinstance(kind, SignatureMeta):
        return build(cast("AnySignature", kind), values, details) if kind._plan_.fields else kind(**values)
    name, module, qualname, base, fields, instructions = kind
    compiled = tuple(compile_field(each, annotation, spec, name) for each, annotation, spec in fields)
    bases = (Signature._string_base_ if base == "Prediction" else Signature,)
    cls = make_class(name, bases, compiled, instructions, module)
    type.__setattr__(cls, "__qualname__", qualname)
    return build(cls, values, details)


def _make_from_string(name: str, fields: tuple[Field, ...], instructions: str) -> AnySignature:
    return make_class(name, (Signature._string_base_,), fields, instructions, __name__)


def derive(cls: SignatureMeta, fields: tuple[Field, ...], instructions: str) -> AnySignature:
    """Make a subclass with these fields (all of ``cls``'s and perhaps more) and instructions."""
    return make_class(cls.__name__, (cls,), fields, inspect.cleandoc(instructions), cls.__module__)


def _record_of(cls: SignatureMeta) -> SignatureMeta:
    """Return the oldest ancestor with the same fields: records of its kin are comparable."""
    names = cls._plan_.fields.keys()
    for base in cls.__mro__[1:]:
        if isinstance(base, SignatureMeta) and base._plan_.fields.keys() == names:
            cls = base
    return cls


def _are_kin(one: SignatureMeta, other: SignatureMeta) -> bool:
    """Tell whether records of two classes may be equal: of one lineage, or one made again from a pickle."""
    if one is other or _record_of(one) is _record_of(other):
        return True
    if (one.__module__, one.__qualname__) != (other.__module__, other.__qualname__):
        return False
    fields, others = one._plan_.fields, other._plan_.fields
    return [(each.name, each.annotation) for each in fields.values()] == [
        (each.name, each.annotation) for each in others.values()
    ]


def _inherited(parents: list[SignatureMeta]) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for parent in reversed(parents):
        fields |= parent._plan_.fields
    return fields


def _docstring(namespace: Mapping[str, object], parents: list[SignatureMeta]) -> str:
    own = namespace.get("__doc__")
    if isinstance(own, str) and own:
        return inspect.cleandoc(own)
    return next((text for parent in parents if (text := parent.authored_instructions)), "")


def _own_fields(
    name: str, specs: Mapping[str, FieldSpec], annotations: Mapping[str, object], inherited: Mapping[str, Field]
) -> tuple[Field, ...]:
    """Compile the fields that a class statement declares, behind those it inherits."""
    fields = dict(inherited)
    for each, spec in specs.items():
        fields[each] = compile_field(each, annotations[each], spec, name)
    return tuple(fields.values())


def _refuse_strays(cls_name: str, specs: Mapping[str, FieldSpec], annotations: ClassAnnotations) -> None:
    """Refuse annotations that a type checker takes for fields and the record would not have."""
    for name, annotation in annotations.written.items():
        text = annotation if isinstance(annotation, str) else repr(annotation)
        if name not in specs and "ClassVar" not in text and not name.startswith("_"):
            raise SignatureError(
                f"{cls_name}.{name} is neither input nor output: write "
                f"`{name}: ... = InputField()` or `{name}: ... = OutputField()`"
            )
