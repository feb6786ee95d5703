"""Structured reports that stay silent until the host application configures logging."""

from __future__ import annotations

import logging
from typing import cast

import structlog

__all__ = ["get_logger", "shown"]


def shown(value: object) -> str:
    """Return the beginning of ``repr(value)``, whatever its class makes of that."""
    try:
        return repr(value)[:500]
    except Exception:  # noqa: BLE001 - a report about a value must not fail because of the value
        return f"<{type(value).__name__} that cannot be shown>"


def get_logger(room: str) -> structlog.stdlib.BoundLogger:
    """
    Return a structured logger over the standard library's ``dspex.<room>``.

    structlog's own configuration is the application's affair: it is neither read nor changed here.
    """
    root = logging.getLogger("dspex")
    if not root.handlers:
        root.addHandler(logging.NullHandler())  # a library says nothing until somebody listens
    logger = logging.getLogger(f"dspex.{room}")
    return cast(
        "structlog.stdlib.BoundLogger",
        structlog.wrap_logger(
            logger,
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
    )
