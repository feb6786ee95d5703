"""Names that are not in ``dspex``: those of other rooms, those of DSPy, and slips."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["where"]

_NOTHING_GLOBAL: Final = "there is no global configuration; give it to App(...) and app.options(...)"
_LOGS: Final = "logs are those of Python's logging, below the name dspex"
_ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("configure", "context", "settings", "load_settings", "configure_cache"), _NOTHING_GLOBAL),
    **dict.fromkeys(("Assert", "Suggest"), "Retry checks an answer and asks again with what was wrong"),
    **dict.fromkeys(("enable_logging", "disable_logging", "configure_dspy_loggers"), _LOGS),
    **dict.fromkeys(("Embeddings", "EmbeddingsWithScores"), "dspex.retrieval.VectorIndex searches vectors"),
    **dict.fromkeys(("PythonInterpreter", "LocalInterpreter"), "code is run by MontyInterpreter"),
    **dict.fromkeys(("BootstrapRS",), "it is dspex.optimizers.BootstrapFewShotWithRandomSearch"),
    "AdapterParseError": "it is dspex.errors.ResponseUnparsable",
    "Avatar": "there is ReAct",
    "AvatarOptimizer": "dspex.optimizers.GEPA learns from feedback on an agent's runs",
    "BaseLM": "a model of your own is a dspex.lm.Provider, or a dspex.lm.LocalLM",
    "BootstrapFewShotWithOptuna": "dspex.optimizers.MIPROv2 searches combinations",
    "CodeAct": "there is ProgramOfThought, and ReAct",
    "ContextWindowExceededError": "it is dspex.errors.ContextTooLong",
    "Embedder": "Embed turns texts into vectors",
    "Evaluate": "app.evaluate(program, examples, metric) does it",
    "KNNFewShot": "it is dspex.optimizers.NearestDemos",
    "LMAuthError": "it is dspex.errors.AuthFailed",
    "LMRateLimitError": "it is dspex.errors.RateLimited",
    "LMServerError": "it is dspex.errors.ServerFailed",
    "LMTimeoutError": "it is dspex.errors.DeadlineExceeded, or TransportFailed",
    "LMTransportError": "it is dspex.errors.TransportFailed",
    "RLM": "there is ProgramOfThought, which writes code and runs it",
    "ReActV2": "ReAct calls tools natively where the model can",
    "TwoStepAdapter": "a program with two predictors, each with_lm(...), does it",
    "TypedPredictor": "Predict is typed",
    "asyncify": "everything is async; app.sync() is for code that is not",
    "evaluate": "app.evaluate(program, examples, metric) does it; metrics are in dspex.evaluation",
    "inspect_history": "dspex.details(prediction).explain() has the conversation of a call",
    "load": "program.load(path) returns a copy with the saved state",
    "make_signature": 'Signature("question -> answer", "instructions") makes one',
    "streamify": "app.stream(program, ...) gives the answer as it is written",
    "syncify": "app.sync() is for code that is not async",
    "teleprompt": "optimizers are in dspex.optimizers",
    "track_usage": "dspex.details(prediction).usage, and request.details",
}
"""Names of DSPy, and where to find the same thing here."""

_ROOMS: Final = (
    "dspex.optimizers",
    "dspex.retrieval",
    "dspex.lm",
    "dspex.evaluation",
    "dspex.testing",
    "dspex.programs",
    "dspex.runtime",
)


def where(name: str, known: Iterable[str]) -> str:
    """
    Say where to find what somebody looked for in ``dspex``; empty where nothing is like it.

    Args:
        name: The name that is missing.
        known: The names that are there.
    """
    if name.startswith("_"):
        return ""  # asked for by tools, which have no use for words
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    for room in _ROOMS:
        if name in importlib.import_module(room).__all__:
            return f"it is {room}.{name}"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    return "errors are in dspex.errors" if name.endswith("Error") else ""
