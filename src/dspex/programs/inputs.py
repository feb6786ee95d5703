"""Which inputs a program takes, and whether those given fit, before anything is started or paid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dspex.errors import MissingInput
from dspex.programs._annotations import parameters_of

__all__ = ["InputSpec", "bind_inputs", "inputs_of", "pick_inputs"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """
    The inputs of a program: the parameters of its ``forward``, or what its ``input_spec()`` says.

    Attributes:
        names: All of them, in order.
        required: Those without a default.
        positional: Those that may be given by position.
        takes_any: True when ``forward`` has ``**parameters``.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    positional: tuple[str, ...] = ()
    takes_any: bool = False


def spec_of_function(forward: Callable[..., object]) -> InputSpec:
    """Return the inputs of a ``forward`` method as it is written, ``self`` left out."""
    names, required, positional = [], set(), []
    takes_any = False
    for parameter in list(parameters_of(forward).values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(parameter.name)
            if parameter.default is parameter.empty:
                required.add(parameter.name)
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(parameter.name)
    return InputSpec(tuple(names), frozenset(required), tuple(positional), takes_any)


def inputs_of(program: object) -> InputSpec:
    """
    Return the inputs of a program: a Module, or any object with an async ``forward``.

    Raises:
        TypeError: It has no ``forward``, or is a class; or its ``input_spec()`` returns something else.
    """
    if isinstance(program, type):
        raise TypeError(f"{program.__name__} is a class, not a program: make one of it, {program.__name__}(...)")
    own = getattr(type(program), "input_spec", None)
    if callable(own):
        spec = own(program)
        if not isinstance(spec, InputSpec):
            raise TypeError(f"{type(program).__name__}.input_spec() returned {spec!r:.60}, not an InputSpec")
        return spec
    forward = getattr(type(program), "forward", None)
    if forward is None:
        hint = f"; write dspex.Predict({program!r})" if isinstance(program, str) and "->" in program else ""
        raise TypeError(f"{type(program).__name__} is not a program: it has no `async def forward`{hint}")
    return spec_of_function(forward)


def bind_inputs(program: object, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
    """
    Return the inputs by name; defaults are left to ``forward``.

    Args:
        program: A Module, or any object with an async ``forward``.
        args: Inputs given by position.
        kwargs: Inputs given by name.

    Raises:
        MissingInput: Inputs are missing or unknown; all of them are named.
    """
    spec = inputs_of(program)
    given = dict(kwargs)
    if not args and tuple(given) == spec.names:  # all of them, as most calls give them
        return given
    unexpected: list[str] = []
    if args:
        by_position = dict(zip(spec.positional, args, strict=False))
        unexpected += [f"{len(args) - len(by_position)} more by position"] * (len(args) > len(by_position))
        unexpected += [f"{name} twice" for name in by_position if name in given]
        given = {**by_position, **given}
    if not unexpected and given.keys() >= spec.required and (spec.takes_any or _all_known(given, spec)):
        return given
    missing = [name for name in spec.names if name in spec.required and name not in given]
    if not spec.takes_any:
        unexpected += [name for name in given if name not in spec.names]
    raise MissingInput(_name_of(program), missing=missing, unexpected=unexpected, known=spec.names)


def _name_of(program: object) -> str:
    """Return what a program is called in messages: its class, and a predictor's signature."""
    signature = getattr(program, "signature", None)
    name = type(program).__name__
    return f"{name}({signature.__name__})" if isinstance(signature, type) else name


def _all_known(given: Mapping[str, object], spec: InputSpec) -> bool:
    return len(given) <= len(spec.names) and all(name in spec.names for name in given)


def pick_inputs(program: object, row: Mapping[str, object], where: str = "") -> dict[str, object]:
    """
    Return the inputs that a row of data holds; its other fields are labels.

    Args:
        program: A Module, or any object with an async ``forward``.
        row: Field values by name.
        where: Put before the error's message, such as ``"row 7: "``.

    Raises:
        MissingInput: The row lacks inputs.
    """
    spec = inputs_of(program)
    missing = [name for name in spec.names if name in spec.required and name not in row]
    if missing:
        raise MissingInput(_name_of(program), missing=missing, where=where)
    return {name: row[name] for name in spec.names if name in row}
