"""Adapters by name."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.programs.adapters._adapter import Adapter, AdapterName
from dspex.programs.adapters.auto import AutoAdapter
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.adapters.json_object import JSONAdapter
from dspex.programs.adapters.tool import ToolAdapter
from dspex.programs.adapters.xml import XMLAdapter

__all__ = ["DEFAULT_ADAPTER", "AdapterChoice", "choose_adapter"]

AdapterChoice = Adapter | AdapterName | None
"""An adapter, the name of one, or None for what stands above: the App's, or ``auto``."""

DEFAULT_ADAPTER: Adapter = AutoAdapter()
_BY_NAME: Mapping[str, Adapter] = {
    each.name: each for each in (DEFAULT_ADAPTER, ChatAdapter(), JSONAdapter(), XMLAdapter(), ToolAdapter())
}


def choose_adapter(choice: AdapterChoice) -> Adapter | None:
    """
    Return the adapter that is meant; None for the default.

    Raises:
        ValueError: There is no adapter of that name, or it is not an adapter.
    """
    if choice is None or (not isinstance(choice, (str, type)) and isinstance(choice, Adapter)):
        return choice
    if isinstance(choice, str) and choice in _BY_NAME:
        return _BY_NAME[choice]
    raise ValueError(f"adapter={choice!r}: expected one of {', '.join(_BY_NAME)}, or an Adapter such as JSONAdapter()")
