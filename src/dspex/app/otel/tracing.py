"""Spans of OpenTelemetry, made of the events of one App."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dspex._guard import class_name
from dspex.app.otel import names
from dspex.app.otel.attributes import ASKS, CLIENTS, Attributes, Metadata, begun, ended, said
from dspex.app.otel.texts import LONGEST_NAME, bounded, plain
from dspex.telemetry import carried

__all__ = ["Tracing"]

_W3C: Final = TraceContextTextMapPropagator()

_TOLD: Final = ("dspex.lm.", "dspex.cache.", "dspex.step.", "dspex.parse.", "dspex.request.resubmit", "dspex.tool.late")
"""Events that become events of the span around them, under their own names."""

ENDED: Final = 1_000
"""Requests that have ended and whose scores may still come."""

Judged = Callable[[Attributes, Context], object]
"""Tells of a verdict: its attributes, and the context of what was judged."""


class _Open:
    """A span that has not ended: its token, the agent at work in it, and the spans of the same request."""

    __slots__ = ("agent", "inside", "kind", "span", "token")

    def __init__(self, kind: str, span: Span, token: Token[Context], inside: set[str], agent: str | None) -> None:
        self.kind = kind
        self.span = span
        self.token = token
        self.inside = inside
        self.agent = agent


class Tracing:
    """
    The handler that makes spans of events: attach it to ``"dspex."``.

    A span's parent is the current one of OpenTelemetry's context where it starts: that of the caller of ``app.run``,
    one of ours, or one that the program's own code has opened. Each of ours is current within what it is about.

    Args:
        tracer: Makes the spans.
        capture: The texts of errors are told.
        content: Messages, arguments and results are told as well.
        propagate: The providers that are sent the W3C header ``traceparent``; True for every one.
        judged: Is told of scores; None where nobody listens for them.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        capture: bool,
        content: bool,
        propagate: bool | tuple[str, ...],
        judged: Judged | None = None,
    ) -> None:
        self._tracer = tracer
        self._judged = judged
        self._capture = capture
        self._content = content
        self._propagate = propagate
        self._open: dict[str, _Open] = {}
        """By the ids of dspex's spans. A request that ends takes along what its code has left open: it stays small."""
        self._formats: dict[str, str] = {}
        """The span around each adapter's work, which has no span of its own here."""
        self._jobs: dict[str, SpanContext] = {}
        """The span of each job that is searched for now."""
        self._ended: OrderedDict[str, SpanContext] = OrderedDict()
        """The spans of the latest requests: their scores come after them."""

    def __call__(self, name: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        """Take an event."""
        kind, _, ending = name.removeprefix("dspex.").rpartition(".")
        if "span" in metadata and ending in ("start", "stop", "exception"):
            if kind.startswith("adapter."):
                self._format(ending, metadata)
            elif ending == "start":
                self._start(kind, metadata)
            else:
                self._end(kind, measurements, metadata)
        elif name.startswith(_TOLD):
            self._tell(name, measurements, metadata)
        elif name == "dspex.row.score" and self._judged is not None:
            self._judge(self._judged, measurements, metadata)

    # --- begin and end ----------------------------------------------------------------------------------------

    def _start(self, kind: str, metadata: Metadata) -> None:
        found = begun(kind, metadata)
        if found is None:
            return
        title, attributes = found
        if self._content:
            attributes |= said(kind, metadata)
        around = self._around(metadata["parent"]) if kind != "request" else None
        agent = attributes.get(names.AGENT_NAME) or (around.agent if around is not None else None)
        if kind == "tool" and agent is not None:
            attributes[names.AGENT_NAME] = agent
        context, links = contexts.get_current(), None
        if kind == "plan.step":
            # A trace of its own: a job has thousands of them, and lasts longer than whoever has begun it.
            links = [Link(each) for each in (self._jobs.get(metadata["job"]),) if each is not None]
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
        span = self._tracer.start_span(
            bounded(title, LONGEST_NAME),
            context,
            kind=SpanKind.CLIENT if kind in CLIENTS else SpanKind.INTERNAL,
            attributes=attributes,
            links=links,
        )
        token = contexts.attach(trace.set_span_in_context(span))
        if kind == "request" and self._propagate:
            carried.set(self._headers)
        elif kind == "job":
            self._jobs[metadata["job"]] = span.get_span_context()
        inside = around.inside if around is not None else set[str]()
        inside.add(metadata["span"])
        self._open[metadata["span"]] = _Open(kind, span, token, inside, agent)

    def _end(self, kind: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        opened = self._open.pop(metadata["span"], None)
        if opened is None:
            return
        opened.inside.discard(metadata["span"])
        if kind == "request":
            # Code that refused to die has not ended its spans: whoever waits for them would wait for ever.
            for left in sorted(opened.inside):
                self._finish(self._open.pop(left).span, {"outcome": "abandoned"})
            self._remember(metadata["request"], opened.span.get_span_context())
        else:
            contexts.detach(opened.token)  # a request's context ends with the request
        if kind == "job":
            self._jobs.pop(metadata["job"], None)
        span = opened.span
        if span.is_recording():
            attributes = ended(kind, measurements, metadata)
            span.set_attributes(attributes)
            if kind in ASKS and (model := attributes.get(names.REQUEST_MODEL)):
                span.update_name(bounded(f"{'chat' if kind == 'lm.call' else 'embeddings'} {model}", LONGEST_NAME))
            if self._content:
                span.set_attributes(said(kind, metadata))
        self._finish(span, metadata)

    def _remember(self, request: str, span: SpanContext) -> None:
        if self._judged is not None:
            self._ended[request] = span
            if len(self._ended) > ENDED:
                self._ended.popitem(last=False)

    def _finish(self, span: Span, metadata: Metadata) -> None:
        outcome, error = metadata.get("outcome"), metadata.get("error")
        if error is not None:
            name = class_name(error)
            span.set_attribute(names.ERROR_TYPE, name)
            span.set_status(Status(StatusCode.ERROR, bounded(f"{name}: {error}") if self._capture else name))
        elif outcome == "abandoned":
            span.set_status(Status(StatusCode.ERROR, "the request ended, and this code did not"))
        if outcome is not None:
            span.set_attribute("dspex.outcome", outcome)
        span.end()

    def _around(self, span: str | None) -> _Open | None:
        """Return what is open under an id of dspex's; of an adapter what is around it."""
        return self._open.get(self._formats.get(span, span)) if span is not None else None

    # --- events within a span ---------------------------------------------------------------------------------

    def _tell(self, name: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        opened = self._around(metadata.get("parent") or metadata.get("request"))
        if opened is None:
            return
        if not opened.span.is_recording():
            return
        if name == "dspex.lm.first_token":
            opened.span.set_attribute(names.FIRST_CHUNK_AFTER, measurements["seconds"])
        attributes: Attributes = {f"dspex.{key}": value for key, value in measurements.items()}
        for key, value in metadata.items():
            if key == "error":
                attributes[names.ERROR_TYPE] = plain(value)
            elif key == "status":
                attributes["http.response.status_code"] = plain(value)
            elif key not in ("parent", "request", "call", "refused") and value is not None:
                attributes[f"dspex.{key}"] = plain(value)
        opened.span.add_event(name, attributes)

    def _judge(self, judged: Judged, measurements: Mapping[str, float], metadata: Metadata) -> None:
        """Tell of a score, in the trace of what was judged."""
        attributes: Attributes = {names.EVALUATION_NAME: bounded(metadata["metric"])}
        if "score" in measurements:
            attributes[names.EVALUATION_SCORE] = measurements["score"]
        if (error := metadata.get("error")) is not None:
            attributes[names.ERROR_TYPE] = class_name(error)
        if self._content and metadata.get("feedback"):
            attributes[names.EVALUATION_EXPLANATION] = bounded(metadata["feedback"])
        context = contexts.get_current()
        span = self._ended.get(metadata["request"] or "")
        if span is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(span), context)
        judged(attributes, context)

    def _format(self, ending: str, metadata: Metadata) -> None:
        if ending == "start":
            around: str = metadata["parent"] or ""
            self._formats[metadata["span"]] = self._formats.get(around, around)
            return
        parent = self._formats.pop(metadata["span"], None)
        if ending == "exception" and (opened := self._open.get(parent or "")) is not None:
            about = {names.ERROR_TYPE: class_name(metadata["error"]), "dspex.adapter": bounded(metadata["adapter"])}
            opened.span.add_event("dspex.adapter.parse.exception", about)

    # --- headers ----------------------------------------------------------------------------------------------

    def _headers(self, provider: str) -> Mapping[str, str]:
        """Return the headers that tell a provider of the span around its call; baggage stays here."""
        found: dict[str, str] = {}
        if self._propagate is True or (self._propagate and provider in self._propagate):
            _W3C.inject(found)
        return found
