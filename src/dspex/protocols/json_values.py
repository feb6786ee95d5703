"""The type of JSON objects, for what is read from files, journals, models and schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Json", "JsonDict"]

Json = Mapping[str, Any]
"""A JSON object: its members are JSON values, and whoever reads one checks what it relies on."""

JsonDict = dict[str, Any]
"""A JSON object that is being written."""
