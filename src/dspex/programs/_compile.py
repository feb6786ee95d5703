"""From what an author wrote to what runs: fields with codecs, a plan, and the record's ``__init__``."""

from __future__ import annotations

import functools
import keyword
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex.errors import MissingInput, SignatureError
from dspex.programs.adapters._repair import describe
from dspex.programs.adapters._types import allows_none, type_text
from dspex.programs.adapters._values import UNTYPED, make_codec
from dspex.programs.fields import MISSING, Field, FieldSpec
from dspex.programs.inputs import InputSpec

__all__ = [
    "Plan",
    "check_name",
    "compile_field",
    "default_instructions",
    "make_init",
]


class Plan:
    """
    A compiled signature: what programs and adapters read, so that nothing is worked out twice.

    Attributes:
        name: The signature's name, for prompts and errors.
        authored: True when somebody wrote the instructions; otherwise they are made from the fields.
        fields: All fields by name, inputs first.
        inputs, outputs: The fields of each side, in order.
        rendered: Each adapter's own pre-rendered form of this plan, by adapter.
    """

    __slots__ = ("_input_spec", "_instructions", "authored", "fields", "inputs", "name", "outputs", "rendered")

    def __init__(self, name: str, fields: Iterable[Field], instructions: str) -> None:
        given = tuple(fields)
        self.name = name
        self.inputs = tuple([each for each in given if each.role == "input"])
        self.outputs = tuple([each for each in given if each.role == "output"])
        self.fields: Mapping[str, Field] = types.MappingProxyType({e.name: e for e in (*self.inputs, *self.outputs)})
        self.authored = bool(instructions)
        self._instructions = instructions
        self.rendered: dict[object, Any] = {}  # a memo: each adapter knows what it put there
        self._input_spec: InputSpec | None = None

    @property
    def instructions(self) -> str:
        """The instructions for the model."""
        if not self._instructions:
            self._instructions = default_instructions(self.inputs, self.outputs)
        return self._instructions

    @property
    def input_spec(self) -> InputSpec:
        """The inputs as the parameters of a predictor: by name only."""
        spec = self._input_spec
        if spec is None:
            required = frozenset(each.name for each in self.inputs if not (each.has_default or each.optional))
            spec = self._input_spec = InputSpec(tuple(each.name for each in self.inputs), required)
        return spec

    def check_inputs(self, given: Mapping[str, object], program: str) -> dict[str, object]:
        """
        Return the inputs as values of their types, defaults filled in.

        Values of the declared class pass as they are; others are converted where pydantic's lax mode converts
        (``"3"`` to an int, a dict to a model, a tuple to a list), and a list of texts or passages given to a
        ``str`` becomes numbered lines.

        Raises:
            MissingInput: Inputs are missing, unknown, or of another type; all of them are named.
        """
        values: dict[str, object] = {}
        missing: list[str] = []
        invalid: list[str] = []
        taken = 0
        for field in self.inputs:
            name = field.name
            if name in given:
                taken += 1
                value = given[name]
                codec = field.codec
                if type(value) is not codec.exact:
                    try:
                        value = codec.check(value)
                    except (ValueError, TypeError, RecursionError) as error:
                        invalid.append(_mismatch(field, value, error))
                values[name] = value
            elif field.has_default or field.optional:
                values[name] = field.make_default()
            else:
                missing.append(name)
        if missing or invalid or taken != len(given):
            unexpected = [name for name in given if name not in self.fields or self.fields[name].role == "output"]
            known = [each.name for each in self.inputs]
            raise MissingInput(program, missing=missing, unexpected=unexpected, invalid=invalid, known=known)
        return values


def _mismatch(field: Field, value: object, error: Exception) -> str:
    return f"{field.name} is {_a(type(value).__name__)}, expected {field.type_text} ({describe(error)})"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def default_instructions(inputs: Iterable[Field], outputs: Iterable[Field]) -> str:
    """Return the sentence that stands in for a missing docstring: it names what is given and what is wanted."""
    wanted = _names(outputs)
    given = _names(inputs)
    return f"Using {given}, work out {wanted}." if given else f"Work out {wanted}."


