"""Which providers dspex knows: their wire, their address and where their key is usually kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from dspex.errors import ConfigError
from dspex.protocols.model import LM
from dspex.services.lm.wires._wire import Wire
from dspex.services.lm.wires.openai_chat import OpenAIChat

__all__ = ["PROVIDERS", "Endpoint", "Provider", "resolve_endpoint"]


@dataclass(frozen=True, slots=True)
class Provider:
    """
    One line of the table.

    Attributes:
        base_url: The public address; empty where only the user knows it.
        wire: The protocol spoken there.
        key_env: The environment variable its users keep the key in.
        needs_key: Whether a call without a key can only fail.
    """

    base_url: str
    wire: Wire
    key_env: str
    needs_key: bool = True


_COMPATIBLE: Final = OpenAIChat()
_OPENAI_HOST: Final = "api.openai.com"

PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "openai": Provider(f"https://{_OPENAI_HOST}/v1", OpenAIChat("max_completion_tokens"), "OPENAI_API_KEY"),
        "cerebras": Provider("https://api.cerebras.ai/v1", _COMPATIBLE, "CEREBRAS_API_KEY"),
        "deepinfra": Provider("https://api.deepinfra.com/v1/openai", _COMPATIBLE, "DEEPINFRA_API_KEY"),
        "deepseek": Provider("https://api.deepseek.com/v1", _COMPATIBLE, "DEEPSEEK_API_KEY"),
        "fireworks": Provider("https://api.fireworks.ai/inference/v1", _COMPATIBLE, "FIREWORKS_API_KEY"),
        "groq": Provider("https://api.groq.com/openai/v1", _COMPATIBLE, "GROQ_API_KEY"),
        "mistral": Provider("https://api.mistral.ai/v1", _COMPATIBLE, "MISTRAL_API_KEY"),
        "openrouter": Provider("https://openrouter.ai/api/v1", _COMPATIBLE, "OPENROUTER_API_KEY"),
        "together": Provider("https://api.together.xyz/v1", _COMPATIBLE, "TOGETHER_API_KEY"),
        "xai": Provider("https://api.x.ai/v1", _COMPATIBLE, "XAI_API_KEY"),
        "llamacpp": Provider("http://localhost:8080/v1", _COMPATIBLE, "LLAMACPP_API_KEY", needs_key=False),
        "lmstudio": Provider("http://localhost:1234/v1", _COMPATIBLE, "LMSTUDIO_API_KEY", needs_key=False),
        "ollama": Provider("http://localhost:11434/v1", _COMPATIBLE, "OLLAMA_API_KEY", needs_key=False),
        "vllm": Provider("http://localhost:8000/v1", _COMPATIBLE, "VLLM_API_KEY", needs_key=False),
    }
)
"""Provider name to what is known of it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where and how one model is reached.

    Attributes:
        provider: The part of the model's name before the slash.
        base_url: Without a trailing slash.
        wire: How requests and answers are written.
        key_env: The environment variable the key is read from when the record has none.
        needs_key: Whether a call without a key can only fail; false for any address the user gave.
    """

    provider: str
    base_url: str
    wire: Wire
    key_env: str
    needs_key: bool

    def url(self, model_name: str, *, stream: bool = False) -> str:
        """Return the address that requests to a model are posted to."""
        return self.base_url + self.wire.path(model_name, stream=stream)

    @property
    def key_hint(self) -> str:
        """Where the user can set the key."""
        return f"set {self.key_env} or give LM(..., api_key=...)"


def resolve_endpoint(lm: LM) -> Endpoint:
    """
    Return where and how ``lm`` is reached; the environment is not read.

    Raises:
        ConfigError: The provider is not known, or ``api_base`` is no http(s) address.
    """
    provider = PROVIDERS.get(lm.provider)
    if provider is None:
        known = ", ".join(sorted(PROVIDERS))
        raise ConfigError(
            f"{lm.model!r} names the provider {lm.provider!r}, which dspex does not know (known: {known}); "
            f"for another server that speaks OpenAI's protocol use 'openai/{lm.model_name}' with api_base='https://…/v1'"
        )
    if lm.api_base is None:
        return Endpoint(lm.provider, provider.base_url, provider.wire, provider.key_env, provider.needs_key)
    base_url = _checked(lm.api_base)
    official = urlsplit(base_url).hostname == _OPENAI_HOST
    wire = provider.wire if official or lm.provider != "openai" else _COMPATIBLE
    return Endpoint(lm.provider, base_url, wire, provider.key_env, needs_key=official)


def _checked(api_base: str) -> str:
    """Return the address without its trailing slash, or say what is wrong with it."""
    if "@" in api_base:  # said first, so that no message below repeats a password
        raise ConfigError("api_base holds a user name or password; give the key as api_key= instead")
    if not (api_base.isascii() and api_base.isprintable()) or " " in api_base:
        problem = "it holds spaces or characters that an address may not hold"
    else:
        try:
            parts = urlsplit(api_base)
            problem = _problem(parts.scheme, parts.hostname, parts.port, bool(parts.query or parts.fragment))
        except ValueError as error:
            problem = str(error)
    if problem:
        raise ConfigError(f"api_base={api_base!r} is no address such as 'http://localhost:8000/v1': {problem}")
    return api_base.rstrip("/")


def _problem(scheme: str, host: str | None, port: int | None, has_query: bool) -> str:
    if scheme not in ("http", "https"):
        return "it must begin with http:// or https://"
    if not host:
        return "it names no host"
    if port == 0:
        return "port 0 cannot be connected to"
    return "it must not have a query or a fragment" if has_query else ""
