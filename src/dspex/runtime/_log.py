"""Structured reports that stay silent until the host application configures logging."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Final, cast

import structlog

__all__ = ["get_logger", "shown"]

_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) - {"exc_info", "stack_info"} | {"message", "asctime"}
"""What a log record has of its own: an extra field by one of these names would be an error."""


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
            processors=[structlog.stdlib.filter_by_level, _rename_reserved, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
        ),
    )


def _rename_reserved(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _RESERVED & event.keys():
        event[f"{name}_"] = event.pop(name)
    return event
