"""The model that a command line names."""

from __future__ import annotations

from dspex.errors import ConfigError
from dspex.protocols.model import LM

__all__ = ["named_model"]


def named_model(name: str, *, api_base: str | None) -> LM:
    """
    Return the record that the flags name.

    Raises:
        ConfigError: The name is not ``provider/model``.
    """
    try:
        return LM(name, api_base=api_base)
    except ValueError as error:
        raise ConfigError(str(error)) from error