def _names(fields: Iterable[Field]) -> str:
    names = [each.name for each in fields]
    if len(names) < 2:
        return f"`{names[0]}`" if names else ""
    return f"`{'`, `'.join(names[:-1])}` and `{names[-1]}`"


def check_name(name: str, where: str) -> None:
    """
    Refuse names that cannot be fields.

    Raises:
        SignatureError: The name is not an identifier, a keyword, or starts with an underscore.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise SignatureError(f"{where}: {name!r} cannot be a field: it is not a name Python accepts for a parameter")
    if name.startswith("_"):
        raise SignatureError(
            f"{where}: {name!r} cannot be a field: names with a leading underscore are the record's own"
        )


def compile_field(name: str, annotation: object, spec: FieldSpec, where: str) -> Field:  # any annotation
    """
    Return the compiled field.

    Raises:
        SignatureError: The name, the type or the default is not valid; the message starts with ``where``.
    """
    check_name(name, where)
    try:
        codec = make_codec(annotation, dict(spec.constraints), spec.role)
        if spec.default is not MISSING and spec.default is not None and type(spec.default) is not codec.exact:
            codec.check(spec.default)
    except (SignatureError, ValueError) as error:
        problem = str(error) if isinstance(error, SignatureError) else f"its default does not fit: {describe(error)}"
        raise SignatureError(f"{where}.{name}: {problem}") from error
    if annotation is UNTYPED:
        annotation = str
    return Field(
        name,
        spec.role,
        annotation,
        spec.desc,
        spec.default,
        spec.default_factory,
        tuple(spec.constraints.items()),
        type_text(annotation),
        codec,
        allows_none(annotation),
    )


def make_init(cls_name: str, inputs: Iterable[Field]) -> Callable[..., None]:
    """
    Return the ``__init__`` that a person would have written for a slotted class with these inputs.

    Its code is compiled once per shape, from fixed text, and the field names are put into the compiled code.
    """
    annotations: dict[str, object] = {}
    defaults: dict[str, object] = {}
    makers: list[Callable[[], object] | None] = []
    for field in inputs:
        annotations[field.name] = field.annotation
        makers.append(field.default_factory)
        if field.has_default or field.optional:
            defaults[field.name] = field.default if field.has_default else None
    names = tuple(annotations)
    code = _init_code(tuple([make is not None for make in makers]))
    own = dict(zip(_init_names(len(names)), names, strict=True))
    code = code.replace(
        co_varnames=(code.co_varnames[0], *names),
        co_names=tuple([own.get(each, each) for each in code.co_names]),
        co_qualname=f"{cls_name}.__init__",
    )
    scope: dict[str, object] = {"_missing": MISSING}
    if defaults:
        scope |= {f"_make{at}": make for at, make in enumerate(makers) if make is not None}
    init = types.FunctionType(code, scope)
    init.__kwdefaults__ = defaults
    annotations["return"] = None
    init.__annotations__ = annotations
    return init


@functools.lru_cache(maxsize=256)
def _init_names(count: int) -> tuple[str, ...]:
    return tuple([f"_input{at}" for at in range(count)])


@functools.lru_cache(maxsize=256)
def _init_code(has_factory: tuple[bool, ...]) -> types.CodeType:
    """Compile ``__init__`` for inputs of this shape; the first parameter's name leaves ``self`` to the fields."""
    parameters = _init_names(len(has_factory))
    body = [
        f"    _record.{name} = " + (f"_make{at}() if {name} is _missing else {name}" if has_factory[at] else name)
        for at, name in enumerate(parameters)
    ]
    head = ", ".join(["_record", *(["*", *parameters] if parameters else [])])
    namespace: dict[str, types.FunctionType] = {}
    exec(f"def __init__({head}):\n" + ("\n".join(body) or "    pass"), namespace)  # noqa: S102 - fixed text only
    code: types.CodeType = namespace["__init__"].__code__
    return code
