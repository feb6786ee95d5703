"""The options of OpenTelemetry: where spans and metrics go, and what they may tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.app.otel.logs import TraceIds
from dspex.app.otel.middleware import ASGIApp, TraceContextMiddleware
from dspex.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetry", "otel_of"]


@dataclass(frozen=True, slots=True)
class OpenTelemetry:
    """
    Spans and metrics of what an App does: ``App(otel=OpenTelemetry(capture=True))``; ``otel=True`` has the defaults.

    It needs the extra ``otel``: OpenTelemetry's API alone. Your process brings the SDK and the exporters.

    Attributes:
        tracer_provider: Where spans go; None for the process's own.
        meter_provider: Where metrics go; None for the process's own.
        logger_provider: Where events go that are of no span, such as the scores of an evaluation; None for the
            process's own.
        capture: True tells conversations, arguments, results and the texts of errors: the words of users and models.
            Messages, arguments and results also need ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` in the
            environment, as ``true``, ``span_only`` or ``span_and_event``.
        propagate: The providers whose calls carry the W3C header ``traceparent``, such as ``("vllm",)``; True for every
            provider. Baggage is never sent.

    Raises:
        ConfigError: ``capture`` or ``propagate`` makes no sense.
    """

    tracer_provider: TracerProvider | None = field(default=None, repr=False)
    meter_provider: MeterProvider | None = field(default=None, repr=False)
    logger_provider: LoggerProvider | None = field(default=None, repr=False)
    capture: bool = False
    propagate: bool | tuple[str, ...] = False

    def __post_init__(self) -> None:
        if not isinstance(self.capture, bool):
            raise ConfigError(f"OpenTelemetry(capture={self.capture!r:.60}) is neither True nor False")
        given = self.propagate
        if not isinstance(given, bool) and not (isinstance(given, tuple) and all(isinstance(x, str) for x in given)):
            raise ConfigError(f"propagate={given!r:.60} is neither True, False nor a tuple of providers' names")

    @staticmethod
    def middleware(app: ASGIApp) -> ASGIApp:
        """
        Return an ASGI application whose requests go on with the trace that their headers name.

        ``service.add_middleware(dspex.OpenTelemetry.middleware)`` for Starlette and FastAPI; ``dspex serve`` does so
        by itself. The headers are those that the process has its propagators for: W3C's ``traceparent`` and
        ``baggage``, unless ``OTEL_PROPAGATORS`` says otherwise. Where the framework has been instrumented, and has
        made a span of its own, that one stays the parent.

        Raises:
            MissingExtra: OpenTelemetry's API is not installed.
        """
        return TraceContextMiddleware(app)

    @staticmethod
    def log_ids() -> TraceIds:
        """
        Return what adds ``trace_id`` and ``span_id`` of the current span to log records, as hexadecimal digits.

        For the standard library: ``handler.addFilter(dspex.OpenTelemetry.log_ids())``, on a handler, which sees the
        records of all loggers; outside of every span both are empty. For structlog it is a processor:
        ``structlog.configure(processors=[dspex.OpenTelemetry.log_ids(), …])``; there they are left out. Where
        OpenTelemetry's own handler exports the records it is not needed.

        Raises:
            MissingExtra: OpenTelemetry's API is not installed.
        """
        return TraceIds()


def otel_of(given: bool | OpenTelemetry) -> OpenTelemetry | None:
    """Return the options for what an App was given; ConfigError when they make no sense."""
    if isinstance(given, OpenTelemetry):
        return given
    if not isinstance(given, bool):
        raise ConfigError(f"otel={given!r:.60} is neither True, False nor an OpenTelemetry")
    return OpenTelemetry() if given else None
