"""Which providers dspex knows: their wire, their address and where their key is usually kept."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from dspex.errors import ConfigError
from dspex.protocols.headers import NO_HEADERS, carry_credentials
from dspex.protocols.model import LM, Secret
from dspex.protocols.wire import EmbeddingsWire, OffLoopRun, Post, Provider, ReadVariable, Signer, Wire
from dspex.services.lm.clouds.accounts import bedrock, vertex
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.request import TextWords
from dspex.services.lm.wires.chat.wire import AzureChat, OpenAIChat
from dspex.services.lm.wires.embeddings import AzureEmbeddings, GeminiEmbeddings, OpenAIEmbeddings
from dspex.services.lm.wires.fine_tuning import OpenAIFineTuning
from dspex.services.lm.wires.gemini.wire import Gemini
from dspex.services.lm.wires.responses.wire import OpenAIResponses
from dspex.services.lm.wrong_address import mistake_in

__all__ = ["PROVIDERS", "Endpoint", "check_address", "resolve_endpoint"]


_COMPATIBLE: Final = OpenAIChat()
_GATEWAY: Final = OpenAIChat("by_model")
_EMBEDDINGS: Final = OpenAIEmbeddings()
_OPENAI: Final = "https://api.openai.com/v1"


def _host(base_url: str, key_env: tuple[str, ...]) -> Provider:
    """Make the line of a host that copied both of OpenAI's protocols."""
    return Provider(base_url, _COMPATIBLE, key_env, embeddings=_EMBEDDINGS)


def _own(base_url: str, key_env: str, text_words: TextWords = "") -> Provider:
    """Make the line of a server on one's own machine."""
    return Provider(base_url, OpenAIChat(text_words=text_words), (key_env,), needs_key=False, embeddings=_EMBEDDINGS)


PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "openai": Provider(
            _OPENAI,
            OpenAIChat("max_completion_tokens"),
            ("OPENAI_API_KEY",),
            embeddings=_EMBEDDINGS,
            training=OpenAIFineTuning(),
        ),
        "openai-responses": Provider(
            _OPENAI, OpenAIResponses(), ("OPENAI_API_KEY",), embeddings=_EMBEDDINGS, training=OpenAIFineTuning()
        ),
        "azure": Provider("", AzureChat(), ("AZURE_OPENAI_API_KEY",), embeddings=AzureEmbeddings()),
        # Protocols of their own.
        "anthropic": Provider("https://api.anthropic.com/v1", Anthropic(), ("ANTHROPIC_API_KEY",)),
        "gemini": Provider(
            "https://generativelanguage.googleapis.com/v1beta",
            Gemini(),
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            embeddings=GeminiEmbeddings(),
        ),
        # Accounts at clouds.
        "bedrock": bedrock(),
        "vertex": vertex(),
        # Hosts that speak OpenAI's chat protocol.
        "cerebras": Provider("https://api.cerebras.ai/v1", _COMPATIBLE, ("CEREBRAS_API_KEY",)),
        "deepinfra": _host("https://api.deepinfra.com/v1/openai", ("DEEPINFRA_API_KEY",)),
        "deepseek": Provider("https://api.deepseek.com/v1", _COMPATIBLE, ("DEEPSEEK_API_KEY",)),
        "fireworks": _host("https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",)),
        "groq": Provider("https://api.groq.com/openai/v1", _COMPATIBLE, ("GROQ_API_KEY",)),
        "mistral": Provider(
            "https://api.mistral.ai/v1",
            OpenAIChat(seed_field="random_seed", stream_usage=False),  # it refuses fields that it does not know
            ("MISTRAL_API_KEY",),
            embeddings=OpenAIEmbeddings(packed=False),
        ),
        "openrouter": _host("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
        "together": _host("https://api.together.xyz/v1", ("TOGETHER_API_KEY",)),
        "xai": Provider("https://api.x.ai/v1", _COMPATIBLE, ("XAI_API_KEY",)),
        # Servers on one's own machine.
        "llamacpp": _own("http://localhost:8080/v1", "LLAMACPP_API_KEY", "llamacpp"),
        "lmstudio": _own("http://localhost:1234/v1", "LMSTUDIO_API_KEY"),
        "ollama": _own("http://localhost:11434/v1", "OLLAMA_API_KEY"),
        "sglang": _own("http://localhost:30000/v1", "SGLANG_API_KEY", "sglang"),
        "vllm": _own("http://localhost:8000/v1", "VLLM_API_KEY", "vllm"),
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
        wire: The wire that writes requests and reads answers.
        key_env: The environment variables the key is looked for in when the record has none, in this order.
        needs_key: True when a call without a key can only fail; false for a server of the user's own.
        embeddings: The wire for vectors of texts, if there is one.
        headers: The record's own, which go over the wire's.
        usual_base: The provider's own ``base_url``; empty where it has none.
        signer: Makes what proves who asks where there is no key; None where there is nothing but keys.
        hint: Where the user can set the credentials, where a key is not the only way.
    """

    provider: str
    base_url: str
    wire: Wire
    key_env: tuple[str, ...]
    needs_key: bool
    embeddings: EmbeddingsWire | None = None
    headers: Mapping[str, Secret] = field(default_factory=lambda: NO_HEADERS)
    usual_base: str = ""
    signer: Callable[[Post, OffLoopRun], Signer] | None = None
    hint: str = ""

    def url(self, model_name: str, *, stream: bool = False) -> str:
        """Return the address that requests to a model are posted to."""
        return self.base_url + self.wire.path(model_name, stream=stream)

    def embed_url(self, model_name: str) -> str:
        """
        Return the address that texts for a model are posted to.

        Raises:
            ConfigError: The provider makes no embeddings.
        """
        if self.embeddings is None:
            able = ", ".join(sorted(name for name, each in PROVIDERS.items() if each.embeddings is not None))
            raise ConfigError(f"dspex knows no embeddings of the provider {self.provider!r} (it does of {able})")
        return self.base_url + self.embeddings.path(model_name)

    @property
    def key_hint(self) -> str:
        """Where the user can set the key."""
        if self.hint:
            return self.hint
        if not self.key_env:
            return "give LM(..., api_key=...) or another header"
        return f"set {' or '.join(self.key_env)} or give LM(..., api_key=...)"


def _nothing(variable: str) -> Secret | None:
    """Read no environment."""


def resolve_endpoint(lm: LM, providers: Mapping[str, Provider] = PROVIDERS, read: ReadVariable = _nothing) -> Endpoint:
    """
    Return where and how ``lm`` is reached; ``read`` is asked for nothing but the account at a cloud.

    Headers that carry credentials stand in for the key: none is looked for then.

    Raises:
        ConfigError: The provider is not known, or ``api_base`` is not an http(s) address.
    """
    endpoint = _endpoint_of(lm, providers, read)
    if not lm.headers:
        return endpoint
    if carry_credentials(lm.headers):
        endpoint = replace(endpoint, key_env=(), needs_key=False, signer=None, hint="")
    return replace(endpoint, headers=lm.headers)


def _endpoint_of(lm: LM, providers: Mapping[str, Provider], read: ReadVariable) -> Endpoint:
    provider = providers.get(lm.provider)
    if provider is None:
        known, meant = ", ".join(sorted(providers)), _meant(lm.provider, providers)
        hint = f": did you mean {f'{meant}/{lm.model_name}'!r}?" if meant is not None else ""
        raise ConfigError(
            f"{lm.model!r} names the provider {lm.provider!r}, which dspex does not know{hint} (known: {known}); "
            f"for another server that speaks OpenAI's protocol use 'openai/{lm.model_name}' with "
            "api_base='https://…/v1'; App(providers={…}) adds a provider of your own"
        )
    if isinstance(provider.wire, AzureChat):
        return _azure(lm, provider)
    if provider.cloud is not None:
        if lm.api_base is not None:
            check_address(lm.api_base)
        base_url, wire = provider.cloud.place(lm, read)
        endpoint = _endpoint(lm.provider, provider, base_url)
        signer, hint = partial(provider.cloud.signer, base_url, read), provider.cloud.hint
        usual = "" if lm.api_base is not None else base_url
        return replace(endpoint, wire=wire, signer=signer, hint=hint, usual_base=usual)
    if lm.api_base is None:
        if not provider.base_url:
            raise ConfigError(f"{lm.model!r} needs the address of its server: LM(..., api_base='https://…')")
        return _endpoint(lm.provider, provider, provider.base_url)
    base_url = check_address(lm.api_base)
    meant = mistake_in(base_url, urlsplit(provider.base_url).path)
    if meant is not None:
        asked = base_url + provider.wire.path(lm.model_name, stream=False)
        raise ConfigError(
            f"api_base={lm.api_base!r} is not the base of a server: requests would go to {asked}; "
            f"write api_base={meant!r}"
        )
    official = urlsplit(base_url).hostname == urlsplit(provider.base_url).hostname
    endpoint = _endpoint(lm.provider, provider, base_url)
    if official:
        return endpoint
    wire = _GATEWAY if provider is PROVIDERS["openai"] else provider.wire
    return replace(endpoint, wire=wire, needs_key=False)


_ELSEWHERE: Final[Mapping[str, str]] = {
    "azureai": "azure",
    "azureopenai": "azure",
    "amazon": "bedrock",
    "amazonbedrock": "bedrock",
    "aws": "bedrock",
    "awsbedrock": "bedrock",
    "bedrockconverse": "bedrock",
    "claude": "anthropic",
    "fireworksai": "fireworks",
    "googleai": "gemini",
    "googlegenai": "gemini",
    "google": "gemini",
    "googlevertex": "vertex",
    "grok": "xai",
    "hostedvllm": "vllm",
    "llamafile": "llamacpp",
    "mistralai": "mistral",
    "ollamachat": "ollama",
    "openaichat": "openai",
    "textcompletionopenai": "openai",
    "togetherai": "together",
    "vertexai": "vertex",
}
"""Names of other libraries, in small letters and digits only, and ours for the same provider."""


def _meant(name: str, providers: Mapping[str, Provider]) -> str | None:
    """Return the provider that somebody who wrote ``name`` may have meant."""
    plain = {_plain(each): each for each in providers}
    written = _plain(name)
    found = plain.get(written) or _ELSEWHERE.get(written)
    if found in providers:
        return found
    close = difflib.get_close_matches(written, plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _endpoint(name: str, provider: Provider, base_url: str) -> Endpoint:
    return Endpoint(
        name,
        base_url,
        provider.wire,
        provider.key_env,
        provider.needs_key,
        provider.embeddings,
        usual_base=provider.base_url,
    )


_AZURE_EXAMPLE: Final = "'https://RESOURCE.openai.azure.com'"


def _azure(lm: LM, provider: Provider) -> Endpoint:
    """Return the endpoint of an Azure resource; ``?api-version=…`` behind its address asks the older interface."""
    if lm.api_base is None:
        raise ConfigError(f"{lm.model!r} needs the address of your resource: api_base={_AZURE_EXAMPLE}")
    address, _, query = lm.api_base.partition("?")
    base_url = check_address(address).removesuffix("/openai/v1").removesuffix("/openai")
    name, _, version = query.partition("=")
    if "/deployments/" in address or (query and not (name == "api-version" and version and "&" not in version)):
        raise ConfigError(
            f"api_base={lm.api_base!r} is not the address of an Azure resource: give {_AZURE_EXAMPLE}, "
            "with '?api-version=…' behind it for the interface by versions, and the deployment as 'azure/DEPLOYMENT'"
        )
    endpoint = _endpoint(lm.provider, provider, base_url)
    return replace(endpoint, wire=AzureChat(api_version=version), embeddings=AzureEmbeddings(api_version=version))


def check_address(api_base: str) -> str:
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
        raise ConfigError(f"api_base={api_base!r} is not an address such as 'http://localhost:8000/v1': {problem}")
    return api_base.rstrip("/")


def _problem(scheme: str, host: str | None, port: int | None, has_query: bool) -> str:
    if scheme not in ("http", "https"):
        return "it must begin with http:// or https://"
    if not host:
        return "it names no host"
    if port == 0:
        return "port 0 cannot be connected to"
    return "it must not have a query or a fragment" if has_query else ""
