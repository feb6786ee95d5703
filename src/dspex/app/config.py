"""The only reader of the environment."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from dspex.app.otel.names import CONTENT
from dspex.errors import ConfigError
from dspex.protocols.model import Secret
from dspex.services.lm.proxies import Proxies

__all__ = [
    "read_cache_folder",
    "read_content_allowed",
    "read_dashboard_token",
    "read_key",
    "read_no_color",
    "read_proxies",
    "read_socket_folders",
    "read_watch",
]


def read_key(variable: str) -> Secret | None:
    """Return the API key kept in an environment variable, or None when it is unset or empty."""
    value = os.environ.get(variable, "").strip()
    return Secret(value) if value else None


def read_proxies() -> Proxies:
    """Return the proxies that ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name."""
    return Proxies.of_environment(os.environ)


def read_content_allowed() -> bool:
    """True when OpenTelemetry's variable for generative AI allows the words of users and models in spans."""
    return os.environ.get(CONTENT, "").strip().lower() in ("true", "span_only", "span_and_event")


def read_no_color() -> bool:
    """True when the user wants no colours (the NO_COLOR convention)."""
    return bool(os.environ.get("NO_COLOR"))


def read_cache_folder() -> Path:
    """Return dspex's folder in the user's cache: below ``XDG_CACHE_HOME``, or where the system has caches."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "dspex"
    try:
        home = Path.home()
    except RuntimeError as error:  # a user without a home
        raise ConfigError(f"there is no folder for caches: {error}; XDG_CACHE_HOME names one") from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "dspex"


def read_watch() -> str:
    """Return what ``DSPEX_WATCH`` says: the name by which Apps without ``watch=`` can be watched; empty for none."""
    return os.environ.get("DSPEX_WATCH", "").strip()


def read_socket_folders() -> list[Path]:
    """Return where the sockets of this user's Apps are: the first that can be used takes new ones."""
    user = os.getuid()
    own = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{user}"
    found = [Path(own) / "dspex", Path(tempfile.gettempdir()) / f"dspex-{user}"]
    return [each for each in found if each.is_absolute()]


def read_dashboard_token() -> str | None:
    """Return the token of the page that ``dspex top`` is to look at, where its address does not hold it."""
    return os.environ.get("DSPEX_TOKEN", "").strip() or None
