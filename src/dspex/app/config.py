"""The only reader of the environment."""

from __future__ import annotations

import os

from dspex.protocols.model import Secret
from dspex.services.lm.proxies import Proxies

__all__ = ["read_key", "read_no_color", "read_proxies"]


def read_key(variable: str) -> Secret | None:
    """Return the API key kept in an environment variable, or None when it is unset or empty."""
    value = os.environ.get(variable, "").strip()
    return Secret(value) if value else None


def read_proxies() -> Proxies:
    """Return the proxies that ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name."""
    return Proxies.of_environment(os.environ)


def read_no_color() -> bool:
    """Whether the user wants no colours (the NO_COLOR convention)."""
    return bool(os.environ.get("NO_COLOR"))
