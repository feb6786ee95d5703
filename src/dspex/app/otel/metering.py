"""Metrics of OpenTelemetry, made of the events of one App and of its health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from dspex._guard import class_name
from dspex.app.otel import names
from dspex.app.otel.attributes import Attributes, Metadata, model_of, server_of
from dspex.app.otel.texts import bounded

__all__ = ["Metering"]

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_AGENT_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_WORKFLOW_SECONDS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""The boundaries that the conventions ask for."""

UNKNOWN_TOOL: Final = "_OTHER"
"""Stands for the names of tools that there are not: models make up new ones without end."""

Health = Callable[[], Mapping[str, object]]


class Metering:
    """
    The handler that makes metrics of events: attach it to ``"dspex."``.

    Its attributes are names of models, programs and classes of errors, never the texts of users or models: the number
    of series is bounded.

    Args:
        meter: Makes the instruments.
        health: Tells how many requests run and wait, and how many messages; called in the exporter's thread.
    """

    def __init__(self, meter: Meter, health: Health) -> None:
        self._duration = meter.create_histogram(
            names.OPERATION_DURATION, "s", "Seconds of a call", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tokens = meter.create_histogram(
            names.TOKEN_USAGE, "{token}", "Tokens of a call", explicit_bucket_boundaries_advisory=_TOKENS
        )
        self._first = meter.create_histogram(
            names.FIRST_CHUNK, "s", "Seconds until an answer began", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tool = meter.create_histogram(
            names.TOOL_DURATION, "s", "Seconds of a tool's call", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._agent = meter.create_histogram(
            names.AGENT_DURATION, "s", "Seconds of an agent's run", explicit_bucket_boundaries_advisory=_AGENT_SECONDS
        )
        self._workflow = meter.create_histogram(
            names.WORKFLOW_DURATION,
            "s",
            "Seconds of a program's run",
            explicit_bucket_boundaries_advisory=_WORKFLOW_SECONDS,
        )
        self._cost = meter.create_counter("dspex.cost", "USD", "US dollars of calls whose price is known")
        self._requests = meter.create_counter("dspex.requests", "{request}", "Requests that have ended")
        self._attempts = meter.create_counter("dspex.attempts", "{attempt}", "Attempts at providers")
        self._restarts = meter.create_counter("dspex.restarts", "{restart}", "Actors that were started again")
        meter.create_observable_gauge(
            "dspex.mailboxes", [_observing(health, "messages")], "{message}", "Messages that wait in mailboxes now"
        )
        for state in ("running", "waiting"):
            meter.create_observable_gauge(
                f"dspex.requests.{state}", [_observing(health, state)], "{request}", f"Requests {state} now"
            )

    def __call__(self, name: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        """Take an event."""
        match name:
            case "dspex.lm.call.stop" | "dspex.lm.call.exception":
                self._called("chat", measurements, metadata)
            case "dspex.embedding.stop" | "dspex.embedding.exception":
                self._called("embeddings", measurements, metadata)
            case "dspex.retrieval.stop" | "dspex.retrieval.exception":
                self._took(self._duration, {names.OPERATION: "retrieval"}, measurements, metadata)
            case "dspex.tool.stop" | "dspex.tool.exception":
                tool = bounded(metadata["tool"]) if metadata["known"] else UNKNOWN_TOOL
                self._took(self._tool, {names.TOOL_NAME: tool, names.TOOL_TYPE: "function"}, measurements, metadata)
            case "dspex.module.stop" | "dspex.module.exception" if metadata.get("agent"):
                self._took(self._agent, {names.AGENT_NAME: bounded(metadata["module"])}, measurements, metadata)
            case "dspex.lm.first_token":
                about = {names.OPERATION: "chat", **model_of(metadata["model"]), **server_of(metadata["server"])}
                self._first.record(measurements["seconds"], about)
            case "dspex.lm.attempt.stop":
                self._attempts.add(1, {**model_of(metadata["model"]), "dspex.outcome": "ok"})
            case "dspex.lm.attempt.exception":
                self._attempts.add(1, {**model_of(metadata["model"]), "dspex.outcome": bounded(metadata["error"])})
            case "dspex.request.stop" | "dspex.request.exception":
                self._ran(measurements, metadata)
            case "dspex.child.restart":
                self._restarts.add(1, {"dspex.child": bounded(metadata["child"])})

    def _called(self, operation: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        if metadata.get("cached"):
            return  # the conventions are about calls of providers
        about = {names.OPERATION: operation, **model_of(metadata.get("lm")), **server_of(metadata.get("server"))}
        if metadata.get("model"):
            about[names.RESPONSE_MODEL] = bounded(metadata["model"])
        if not self._took(self._duration, about, measurements, metadata):
            return
        for kind in ("input", "output"):
            if (tokens := measurements.get(f"{kind}_tokens")) is not None:
                self._tokens.record(tokens, {**about, names.TOKEN_TYPE: kind})
        if "cost" in measurements:
            self._cost.add(measurements["cost"], about)

    def _ran(self, measurements: Mapping[str, float], metadata: Metadata) -> None:
        program = bounded(metadata["program"])
        self._requests.add(1, {names.WORKFLOW_NAME: program, "dspex.outcome": metadata["outcome"]})
        if metadata.get("agent"):
            self._took(self._agent, {names.AGENT_NAME: program}, measurements, metadata)
        else:
            self._took(self._workflow, {names.WORKFLOW_NAME: program}, measurements, metadata)

    @staticmethod
    def _took(instrument: Histogram, about: Attributes, measurements: Mapping[str, float], metadata: Metadata) -> bool:
        """Record a duration, unless nobody waited for the end; True for work that did not fail."""
        if metadata.get("outcome") == "cancelled":
            return False
        if (error := metadata.get("error")) is None:
            instrument.record(measurements["duration"], about)
            return True
        instrument.record(measurements["duration"], {**about, names.ERROR_TYPE: class_name(error)})
        return False


def _observing(health: Health, state: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        try:
            value = health().get(state)
        except RuntimeError:  # the tree has changed while this thread looked at it: the next time tells
            return []
        return [Observation(value)] if isinstance(value, int) else []

    return observe
