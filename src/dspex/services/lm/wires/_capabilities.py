"""
The capabilities of models: one table by provider and name, the first matching row wins.

A row says what the provider documents for every model that its pattern covers; where models differ and names do not
tell them apart, it says the less. A user who knows better gives ``LM(..., capabilities={...})``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from dspex.protocols.lm import Capabilities
from dspex.protocols.model import LM

__all__ = ["CAPABILITIES_TABLE", "CapabilityRow", "TabledWire", "capabilities_of", "capabilities_of_record"]


@dataclass(frozen=True, slots=True)
class CapabilityRow:
    """
    One line of the table.

    Attributes:
        providers: Names of the providers' table.
        models: A pattern that the model's name, in lower case, must match as a whole.
        can: The capabilities of these models there.
    """

    providers: frozenset[str]
    models: re.Pattern[str]
    can: Capabilities


def _row(providers: str, models: str, words: str) -> CapabilityRow:
    """Make a row; ``words`` are the abilities beside streaming."""
    can = Capabilities(**dict.fromkeys(words.split(), True))
    return CapabilityRow(frozenset(providers.split()), re.compile(models), can)


_SEEING: Final = r".*(vision|llava|pixtral|[-._/]vl\b|\dvl\b|gemma-?3|gemma-?4|llama-?4|minicpm-v|mistral-small3).*"
_CALLING: Final = (
    r".*(llama-?3\.[1-3]|llama-?4|qwen-?[23]|mistral|ministral|devstral|gpt-oss|kimi|glm|deepseek-v3|command-r).*"
)
_JSON: Final = "json_schema json_object"
_TEXT: Final = "choices grammar stop"

CAPABILITIES_TABLE: Final[tuple[CapabilityRow, ...]] = (
    # OpenAI: the chat protocol, also at Azure where the deployment is named after its model.
    _row("openai azure", r".*(audio|realtime).*", "tools audio seed"),
    _row("openai azure", r"gpt-5-chat.*|chatgpt-4o.*", "images files many seed"),
    _row("openai azure", r"gpt-([5-9]|\d\d)(?!\d).*", f"{_JSON} tools images files many seed reasoning"),
    _row("openai azure", r"o1-(preview|mini).*", ""),
    _row("openai azure", r"o3-mini.*", f"{_JSON} tools seed reasoning"),
    _row("openai azure", r"o\d+(-.*)?", f"{_JSON} tools images files seed reasoning"),
    _row("openai azure", r"(ft:)?gpt-4(\.\d|o).*", f"{_JSON} tools images files many seed logprobs"),
    _row("openai azure", r"(ft:)?gpt-4-turbo.*", "json_object tools images many seed logprobs"),
    _row("openai azure", r"(ft:)?gpt-3[.]?5-turbo.*|gpt-35-turbo.*", "json_object tools many seed logprobs"),
    _row("openai azure", r"(ft:)?gpt-4(-.*)?", "tools many seed logprobs"),
    # OpenAI: the Responses protocol, which knows neither ``n`` nor seeds.
    _row("openai-responses", r"o1-(preview|mini).*", ""),
    _row("openai-responses", r"gpt-5-chat.*|chatgpt-4o.*", "images files"),
    _row("openai-responses", r"o3-mini.*", f"{_JSON} tools reasoning"),
    _row("openai-responses", r"(gpt-([5-9]|\d\d)(?!\d)|o\d).*", f"{_JSON} tools images files reasoning"),
    _row("openai-responses", r"(ft:)?gpt-4(\.\d|o).*", f"{_JSON} tools images files logprobs"),
    # Anthropic and Gemini, by their own protocols.
    _row(
        "anthropic",
        r"claude-((sonnet|haiku)-4-[5-9]|opus-4-[1-9](?!\d)|[a-z]+-([5-9]|\d\d)(?!\d)).*",
        "json_schema tools images files reasoning",
    ),
    _row("anthropic", r"claude-(mythos|fable).*", "json_schema tools images files reasoning"),
    _row("anthropic", r"claude-((sonnet|opus)-4|3-7).*", "tools images files reasoning"),
    _row("anthropic", r"claude-(3-5|3-opus|3-sonnet).*", "prefill tools images files"),
    _row("anthropic", r"claude-3-haiku.*", "prefill tools images"),
    _row("anthropic", r"claude-([12]|instant).*", ""),
    _row("anthropic", r"claude.*", "tools images files"),
    _row("gemini", r"gemini-(2\.5|[3-9]|\d\d).*", f"{_JSON} tools images audio files many seed reasoning"),
    _row("gemini", r"gemini.*", f"{_JSON} tools images audio files many seed"),
    # Clouds. Bedrock keeps to schemas for the newer models of Anthropic and some open ones.
    _row(
        "bedrock",
        r".*anthropic\.claude-((sonnet|haiku|opus)-4-[5-9](?!\d)|[a-z]+-([5-9]|\d\d)(?!\d)).*",
        "json_schema tools images files reasoning",
    ),
    _row("bedrock", r".*anthropic\.claude-((sonnet|opus)-4|3-7).*", "tools images files reasoning"),
    _row("bedrock", r".*anthropic\.claude-3.*", "tools images files"),
    _row("bedrock", r".*amazon\.nova-micro.*", "tools"),
    _row("bedrock", r".*amazon\.nova.*", "tools images files"),
    _row("bedrock", r".*(llama3-2-(11|90)b|llama4|pixtral).*", "tools images"),
    _row("bedrock", r".*(llama3-[1-3]|mistral-large|command-r|gpt-oss|qwen3|deepseek\.v3|jamba-1-5).*", "tools"),
    _row("vertex", r"claude-(3-5|3-opus|3-sonnet|3-haiku).*", "tools images files"),
    _row("vertex", r"claude-((sonnet|opus)-4(?!-\d(?!\d))|3-7).*", "tools images files reasoning"),
    _row("vertex", r"claude.*", "json_schema tools images files reasoning"),
    _row("vertex", r"gemini-(2\.5|[3-9]|\d\d).*", f"{_JSON} tools images audio files many seed reasoning"),
    _row("vertex", r"gemini.*", f"{_JSON} tools images audio files many seed"),
    # Hosts of others' models. Groq refuses schemas together with streams or tools, and takes n=1 only.
    _row("groq", r".*gpt-oss.*|.*qwen3.*", "json_object tools seed reasoning"),
    _row("groq", r".*llama-4.*", "json_object tools images seed"),
    _row("groq", r".*", "json_object tools seed"),
    _row("deepseek", r".*", "json_object tools"),
    _row("mistral", r"(pixtral|mistral-medium|mistral-small).*", f"{_JSON} tools images many seed"),
    _row("mistral", r".*", f"{_JSON} tools many seed"),
    _row("xai", r"grok-3-mini.*", f"{_JSON} tools seed reasoning"),
    _row("xai", r"grok-([4-9]|.*vision).*", f"{_JSON} tools images seed"),
    _row("xai", r".*", f"{_JSON} tools seed"),
    _row("cerebras", r".*gpt-oss.*", f"{_JSON} tools seed reasoning"),
    _row("cerebras", r".*", f"{_JSON} tools seed"),
    _row("fireworks together", _SEEING, f"{_JSON} images many seed"),
    _row("fireworks together", _CALLING, f"{_JSON} tools many seed"),
    _row("fireworks together", r".*", f"{_JSON} many seed"),
    _row("deepinfra", _CALLING, "json_object tools seed"),
    _row("deepinfra", r".*", "json_object seed"),
    _row("openrouter", r"openai/(gpt-([4-9]|\d\d)|o[1-9]).*", f"{_JSON} tools images files"),
    _row("openrouter", r"google/gemini.*", f"{_JSON} tools images files"),
    _row("openrouter", r"anthropic/claude.*", "tools images files"),
    _row("openrouter", _CALLING, "tools"),
    # Servers on one's own machine; tools at vLLM and SGLang need a parser that its operator chooses.
    _row("vllm sglang", _SEEING, f"{_JSON} {_TEXT} prefill images many seed logprobs"),
    _row("vllm sglang", r".*", f"{_JSON} {_TEXT} prefill many seed logprobs"),
    _row("llamacpp", r".*", f"{_JSON} {_TEXT} prefill tools seed"),
    _row("ollama", r".*(gpt-oss|qwen3|deepseek-r1).*", f"{_JSON} stop tools seed reasoning"),
    _row("ollama", _SEEING, f"{_JSON} stop images seed"),
    _row("ollama", _CALLING, f"{_JSON} stop tools seed"),
    _row("ollama", r".*", f"{_JSON} stop seed"),
    _row("lmstudio", _SEEING, "json_schema stop images seed"),
    _row("lmstudio", r".*", "json_schema stop tools seed"),
)
"""Provider and model to what they can do; the hosted ones checked against their documentation."""

_ROWS: Final = {
    provider: tuple(row for row in CAPABILITIES_TABLE if provider in row.providers)
    for provider in frozenset[str]().union(*(row.providers for row in CAPABILITIES_TABLE))
}
_UNKNOWN: Final = Capabilities()
_OPENAI_HOST: Final = "api.openai.com"


def capabilities_of(provider: str, model_name: str) -> Capabilities:
    """Return what the table says of a model at the provider's own address."""
    name = model_name.lower()
    return next((row.can for row in _ROWS.get(provider, ()) if row.models.fullmatch(name)), _UNKNOWN)


def capabilities_of_record(lm: LM) -> Capabilities:
    """
    Return what ``lm`` can do; what its record says goes before the table.

    A server of the user's own behind ``openai/…`` and ``openai-responses/…`` is not OpenAI: nothing is known of it.
    """
    elsewhere = lm.api_base is not None and urlsplit(lm.api_base).hostname != _OPENAI_HOST
    known = _UNKNOWN
    if not (elsewhere and lm.provider in ("openai", "openai-responses")):
        known = capabilities_of(lm.provider, lm.model_name)
    return replace(known, **lm.capabilities) if lm.capabilities else known


class TabledWire:
    """The half of a wire that the table answers for."""

    __slots__ = ()

    def capabilities(self, lm: LM) -> Capabilities:
        """Return what ``lm`` can do, by its record and the table."""
        return capabilities_of_record(lm)
