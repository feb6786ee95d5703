"""Attach OpenTelemetry to an App, where its API is installed."""

from __future__ import annotations

import importlib
import importlib.util
import weakref
from typing import TYPE_CHECKING

from dspex.app.config import read_content_allowed
from dspex.app.otel import names
from dspex.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.app._app import App
    from dspex.app.otel.options import OpenTelemetry

__all__ = ["attach"]


def attach(app: App, options: OpenTelemetry) -> None:
    """Have an App's events made into spans and metrics; MissingExtra where OpenTelemetry's API is not installed."""
    if importlib.util.find_spec("opentelemetry") is None:
        raise MissingExtra("otel", "otel=True")
    # Loaded here alone: an App without it pays for nothing.
    api = importlib.import_module("opentelemetry.trace")
    metrics = importlib.import_module("opentelemetry.metrics")
    tracing = importlib.import_module("dspex.app.otel.tracing")
    metering = importlib.import_module("dspex.app.otel.metering")
    tracer = (options.tracer_provider or api.get_tracer_provider()).get_tracer(names.SCOPE, schema_url=names.SCHEMA)
    meter = (options.meter_provider or metrics.get_meter_provider()).get_meter(names.SCOPE, schema_url=names.SCHEMA)
    content = options.capture and read_content_allowed()
    spans = tracing.Tracing(
        tracer, capture=options.capture, content=content, propagate=options.propagate, judged=_judged(options)
    )
    app.telemetry.attach("dspex.", spans, capture=content)
    held = weakref.ref(app)  # an instrument that is observed lives as long as its provider

    def health() -> Mapping[str, object]:
        found = held()
        if found is None:
            return {}
        tree = found._tree  # noqa: SLF001 - the App's own, also from the exporter's thread, which may only look
        waiting = tree.messages_waiting() if tree is not None and tree.is_of_this_process else None
        return {**found.health(), "messages": waiting}

    app.telemetry.attach("dspex.", metering.Metering(meter, health))


def _judged(options: OpenTelemetry) -> Callable[[Mapping[str, object], object], object] | None:
    """Return what writes verdicts down as events; None where the API that is installed knows no events yet."""
    logs = importlib.import_module("opentelemetry._logs")
    logger = (options.logger_provider or logs.get_logger_provider()).get_logger(names.SCOPE, schema_url=names.SCHEMA)
    try:
        logs.LogRecord(event_name=names.EVALUATION, context=None)
    except TypeError:
        return None

    def write(attributes: Mapping[str, object], context: object) -> None:
        logger.emit(logs.LogRecord(event_name=names.EVALUATION, attributes=attributes, context=context))

    return write
