"""Structured reports that stay silent until the host application configures logging."""

from __future__ import annotations

import logging
from typing import cast

import structlog

__all__ = ["get_logger"]


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
