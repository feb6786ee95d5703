"""The identity of a job: hashes of everything that its result depends on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex.errors import ConfigError
from dspex.evaluation import as_example
from dspex.optimizers._sources import is_users, path_of, sources_of
from dspex.programs import Module, Tool
from dspex.protocols.headers import header_identity
from dspex.protocols.model import LM, LMPool

__all__ = [
    "described",
    "digest",
    "fingerprint_examples",
    "fingerprint_lms",
    "fingerprint_metric",
    "fingerprint_program",
    "path_of",
    "plain_options",
]


_DEEPEST = 20


def digest(value: object) -> str:
    """Return a hash of a value by its content: the same in every process."""
    text = json.dumps(_plain(value, ""), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_program(program: Module) -> str:
    """Return a hash of a program's class and of its predictors' state; keys take no part."""
    state = {path: each for path, each in program.dump_state().items() if path != "metadata"}
    return digest([path_of(type(program)), state])


def fingerprint_examples(examples: Sequence[object] | None) -> str:
    """
    Return a hash of the examples' contents, in their order.

    Raises:
        ConfigError: A value has no JSON form, so that nothing could tell whether it has changed.
    """
    rows = [_row(example, f"row {number}: ") for number, example in enumerate(examples or ())]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _row(example: object, where: str) -> dict[str, object]:
    return {name: _plain(value, f"{where}{name}") for name, value in as_example(example, where).items()}


def fingerprint_lms(lms: Mapping[str, LM | LMPool]) -> str:
    """Return a hash of model records without their keys."""
    return digest({name: _lm(lm) for name, lm in lms.items()})


def _lm(lm: str | LM | LMPool) -> object:
    if isinstance(lm, LM):
        headers = [header_identity(lm.headers)] if lm.headers else []
        return [lm.model, lm.api_base, dataclasses.asdict(lm.params), *headers]
    return lm if isinstance(lm, str) else [[_lm(each) for each in lm.members], lm.weights]


def fingerprint_metric(metric: object, version: str | None) -> str:
    """
    Return a hash of a metric: where it lives, its source and what it was made with; or of the version given.

    Raises:
        ConfigError: Its source cannot be read and no version was given.
    """
    if metric is None:
        return ""
    if version is not None:
        return digest(["version", path_of(metric), version])
    return digest([_callable(metric), sources_of([metric])])


def described(value: object, behind: list[object], depth: int = 0) -> object:
    """
    Return a value that a program was made with as JSON values.

    Functions and objects are named by their classes, and put into ``behind`` for a look at their code. Of an object of
    the user's own the plain attributes count; what changes while it runs belongs into one that begins with ``_``.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (LM, LMPool)):
        return _lm(value)
    if isinstance(value, Tool):
        spec = value.spec
        behind.append(value.function)
        return [spec.name, spec.description, _values(spec.parameters), value.timeout, described(value.function, behind)]
    if isinstance(value, Mapping):
        return {str(name): described(each, behind, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each, behind, depth + 1) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((described(each, behind, depth + 1) for each in value), key=json.dumps)
    behind.append(value)
    if isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
        return ["partial", *(described(each, behind, depth + 1) for each in parts)]
    if inspect.ismethod(value):
        return [path_of(value), described(value.__self__, behind, depth + 1)]
    if isinstance(value, type) or inspect.isroutine(value) or depth > _DEEPEST:
        return path_of(value)
    try:
        return [path_of(value), _plain(value, "")]
    except (ConfigError, ValueError, TypeError, RecursionError):
        plain = vars(value) if is_users(type(value).__module__) and hasattr(value, "__dict__") else {}
        kept = {name: each for name, each in plain.items() if not name.startswith("_")}
        return [path_of(value), described(kept, behind, depth + 1)]


def plain_options(value: object) -> object:
    """Return an option of an optimizer as JSON values: programs, models and functions by their own hashes."""
    if isinstance(value, Module):
        return fingerprint_program(value)
    if isinstance(value, (LM, LMPool)):
        return _lm(value)
    return _values(value)


def _callable(metric: object) -> list[object]:
    if isinstance(metric, Module):  # its predictors and its class; what else it was made with, by value
        own = {name: each for name, each in metric.__dict__.items() if not isinstance(each, Module)}
        return ["program", fingerprint_program(metric), _source(type(metric)), _values(own)]
    if isinstance(metric, functools.partial):
        return ["partial", _callable(metric.func), _values(metric.args), _values(metric.keywords)]
    if inspect.ismethod(metric):
        return ["method", _callable(metric.__func__), _state(metric.__self__)]
    if inspect.isfunction(metric):
        cells = [cell.cell_contents for cell in metric.__closure__ or ()]
        return [path_of(metric), _source(metric), _values(cells), _values(metric.__defaults__ or ())]
    return [path_of(metric), _source(type(metric)), _state(metric)]


def _source(thing: Callable[..., object]) -> str:  # a class or a function
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError) as error:
        raise ConfigError(
            f"the source of the metric {path_of(thing)} cannot be read: give metric_version=, and change it when the "
            f"metric changes"
        ) from error


def _state(owner: object) -> object:
    if dataclasses.is_dataclass(owner) and not isinstance(owner, type):
        return _values({each.name: getattr(owner, each.name) for each in dataclasses.fields(owner)})
    return _values(getattr(owner, "__dict__", {}))


def _values(values: object) -> object:
    """Return what a metric was made with; functions by their own source, what has no JSON form by its class."""
    if isinstance(values, Mapping):
        return {str(name): _values(each) for name, each in values.items()}
    if isinstance(values, (list, tuple)):
        return [_values(each) for each in values]
    if inspect.isfunction(values) or inspect.ismethod(values) or isinstance(values, functools.partial):
        return _callable(values)
    try:
        return _plain(values, "")
    except ConfigError:
        return path_of(values)


def _plain(value: object, where: str) -> object:
    """Return a value as JSON has it, sets in a fixed order."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each, where) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, where) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(each, where) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise ConfigError(
            f"{where or 'an option'} is a {type(value).__name__}, which has no JSON form: a job needs its content to "
            f"tell whether it has changed"
        ) from error
