"""Attach OpenTelemetry to an App, where its API is installed."""

from __future__ import annotations

import importlib
import importlib.util
import weakref
from typing import TYPE_CHECKING, Any

from dspex.app.config import read_content_allowed
from dspex.app.otel import names
from dspex.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.app._app import App
    from dspex.app.otel.options import OpenTelemetry

__all__ = ["attach"]


def attach(app: App, options: OpenTelemetry) -> None:
    """Have an App's events made into spans and metrics; MissingExtra where OpenTelemetry's API is not installed."""
    if importlib.util.find_spec("opentelemetry") is None:
        raise MissingExtra("otel", "otel=True")
    # Loaded here alone: an App without it pays for nothing.
    api: Any = importlib.import_module("opentelemetry.trace")
    metrics: Any = importlib.import_module("opentelemetry.metrics")
    tracing: Any = importlib.import_module("dspex.app.otel.tracing")
    metering: Any = importlib.import_module("dspex.app.otel.metering")
    tracer = (options.tracer_provider or api.get_tracer_provider()).get_tracer(names.SCOPE, schema_url=names.SCHEMA)
    meter = (options.meter_provider or metrics.get_meter_provider()).get_meter(names.SCOPE, schema_url=names.SCHEMA)
    content = options.capture and read_content_allowed()
    spans = tracing.Tracing(tracer, capture=options.capture, content=content, propagate=options.propagate)
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
