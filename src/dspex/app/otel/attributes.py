"""The attributes of spans: what is known when one starts, and what is known when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.app.otel import names
from dspex.app.otel.texts import answers_of, bounded, content_of, documents_of, messages_of, tools_of
from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.params import UNSET, LMParams

__all__ = ["ASKS", "CLIENTS", "Attributes", "Metadata", "begun", "ended", "model_of", "said", "server_of"]

Metadata = Mapping[str, Any]
"""Of an event: live objects."""

Attributes = dict[str, Any]

ASKS: Final = ("lm.call", "embedding")
"""Kinds of spans that ask a model."""

CLIENTS: Final = (*ASKS, "retrieval")
"""Kinds of spans that ask somebody outside."""

_TOKENS: Final = {
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cached_tokens": names.CACHE_READ_TOKENS,
    "cache_write_tokens": names.CACHE_WRITE_TOKENS,
    "reasoning_tokens": names.REASONING_TOKENS,
}
_PARAMS: Final = {
    "temperature": names.TEMPERATURE,
    "top_p": names.TOP_P,
    "max_tokens": names.MAX_TOKENS,
    "seed": names.SEED,
    "reasoning": names.REASONING_LEVEL,
}
_BODY: Final = {
    "top_k": names.TOP_K,
    "frequency_penalty": names.FREQUENCY_PENALTY,
    "presence_penalty": names.PRESENCE_PENALTY,
}
"""Parameters of providers' own that the conventions know."""

_MOST: Final = 50
"""Members of a list."""


def begun(kind: str, metadata: Metadata) -> tuple[str, Attributes] | None:
    """Return the name and the attributes of a span that starts; None where events of this kind make no span."""
    make = _STARTS.get(kind)
    return make(metadata) if make is not None else None


def model_of(lm: object) -> Attributes:
    """Return the attributes for a ``provider/model``."""
    if not isinstance(lm, str):
        return {}
    provider, _, name = lm.partition("/")
    if not name:
        return {names.REQUEST_MODEL: bounded(lm)}
    return {names.PROVIDER: names.PROVIDERS.get(provider, bounded(provider)), names.REQUEST_MODEL: bounded(name)}


def server_of(server: object) -> Attributes:
    """Return the attributes for a ``host:port``."""
    if not isinstance(server, str) or not server:
        return {}
    host, _, port = server.rpartition(":")
    return {names.SERVER: bounded(host.strip("[]")), names.PORT: int(port)}


# --- at the start -------------------------------------------------------------------------------------------


def _request(metadata: Metadata) -> tuple[str, Attributes]:
    program, number = bounded(metadata["program"]), {"dspex.request": metadata["request"]}
    if metadata.get("agent"):  # one span: the request is the agent's run
        return _agent(program, number)
    return f"invoke_workflow {program}", {
        names.OPERATION: "invoke_workflow",
        names.WORKFLOW_NAME: program,
        names.SPAN_KIND: names.CHAIN,
        **number,
    }


def _agent(name: str, more: Attributes) -> tuple[str, Attributes]:
    return f"invoke_agent {name}", {names.OPERATION: "invoke_agent", names.AGENT_NAME: name, **more}


def _module(metadata: Metadata) -> tuple[str, Attributes]:
    module = bounded(metadata["module"])
    if metadata.get("agent"):
        return _agent(module, {})
    return f"dspex.module {module}", {"dspex.module": module, names.SPAN_KIND: names.CHAIN}


def _predictor(metadata: Metadata) -> tuple[str, Attributes]:
    path, signature = bounded(metadata["predictor"]), bounded(metadata["signature"])
    about = {"dspex.predictor": path, "dspex.signature": signature, names.SPAN_KIND: names.CHAIN}
    return f"dspex.predictor {path}", about


def _call(metadata: Metadata) -> tuple[str, Attributes]:
    about = {
        names.OPERATION: "chat",
        **model_of(metadata["lm"]),
        **_params(metadata["params"]),
        names.OUTPUT_TYPE: metadata["form"],
        "dspex.asked": bounded(metadata["asked"]),
        "dspex.predictor": bounded(metadata["step"]),
    }
    if metadata["streamed"]:
        about[names.STREAM] = True
    return f"chat {about.get(names.REQUEST_MODEL, metadata['asked'])}", about


def _params(params: LMParams) -> Attributes:
    if params is UNSET:
        return {}
    found: Attributes = {}
    for field, name in _PARAMS.items():
        if (value := getattr(params, field)) is not None:
            found[name] = bounded(value) if isinstance(value, str) else value
    if params.stop:
        found[names.STOP_SEQUENCES] = tuple(bounded(each) for each in params.stop[:_MOST])
    if params.n != 1:
        found[names.CHOICE_COUNT] = params.n
    for field, name in _BODY.items():
        value = params.extra_body.get(field)
        if isinstance(value, (int, float)):
            found[name] = value
    return found


def _embedding(metadata: Metadata) -> tuple[str, Attributes]:
    asked = bounded(metadata["asked"])
    about = {names.OPERATION: "embeddings", **model_of(metadata["lm"]), "dspex.asked": asked}
    return f"embeddings {about.get(names.REQUEST_MODEL, asked)}", about


