"""
The one table of public names that are loaded when they are first used, and the loader that goes by it.

The façades (``dspex``, ``dspex.lm``, ``dspex.retrieval``, ``dspex.testing``) repeat the table for type checkers, who
cannot run it:
``python -m tests.support.facades`` writes those parts anew, and a test holds them to the table. Every name needs a
place in ``docs/reference``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["NAMES", "lazy"]

NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "dspex": {
        "dspex.app._app": ("App",),
        "dspex.app._tool_servers": ("mcp_tools",),
        "dspex.app.dashboard.mount": ("mount_dashboard",),
        "dspex.app.dashboard.options": ("Dashboard",),
        "dspex.app.otel.options": ("OpenTelemetry",),
        "dspex.evaluation": (
            "Report",
            "Score",
            "exact_match",
            "f1",
        ),
        "dspex.optimizers": (
            "BootstrapFewShot",
            "Job",
            "JobEvent",
            "LabeledFewShot",
        ),
        "dspex.programs": (
            "KNN",
            "Adapter",
            "Audio",
            "BestOfN",
            "ChainOfThought",
            "ChatAdapter",
            "Citations",
            "Code",
            "Details",
            "Embed",
            "Ensemble",
            "Example",
            "FieldType",
            "File",
            "History",
            "Image",
            "InputField",
            "JSONAdapter",
            "Module",
            "MontyInterpreter",
            "MultiChainComparison",
            "OutputField",
            "Parallel",
            "Predict",
            "Prediction",
            "ProgramOfThought",
            "ReAct",
            "Reasoning",
            "Refine",
            "Retrieve",
            "Retry",
            "Run",
            "Signature",
            "Tool",
            "ToolAdapter",
            "ToolCalls",
            "Trajectory",
            "XMLAdapter",
            "call_tools",
            "details",
            "majority",
            "tool",
        ),
        "dspex.protocols.executor": (
            "Failed",
            "Ok",
        ),
        "dspex.protocols.model": (
            "LM",
            "LMPool",
        ),
        "dspex.protocols.money": (
            "Budget",
            "Price",
        ),
        "dspex.protocols.retrieval": ("Passage",),
        "dspex.protocols.scope": (
            "Delta",
            "Reset",
        ),
        "dspex.requests": ("Request",),
        "dspex.services.cache.sqlite": ("SqliteCache",),
        "dspex.services.lm.limits": ("ClientLimits",),
        "dspex.services.lm.retry": ("RetryPolicy",),
        "dspex.services.lm.transport": ("Timeouts",),
        "dspex.services.retrieval.sqlite_index": ("SqliteIndex",),
        "dspex.services.shared.address": ("Shared",),
    },
    "dspex.lm": {
        "dspex.protocols.content": (
            "AudioPart",
            "Citation",
            "FilePart",
            "ImagePart",
            "Part",
            "ReasoningPart",
            "TextPart",
            "ToolCall",
            "ToolResult",
        ),
        "dspex.protocols.lm": (
            "Attempt",
            "Capabilities",
            "Completion",
            "EmbedRequest",
            "EmbedResponse",
            "JsonObject",
            "JsonSchema",
            "LMDelta",
            "LMRequest",
            "LMResponse",
            "Message",
            "TokenLogprob",
            "ToolSpec",
            "Usage",
        ),
        "dspex.protocols.local": ("LocalLM",),
        "dspex.protocols.model": (
            "LM",
            "LMChoice",
            "LMParams",
            "LMPool",
            "Secret",
        ),
        "dspex.protocols.text_shapes": ("Grammar", "TextChoice"),
        "dspex.protocols.training": (
            "TrainingCall",
            "TrainingEvent",
            "TrainingJob",
            "TrainingOrder",
            "TrainingWire",
        ),
        "dspex.protocols.wire": (
            "EmbeddingsWire",
            "Headroom",
            "Provider",
            "StreamDecoder",
            "Wire",
        ),
        "dspex.services.lm.clouds.accounts": (
            "bedrock",
            "vertex",
        ),
        "dspex.services.lm.limits": ("ClientLimits",),
        "dspex.services.lm.providers": ("PROVIDERS",),
        "dspex.services.lm.retry": ("RetryPolicy",),
        "dspex.services.lm.transport": ("Timeouts",),
        "dspex.services.lm.wires.anthropic.wire": ("Anthropic",),
        "dspex.services.lm.wires.bedrock.wire": ("Bedrock",),
        "dspex.services.lm.wires.chat.wire": (
            "AzureChat",
            "OpenAIChat",
        ),
        "dspex.services.lm.wires.embeddings": (
            "AzureEmbeddings",
            "GeminiEmbeddings",
            "OpenAIEmbeddings",
        ),
        "dspex.services.lm.wires.fine_tuning": ("OpenAIFineTuning",),
        "dspex.services.lm.wires.gemini.wire": ("Gemini",),
        "dspex.services.lm.wires.kit": (
            "ErrorBody",
            "EventParser",
            "ServerSentEvent",
            "bearer",
            "checked_key",
            "failure",
            "openai_headroom",
            "request_headers",
        ),
        "dspex.services.lm.wires.responses.wire": ("OpenAIResponses",),
        "dspex.services.lm.wires.vertex.wire": (
            "VertexClaude",
            "VertexGemini",
        ),
    },
    "dspex.retrieval": {
        "dspex.indexing": (
            "IndexCounts",
            "IndexJob",
            "IndexReport",
        ),
        "dspex.programs": (
            "Document",
            "Findings",
            "MultiHop",
            "Quote",
        ),
        "dspex.protocols.filters": (
            "And",
            "Equals",
            "Exists",
            "Filter",
            "FilterLike",
            "Not",
            "OneOf",
            "Or",
            "Range",
            "as_filter",
            "filter_to_json",
            "fits",
        ),
        "dspex.protocols.metadata": (
            "Metadata",
            "MetadataValue",
            "Scalar",
        ),
        "dspex.protocols.retrieval": (
            "Abilities",
            "Embedder",
            "Index",
            "Retriever",
            "Vector",
            "abilities_of",
            "checked_passages",
            "embedded_text",
        ),
        "dspex.protocols.fusion": ("fused",),
        "dspex.services.documents.documents": ("Documents",),
        "dspex.services.documents.limits": ("ReadLimits",),
        "dspex.services.retrieval.bm25_index": ("Bm25Index",),
        "dspex.services.retrieval.cached": ("Cached",),
        "dspex.services.retrieval.composites": (
            "Composite",
            "Hybrid",
            "Ranker",
            "Reranked",
            "RetrieverLike",
        ),
        "dspex.services.retrieval.hashing": ("HashingEmbedder",),
        "dspex.services.retrieval.http_retrievers": (
            "ColBERTv2",
            "HttpRetriever",
        ),
        "dspex.services.retrieval.near": ("GraphState",),
        "dspex.services.retrieval.qdrant_index": ("QdrantIndex",),
        "dspex.services.retrieval.rerank_http": ("HttpReranker",),
        "dspex.services.retrieval.vector_index": ("VectorIndex",),
    },
    "dspex.testing": {
        "dspex.testing._cassette": (
            "Cassette",
            "cassette",
        ),
        "dspex.testing._exit_recorder": (
            "Began",
            "ExitRecorder",
            "Exited",
            "GaveUp",
            "Restarted",
            "StartRefused",
        ),
        "dspex.testing._fault_points": (
            "AppliedFaults",
            "applied",
        ),
        "dspex.testing._faults": (
            "Action",
            "Delay",
            "Fault",
            "FaultPlan",
            "FaultPoint",
            "KillProcess",
            "PointKind",
            "Raise",
        ),
        "dspex.testing._fixed_retriever": ("FixedRetriever",),
        "dspex.testing._leaks": ("assert_no_leaks",),
        "dspex.testing._scripted_lm": (
            "BrokenOff",
            "ScriptedAnswer",
            "ScriptedLM",
            "ScriptedRequest",
        ),
        "dspex.testing._virtual_clock": ("VirtualClock",),
        "dspex.testing.scripted": ("ScriptedScope",),
    },
}
"""Façade to module to names."""


def lazy(facade: str, loaded: dict[str, object]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return a module's ``__getattr__``, which imports what a name stands for, and its ``__dir__``.

    Args:
        facade: The module, as the table calls it.
        loaded: Its ``globals()``, where a name is kept once it was used.
    """
    module_of = {name: module for module, names in NAMES[facade].items() for name in names}

    def load(name: str) -> object:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {facade!r} has no attribute {name!r}")
        value = loaded[name] = getattr(importlib.import_module(module), name)
        return value

    return load, lambda: sorted({*loaded, *module_of})
