"""Metrics of OpenTelemetry, made of the events of one App and of its health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from dspex._guard import class_name
from dspex.app.otel import names
from dspex.app.otel.texts import bounded

__all__ = ["Metering"]

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""The boundaries that the conventions ask for."""

Metadata = Mapping[str, Any]
"""Of an event: live objects."""

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
            case "dspex.lm.first_token":
                self._first.record(measurements["seconds"], {names.OPERATION: "chat", **_model(metadata["model"])})
            case "dspex.lm.attempt.stop":
                self._attempts.add(1, {**_model(metadata["model"]), "dspex.outcome": "ok"})
            case "dspex.lm.attempt.exception":
                self._attempts.add(1, {**_model(metadata["model"]), "dspex.outcome": bounded(metadata["error"])})
            case "dspex.request.stop" | "dspex.request.exception":
                about = {names.WORKFLOW_NAME: bounded(metadata["program"]), "dspex.outcome": metadata["outcome"]}
                self._requests.add(1, about)
            case "dspex.child.restart":
                self._restarts.add(1, {"dspex.child": bounded(metadata["child"])})

    def _called(self, operation: str, measurements: Mapping[str, float], metadata: Metadata) -> None:
        if metadata.get("cached") or metadata.get("outcome") == "cancelled":
            return  # the conventions are about calls of providers, and about those that ended
        about = {names.OPERATION: operation, **_model(metadata.get("lm"))}
        if (error := metadata.get("error")) is not None:
            self._duration.record(measurements["duration"], {**about, names.ERROR_TYPE: class_name(error)})
            return
        self._duration.record(measurements["duration"], about)
        for kind in ("input", "output"):
            if (tokens := measurements.get(f"{kind}_tokens")) is not None:
                self._tokens.record(tokens, {**about, names.TOKEN_TYPE: kind})
        if "cost" in measurements:
            self._cost.add(measurements["cost"], about)


def _model(model: object) -> dict[str, str]:
    if not isinstance(model, str):
        return {}
    provider, _, name = model.partition("/")
    if not name:
        return {names.REQUEST_MODEL: bounded(model)}
    return {names.PROVIDER: names.PROVIDERS.get(provider, bounded(provider)), names.REQUEST_MODEL: bounded(name)}


def _observing(health: Health, state: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        try:
            value = health().get(state)
        except RuntimeError:  # the tree has changed while this thread looked at it: the next time tells
            return []
        return [Observation(value)] if isinstance(value, int) else []

    return observe
