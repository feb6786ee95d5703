"""Log records that name the trace they belong to."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import MutableMapping
from typing import Any

from dspex.errors import MissingExtra

__all__ = ["TraceIds"]


Event = MutableMapping[str, Any]
"""Of structlog."""


class TraceIds(logging.Filter):
    """
    Adds ``trace_id`` and ``span_id`` of the current span: a filter of the standard library, a processor of structlog.

    Raises:
        MissingExtra: OpenTelemetry's API is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        if importlib.util.find_spec("opentelemetry") is None:
            raise MissingExtra("otel", "OpenTelemetry.log_ids")
        self._trace = importlib.import_module("opentelemetry.trace")

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; every record passes."""
        record.trace_id, record.span_id = self._current() or ("", "")
        return True

    def __call__(self, logger: object, method: str, event: Event) -> Event:
        """Add the fields to an event of structlog; those it has stay."""
        if (found := self._current()) is not None:
            event.setdefault("trace_id", found[0])
            event.setdefault("span_id", found[1])
        return event

    def _current(self) -> tuple[str, str] | None:
        span = self._trace.get_current_span().get_span_context()
        return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else None
