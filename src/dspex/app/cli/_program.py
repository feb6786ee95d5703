"""Finding the program, the metric and the optimizer that a command line names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from dspex import optimizers
from dspex.app.cli._rows import check_source
from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric, exact_match, f1
from dspex.optimizers import Algorithm
from dspex.programs import Module

__all__ = ["compared_field", "find_metric", "find_object", "find_optimizer", "find_program"]

_METRICS = {"exact_match": exact_match, "f1": f1}


def find_program(target: str, state: Path | None = None) -> object:  # a Module, or any object with an async forward
    """
    Return the program at ``package.module:Name``, imported from the current folder or from what is installed.

    A class is made an instance of; ``state`` is a saved program to load into it.

    Raises:
        ConfigError: There is no such module or name, or it is not a program.
        StateError: ``state`` cannot be loaded into it.
    """
    program = _instance(find_object(target, "rag:RAG"), target)
    if state is not None:
        if not isinstance(program, Module):
            raise ConfigError(f"{target} is not a Module: it has no state to load")
        check_source(state)
        program = program.load(state)
    return program


def find_object(target: str, example: str) -> object:
    """
    Return whatever is at ``package.module:name``, imported from the current folder or from what is installed.

    Raises:
        ConfigError: There is no such module or name.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{target!r} is not module:Program, for example {example}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"there is no module {module_name!r} here ({here}) or installed") from error
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{module_name} has no {name!r}")
        found = getattr(found, part)
    return found


def find_metric(target: str, field: str) -> Metric:
    """
    Return ``exact_match`` or ``f1`` of a field, or the metric at ``module:name``.

    Raises:
        ConfigError: There is no such metric.
    """
    if target in _METRICS:
        return _METRICS[target](field)
    if ":" not in target:
        raise ConfigError(f"--metric {target} is not {' or '.join(_METRICS)}, and not module:function")
    metric: Metric = find_object(target, "metrics:right")  # type: ignore[assignment]  # looked at below
    check_metric(metric)
    return metric


def compared_field(target: str, field: str) -> str | None:
    """Return the field that ``exact_match`` and ``f1`` look at in the rows; None where another metric decides."""
    return field if target in _METRICS else None


def find_optimizer(target: str, metric: Metric) -> Algorithm:
    """
    Return the optimizer of this name with its defaults, or the one at ``module:name``.

    Raises:
        ConfigError: There is no such optimizer.
    """
    if ":" not in target:
        kinds = {name: each for name in optimizers.__all__ if _is_optimizer(each := getattr(optimizers, name))}
        if target not in kinds:
            raise ConfigError(f"--optimizer {target} is not module:name, and not one of {', '.join(sorted(kinds))}")
        try:
            made: Algorithm = kinds[target](metric=metric)
        except TypeError as error:
            raise ConfigError(f"{target} needs arguments ({error}); name an instance as module:name") from error
        return made
    found = find_object(target, "tuning:optimizer")
    if not isinstance(found, Algorithm):
        raise ConfigError(f"{target} is not an optimizer: it is {type(found).__name__}")
    return found


def _is_optimizer(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, Algorithm) and each is not Algorithm


def _instance(found: object, target: str) -> object:
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"{target} needs arguments ({error}); name an instance of it instead") from error
    if not hasattr(type(found), "forward"):
        raise ConfigError(f"{target} is not a program: it has no `async def forward`")
    return found
