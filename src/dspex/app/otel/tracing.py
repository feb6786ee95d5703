"""Spans of OpenTelemetry, made of the events of one App."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dspex._guard import class_name
from dspex.app.otel import names
from dspex.app.otel.texts import LONGEST_NAME, answers_of, bounded, content_of, messages_of, plain
from dspex.protocols.lm import LMRequest, LMResponse
from dspex.telemetry import carried

__all__ = ["Tracing"]

_W3C: Final = TraceContextTextMapPropagator()

_TOLD: Final = ("dspex.lm.", "dspex.cache.", "dspex.step.", "dspex.parse.", "dspex.request.resubmit", "dspex.tool.late")
"""Events that become events of the span around them, under their own names."""

_AGENTS: Final = frozenset({"ReAct"})
"""Classes of modules that let a model work step by step."""

Metadata = Mapping[str, Any]
"""Of an event: live objects."""

Attributes = dict[str, Any]


class _Open:
    """A span that has not ended: its token, and the spans of the same request."""

    __slots__ = ("inside", "kind", "model", "span", "token")

    def __init__(self, kind: str, span: Span, token: Token[Context], inside: set[str]) -> None:
        self.kind = kind
        self.span = span
        self.token = token
        self.inside = inside
        self.model: str | None = None


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
    """

    def __init__(self, tracer: Tracer, *, capture: bool, content: bool, propagate: bool | tuple[str, ...]) -> None:
        self._tracer = tracer
        self._capture = capture
        self._content = content
        self._propagate = propagate
        self._open: dict[str, _Open] = {}
        """By the ids of dspex's spans. A request that ends takes along what its code has left open: it stays small."""
        self._formats: dict[str, str] = {}
        """The span around each adapter's work, which has no span of its own here."""

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

    # --- begin and end ----------------------------------------------------------------------------------------

    def _start(self, kind: str, metadata: Metadata) -> None:
        make = _STARTS.get(kind)
        if make is None:
            return
        title, attributes = make(metadata)
        if self._content:
            attributes |= _inputs(kind, metadata.get("inputs"))
        asks = kind in ("lm.call", "embedding")
        span = self._tracer.start_span(
            bounded(title, LONGEST_NAME), kind=SpanKind.CLIENT if asks else SpanKind.INTERNAL, attributes=attributes
        )
        token = contexts.attach(trace.set_span_in_context(span))
        if kind == "request" and self._propagate:
            carried.set(self._headers)
        around = self._around(metadata["parent"]) if kind != "request" else None
        inside = around.inside if around is not None else set[str]()
        inside.add(metadata["span"])
        self._open[metadata["span"]] = _Open(kind, span, token, inside)

    def _end(self, kind: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        opened = self._open.pop(metadata["span"], None)
        if opened is None:
            return
        opened.inside.discard(metadata["span"])
        if kind == "request":
            # Code that refused to die has not ended its spans: whoever waits for them would wait for ever.
            for left in sorted(opened.inside):
                self._finish(self._open.pop(left).span, {"outcome": "abandoned"})
        else:
            contexts.detach(opened.token)  # a request's context ends with the request
        span = opened.span
        if span.is_recording():
            span.set_attributes(_ends(kind, measurements, metadata, opened.model))
            if kind in ("lm.call", "embedding") and (model := _model(metadata, opened.model)):
                span.update_name(bounded(f"{'chat' if kind == 'lm.call' else 'embeddings'} {model}", LONGEST_NAME))
            if self._content and metadata.get("outputs") is not None:
                span.set_attributes(_outputs(kind, metadata["outputs"]))
        self._finish(span, metadata)

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
        if (model := metadata.get("model")) is not None and name.startswith("dspex.lm.attempt."):
            opened.model = model
        if not opened.span.is_recording():
            return
        attributes: Attributes = {f"dspex.{key}": value for key, value in measurements.items()}
        for key, value in metadata.items():
            if key == "error":
                attributes[names.ERROR_TYPE] = plain(value)
            elif key == "status":
                attributes["http.response.status_code"] = plain(value)
            elif key not in ("parent", "request", "call", "refused") and value is not None:
                attributes[f"dspex.{key}"] = plain(value)
        opened.span.add_event(name, attributes)

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


def _request(metadata: Metadata) -> tuple[str, Attributes]:
    program, number = bounded(metadata["program"]), {"dspex.request": metadata["request"]}
    if program in _AGENTS:  # one span: the request is the agent's run
        return _agent(program, number)
    return f"invoke_workflow {program}", {
        names.OPERATION: "invoke_workflow",
        names.WORKFLOW_NAME: program,
        **number,
    }


def _agent(name: str, more: Attributes) -> tuple[str, Attributes]:
    return f"invoke_agent {name}", {names.OPERATION: "invoke_agent", names.AGENT_NAME: name, **more}


def _module(metadata: Metadata) -> tuple[str, Attributes]:
    module = bounded(metadata["module"])
    if module in _AGENTS:
        return _agent(module, {})
    return f"dspex.module {module}", {"dspex.module": module}


def _predictor(metadata: Metadata) -> tuple[str, Attributes]:
    path, signature = bounded(metadata["predictor"]), bounded(metadata["signature"])
    return f"dspex.predictor {path}", {"dspex.predictor": path, "dspex.signature": signature}


def _call(metadata: Metadata) -> tuple[str, Attributes]:
    return f"chat {metadata['asked']}", {names.OPERATION: "chat", "dspex.asked": bounded(metadata["asked"])}


def _embedding(metadata: Metadata) -> tuple[str, Attributes]:
    asked = bounded(metadata["asked"])
    return f"embeddings {asked}", {names.OPERATION: "embeddings", "dspex.asked": asked}


def _tool(metadata: Metadata) -> tuple[str, Attributes]:
    tool = bounded(metadata["tool"])
    about = {names.OPERATION: "execute_tool", names.TOOL_NAME: tool, names.TOOL_CALL_ID: bounded(metadata["call"])}
    return f"execute_tool {tool}", about


def _retrieval(metadata: Metadata) -> tuple[str, Attributes]:
    source = bounded(metadata["retriever"])
    return f"retrieval {source}", {
        names.OPERATION: "retrieval",
        names.DATA_SOURCE: source,
        "dspex.passages_asked": metadata["k"],
    }


def _evaluation(metadata: Metadata) -> tuple[str, Attributes]:
    program = bounded(metadata["program"])
    return f"dspex.evaluation {program}", {"dspex.program": program}


def _step(metadata: Metadata) -> tuple[str, Attributes]:
    ask = bounded(metadata["ask"])
    return f"dspex.job {ask}", {"dspex.job": bounded(metadata["job"]), "dspex.ask": ask, "dspex.plan": metadata["plan"]}


_STARTS: Final[Mapping[str, Callable[[Metadata], tuple[str, Attributes]]]] = {
    "request": _request,
    "module": _module,
    "predictor": _predictor,
    "lm.call": _call,
    "embedding": _embedding,
    "tool": _tool,
    "retrieval": _retrieval,
    "evaluate": _evaluation,
    "plan.step": _step,
}


def _model(metadata: Metadata, attempted: str | None) -> str | None:
    """Return the model's own name: of the one that answered, or else of the one that was asked last."""
    known = attempted or metadata.get("lm")
    return known.partition("/")[2] or known if isinstance(known, str) else None


def _ends(kind: str, measurements: Mapping[str, float], metadata: Metadata, attempted: str | None) -> Attributes:
    """Return what is known at a span's end."""
    found: Attributes = {}
    if kind in ("lm.call", "embedding"):
        known = metadata.get("lm") if "cached" in metadata or attempted is None else attempted
        if isinstance(known, str):
            provider, _, model = known.partition("/")
            found[names.REQUEST_MODEL] = bounded(model or known)
            if model:
                found[names.PROVIDER] = names.PROVIDERS.get(provider, bounded(provider))
        if metadata.get("cached"):
            found["dspex.cached"] = bounded(metadata["cached"])
        else:  # what a cache has answered was paid before: whoever adds up tokens is not to count them twice
            for key, name in (("input_tokens", names.INPUT_TOKENS), ("output_tokens", names.OUTPUT_TOKENS)):
                if key in measurements:
                    found[name] = int(measurements[key])
        if "attempts" in metadata:
            found["dspex.attempts"] = metadata["attempts"]
        if metadata.get("ends"):
            found[names.FINISH_REASONS] = tuple(bounded(each) for each in metadata["ends"][:50])
    elif kind in ("request", "predictor"):
        # Sums of calls below: under names of ours, so that nobody adds them to those of the calls.
        for key in ("input_tokens", "output_tokens", "attempts", "cached_calls"):
            if key in measurements:
                found[f"dspex.{key}"] = int(measurements[key])
    else:
        for key in ("passages", "rows", "score", "failed"):
            if key in measurements:
                found[f"dspex.{key}"] = measurements[key]
    if "cost" in measurements:
        found["dspex.cost_usd"] = measurements["cost"]
    return found


def _inputs(kind: str, inputs: object) -> Attributes:
    if kind == "lm.call" and isinstance(inputs, LMRequest):
        return {names.INPUT_MESSAGES: messages_of(inputs)}
    if kind == "tool" and inputs is not None:
        return {names.TOOL_ARGUMENTS: content_of(inputs)}
    if kind == "retrieval" and inputs is not None:
        return {names.RETRIEVAL_QUERY: content_of(inputs)}
    return {}


def _outputs(kind: str, outputs: object) -> Attributes:
    if kind == "lm.call" and isinstance(outputs, LMResponse):
        return {names.OUTPUT_MESSAGES: answers_of(outputs)}
    if kind == "tool":
        return {names.TOOL_RESULT: content_of(outputs)}
    return {}
