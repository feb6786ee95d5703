"""Finding the program that a command line names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from dspex.errors import ConfigError
from dspex.programs import Module

__all__ = ["find_program"]


def find_program(target: str, state: Path | None = None) -> object:  # a Module, or any object with an async forward
    """
    Return the program at ``package.module:Name``, imported from the current folder or from what is installed.

    A class is made an instance of; ``state`` is a saved program to load into it.

    Raises:
        ConfigError: There is no such module or name, or it is not a program.
        StateError: ``state`` cannot be loaded into it.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"{target!r} is not module:Program, for example rag:RAG")
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
    program = _instance(found, target)
    if state is not None:
        if not isinstance(program, Module):
            raise ConfigError(f"{target} is not a Module: it has no state to load")
        if not state.is_file():
            raise ConfigError(f"there is no file {state} to load")
        program = program.load(state)
    return program


def _instance(found: object, target: str) -> object:
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f"{target} needs arguments ({error}); name an instance of it instead") from error
    if not hasattr(type(found), "forward"):
        raise ConfigError(f"{target} is not a program: it has no `async def forward`")
    return found
