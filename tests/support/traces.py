"""A tracer, a meter and a logger of the SDK that keep what they are given, for tests to read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import dspex

__all__ = ["Seen"]


class Seen:
    """The memory of an SDK: spans, metrics and logs of whoever was given these options."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's own
        self.loggers = LoggerProvider()
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))

    def options(self, **options: Any) -> dspex.OpenTelemetry:
        return dspex.OpenTelemetry(self.tracers, self.meters, self.loggers, **options)

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [each for each in self.spans.get_finished_spans() if each.name.startswith(beginning)]

    def one(self, beginning: str) -> ReadableSpan:
        (found,) = self.named(beginning)
        return found

    def path(self, span: ReadableSpan) -> list[str]:
        """The names of the spans from the root to this one."""
        known = {each.context.span_id: each for each in self.spans.get_finished_spans()}
        return [*(self.path(known[span.parent.span_id]) if span.parent is not None else []), span.name]

    def points(self) -> dict[str, list[tuple[Mapping[str, Any], Any]]]:
        """The metrics by name: attributes and data points."""
        return {
            metric.name: [(dict(point.attributes or {}), point) for point in metric.data.data_points]
            for metric in self.metrics()
        }

    def metrics(self) -> list[Any]:
        """The metrics as the SDK has them."""
        data = self.reader.get_metrics_data()
        return [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
