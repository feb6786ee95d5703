"""The provider dialects the simulator speaks, one file each."""

from dspex.simulator.dialects._dialect import BodyInvalid, Dialect, ErrorAnswer, RateAllowance, Response, Twist
from dspex.simulator.dialects.anthropic_messages import AnthropicMessagesDialect
from dspex.simulator.dialects.azure import AzureOpenAIDialect
from dspex.simulator.dialects.gemini import GeminiDialect
from dspex.simulator.dialects.openai_chat import OpenAIChatDialect
from dspex.simulator.dialects.openai_embeddings import OpenAIEmbeddingsDialect
from dspex.simulator.dialects.openai_responses import OpenAIResponsesDialect

__all__ = [
    "DIALECTS",
    "AnthropicMessagesDialect",
    "AzureOpenAIDialect",
    "BodyInvalid",
    "Dialect",
    "ErrorAnswer",
    "GeminiDialect",
    "OpenAIChatDialect",
    "OpenAIEmbeddingsDialect",
    "OpenAIResponsesDialect",
    "RateAllowance",
    "Response",
    "Twist",
    "fallback",
]

# Three providers list models at one address; two of them are known by a header, and are asked first.
DIALECTS: tuple[Dialect, ...] = (
    AnthropicMessagesDialect(),
    GeminiDialect(),
    OpenAIChatDialect(),
    OpenAIResponsesDialect(),
    OpenAIEmbeddingsDialect(),
    AzureOpenAIDialect(),
)


def fallback(path: str, dialects: tuple[Dialect, ...] = DIALECTS) -> Dialect:
    """Return the dialect that words the errors of a path nobody claims."""
    name = "gemini" if path.startswith("/v1beta/") else "anthropic" if path.startswith("/v1/messages") else "openai"
    return next(one for one in dialects if one.name == name)
