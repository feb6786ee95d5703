"""
Everything about language models that goes beyond a name: records, wires and providers of one's own.

A provider is added with ``App(providers={"acme": Provider(address, wire)})``; its wire is any object with the methods
of ``Wire``, or one of those here, such as ``OpenAIChat``.
"""

from typing import TYPE_CHECKING

from dspex._names import lazy

if TYPE_CHECKING:
    from dspex.protocols.content import AudioPart as AudioPart
    from dspex.protocols.content import Citation as Citation
    from dspex.protocols.content import FilePart as FilePart
    from dspex.protocols.content import ImagePart as ImagePart
    from dspex.protocols.content import Part as Part
    from dspex.protocols.content import ReasoningPart as ReasoningPart
    from dspex.protocols.content import TextPart as TextPart
    from dspex.protocols.content import ToolCall as ToolCall
    from dspex.protocols.content import ToolResult as ToolResult
    from dspex.protocols.lm import Attempt as Attempt
    from dspex.protocols.lm import Capabilities as Capabilities
    from dspex.protocols.lm import Completion as Completion
    from dspex.protocols.lm import EmbedRequest as EmbedRequest
    from dspex.protocols.lm import EmbedResponse as EmbedResponse
    from dspex.protocols.lm import JsonObject as JsonObject
    from dspex.protocols.lm import JsonSchema as JsonSchema
    from dspex.protocols.lm import LMDelta as LMDelta
    from dspex.protocols.lm import LMRequest as LMRequest
    from dspex.protocols.lm import LMResponse as LMResponse
    from dspex.protocols.lm import Message as Message
    from dspex.protocols.lm import TokenLogprob as TokenLogprob
    from dspex.protocols.lm import ToolSpec as ToolSpec
    from dspex.protocols.lm import Usage as Usage
    from dspex.protocols.local import LocalLM as LocalLM
    from dspex.protocols.model import LM as LM
    from dspex.protocols.model import LMChoice as LMChoice
    from dspex.protocols.model import LMParams as LMParams
    from dspex.protocols.model import LMPool as LMPool
    from dspex.protocols.model import Secret as Secret
    from dspex.protocols.text_shapes import Grammar as Grammar
    from dspex.protocols.text_shapes import TextChoice as TextChoice
    from dspex.protocols.training import TrainingCall as TrainingCall
    from dspex.protocols.training import TrainingEvent as TrainingEvent
    from dspex.protocols.training import TrainingJob as TrainingJob
    from dspex.protocols.training import TrainingOrder as TrainingOrder
    from dspex.protocols.training import TrainingWire as TrainingWire
    from dspex.protocols.wire import EmbeddingsWire as EmbeddingsWire
    from dspex.protocols.wire import Headroom as Headroom
    from dspex.protocols.wire import Provider as Provider
    from dspex.protocols.wire import StreamDecoder as StreamDecoder
    from dspex.protocols.wire import Wire as Wire
    from dspex.services.lm.clouds.accounts import bedrock as bedrock
    from dspex.services.lm.clouds.accounts import vertex as vertex
    from dspex.services.lm.limits import ClientLimits as ClientLimits
    from dspex.services.lm.providers import PROVIDERS as PROVIDERS
    from dspex.services.lm.retry import RetryPolicy as RetryPolicy
    from dspex.services.lm.transport import Timeouts as Timeouts
    from dspex.services.lm.wires.anthropic.wire import Anthropic as Anthropic
    from dspex.services.lm.wires.bedrock.wire import Bedrock as Bedrock
    from dspex.services.lm.wires.chat.wire import AzureChat as AzureChat
    from dspex.services.lm.wires.chat.wire import OpenAIChat as OpenAIChat
    from dspex.services.lm.wires.embeddings import AzureEmbeddings as AzureEmbeddings
    from dspex.services.lm.wires.embeddings import GeminiEmbeddings as GeminiEmbeddings
    from dspex.services.lm.wires.embeddings import OpenAIEmbeddings as OpenAIEmbeddings
    from dspex.services.lm.wires.fine_tuning import OpenAIFineTuning as OpenAIFineTuning
    from dspex.services.lm.wires.gemini.wire import Gemini as Gemini
    from dspex.services.lm.wires.kit import ErrorBody as ErrorBody
    from dspex.services.lm.wires.kit import EventParser as EventParser
    from dspex.services.lm.wires.kit import ServerSentEvent as ServerSentEvent
    from dspex.services.lm.wires.kit import bearer as bearer
    from dspex.services.lm.wires.kit import checked_key as checked_key
    from dspex.services.lm.wires.kit import failure as failure
    from dspex.services.lm.wires.kit import openai_headroom as openai_headroom
    from dspex.services.lm.wires.kit import request_headers as request_headers
    from dspex.services.lm.wires.responses.wire import OpenAIResponses as OpenAIResponses
    from dspex.services.lm.wires.vertex.wire import VertexClaude as VertexClaude
    from dspex.services.lm.wires.vertex.wire import VertexGemini as VertexGemini

__all__ = [
    "LM",
    "PROVIDERS",
    "Anthropic",
    "Attempt",
    "AudioPart",
    "AzureChat",
    "AzureEmbeddings",
    "Bedrock",
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
    "Grammar",
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
    "OpenAIFineTuning",
    "OpenAIResponses",
    "Part",
    "Provider",
    "ReasoningPart",
    "RetryPolicy",
    "Secret",
    "ServerSentEvent",
    "StreamDecoder",
    "TextChoice",
    "TextPart",
    "Timeouts",
    "TokenLogprob",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "TrainingCall",
    "TrainingEvent",
    "TrainingJob",
    "TrainingOrder",
    "TrainingWire",
    "Usage",
    "VertexClaude",
    "VertexGemini",
    "Wire",
    "bearer",
    "bedrock",
    "checked_key",
    "failure",
    "openai_headroom",
    "request_headers",
    "vertex",
]

if not TYPE_CHECKING:  # or a checker would take every name for one of ours
    __getattr__, __dir__ = lazy(__name__, globals())