def _tool(metadata: Metadata) -> tuple[str, Attributes]:
    tool = bounded(metadata["tool"])
    about = {
        names.OPERATION: "execute_tool",
        names.TOOL_NAME: tool,
        names.TOOL_TYPE: "function",
        names.TOOL_CALL_ID: bounded(metadata["call"]),
    }
    if metadata["description"]:
        about[names.TOOL_DESCRIPTION] = bounded(metadata["description"])
    return f"execute_tool {tool}", about


def _retrieval(metadata: Metadata) -> tuple[str, Attributes]:
    source = bounded(metadata["retriever"])
    about = {names.OPERATION: "retrieval", names.DATA_SOURCE: source, names.TOP_PASSAGES: metadata["k"]}
    return f"retrieval {source}", about


def _evaluation(metadata: Metadata) -> tuple[str, Attributes]:
    program = bounded(metadata["program"])
    return f"dspex.evaluation {program}", {"dspex.program": program, names.SPAN_KIND: names.CHAIN}


def _job(metadata: Metadata) -> tuple[str, Attributes]:
    job, optimizer = bounded(metadata["job"]), bounded(metadata["optimizer"])
    about = {"dspex.job": job, "dspex.optimizer": optimizer, names.SPAN_KIND: names.CHAIN}
    return f"dspex.job {optimizer}", about


def _step(metadata: Metadata) -> tuple[str, Attributes]:
    ask = bounded(metadata["ask"])
    about = {"dspex.job": bounded(metadata["job"]), "dspex.ask": ask, "dspex.plan": metadata["plan"]}
    return f"dspex.plan {ask}", {**about, names.SPAN_KIND: names.CHAIN}


_STARTS: Final[Mapping[str, Callable[[Metadata], tuple[str, Attributes]]]] = {
    "request": _request,
    "module": _module,
    "predictor": _predictor,
    "lm.call": _call,
    "embedding": _embedding,
    "tool": _tool,
    "retrieval": _retrieval,
    "evaluate": _evaluation,
    "job": _job,
    "plan.step": _step,
}


# --- at the end ---------------------------------------------------------------------------------------------


def ended(kind: str, measurements: Mapping[str, float], metadata: Metadata) -> Attributes:
    """Return what is known at a span's end."""
    found: Attributes = {}
    if kind in ASKS:
        found |= {**model_of(metadata.get("lm")), **server_of(metadata.get("server"))}
        if metadata.get("cached"):
            found["dspex.cached"] = bounded(metadata["cached"])
        else:  # what a cache has answered was paid before: whoever adds up tokens is not to count them twice
            found |= {name: int(measurements[key]) for key, name in _TOKENS.items() if key in measurements}
        for key, name in (("model", names.RESPONSE_MODEL), ("response", names.RESPONSE_ID)):
            if metadata.get(key):
                found[name] = bounded(metadata[key])
        if "attempts" in metadata:
            found["dspex.attempts"] = metadata["attempts"]
        if metadata.get("ends"):
            found[names.FINISH_REASONS] = tuple(bounded(each) for each in metadata["ends"][:_MOST])
        if "dimensions" in measurements:
            found[names.DIMENSIONS] = int(measurements["dimensions"])
    elif kind in ("request", "predictor"):
        # Sums of calls below: under names of ours, so that nobody adds them to those of the calls.
        for key in ("input_tokens", "output_tokens", "attempts", "cached_calls"):
            if key in measurements:
                found[f"dspex.{key}"] = int(measurements[key])
    else:
        for key in ("passages", "rows", "failed"):
            if key in measurements:
                found[f"dspex.{key}"] = int(measurements[key])
        if "score" in measurements:
            found["dspex.score"] = measurements["score"]
    if "cost" in measurements:
        found["dspex.cost_usd"] = measurements["cost"]
    return found


# --- the words of users and models --------------------------------------------------------------------------


def said(kind: str, metadata: Metadata) -> Attributes:
    """Return the words that an event brings, where they may be told."""
    found: Attributes = {}
    inputs, outputs = metadata.get("inputs"), metadata.get("outputs")
    if kind == "lm.call":
        if isinstance(inputs, LMRequest):
            found[names.INPUT_MESSAGES] = messages_of(inputs)
            if inputs.tools:
                found[names.TOOL_DEFINITIONS] = tools_of(inputs)
        if isinstance(outputs, LMResponse):
            found[names.OUTPUT_MESSAGES] = answers_of(outputs)
    elif kind == "tool":
        if inputs is not None:
            found[names.TOOL_ARGUMENTS] = content_of(inputs)
        if outputs is not None:
            found[names.TOOL_RESULT] = content_of(outputs)
    elif kind == "retrieval":
        if inputs is not None:
            found[names.RETRIEVAL_QUERY] = content_of(inputs)
        if outputs is not None:
            found[names.RETRIEVAL_DOCUMENTS] = documents_of(outputs)
    return found
