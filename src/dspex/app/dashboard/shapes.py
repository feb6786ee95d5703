"""The one shape of everything that is shown: JSON objects."""

from __future__ import annotations

from typing import Any

__all__ = ["Plain"]

Plain = dict[str, Any]
"""A JSON object: its values are what ``json.dumps`` takes."""
