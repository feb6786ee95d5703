"""
Everything about language models that goes beyond a name: records, wires and providers of one's own.

A provider is added with ``App(providers={"acme": Provider(address, wire)})``; its wire is any object with the methods
of ``Wire``, or one of those here, such as ``OpenAIChat``.
"""

from dspex.protocols.content import (
    AudioPart,
    Citation,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import (
    Attempt,
    Capabilities,
    Completion,
    EmbedRequest,
    EmbedResponse,
    JsonObject,
    JsonSchema,
    LMDelta,
    LMRequest,
    LMResponse,
    Message,
    TokenLogprob,
    ToolSpec,
    Usage,
)
from dspex.protocols.local import LocalLM
from dspex.protocols.model import LM, LMChoice, LMParams, LMPool, Secret
from dspex.protocols.wire import EmbeddingsWire, Headroom, Provider, StreamDecoder, Wire
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.providers import PROVIDERS
from dspex.services.lm.retry import RetryPolicy
from dspex.services.lm.transport import Timeouts
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.wire import AzureChat, OpenAIChat
from dspex.services.lm.wires.embeddings import AzureEmbeddings, GeminiEmbeddings, OpenAIEmbeddings
from dspex.services.lm.wires.gemini.wire import Gemini
from dspex.services.lm.wires.kit import (
    ErrorBody,
    EventParser,
    ServerSentEvent,
    bearer,
    checked_key,
    failure,
    openai_headroom,
    request_headers,
)
from dspex.services.lm.wires.responses.wire import OpenAIResponses

__all__ = [
    "LM",
    "PROVIDERS",
    "Anthropic",
    "Attempt",
    "AudioPart",
    "AzureChat",
    "AzureEmbeddings",
    "Capabilities",
    "Citation",
    "ClientLimits",
    "Completion",
    "EmbedRequest",
    "EmbedResponse",
    "EmbeddingsWire",
    "ErrorBody",
    "EventParser",
    "FilePart",
    "Gemini",
    "GeminiEmbeddings",
    "Headroom",
    "ImagePart",
    "JsonObject",
    "JsonSchema",
    "LMChoice",
    "LMDelta",
    "LMParams",
    "LMPool",
    "LMRequest",
    "LMResponse",
    "LocalLM",
    "Message",
    "OpenAIChat",
    "OpenAIEmbeddings",
    "OpenAIResponses",
    "Part",
    "Provider",
    "ReasoningPart",
    "RetryPolicy",
    "Secret",
    "ServerSentEvent",
    "StreamDecoder",
    "TextPart",
    "Timeouts",
    "TokenLogprob",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Usage",
    "Wire",
    "bearer",
    "checked_key",
    "failure",
    "openai_headroom",
    "request_headers",
]
