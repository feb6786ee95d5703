"""The one shape of everything that is shown: JSON objects, and the version of the whole."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["VERSION", "Plain"]

VERSION: Final = 1
"""Of a snapshot: raised when a field changes its meaning or goes."""

Plain = dict[str, Any]
"""A JSON object: its values are what ``json.dumps`` takes."""
