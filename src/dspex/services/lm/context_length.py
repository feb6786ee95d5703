"""The number of tokens that a server of the user's own has room for, by its list of models."""

from __future__ import annotations

from typing import Final

from dspex.errors import AuthFailed, LMError, TransportFailed
from dspex.protocols.model import LM
from dspex.services.lm.clouds.metadata import ask
from dspex.services.lm.providers import PROVIDERS
from dspex.services.lm.wires._json import parse

__all__ = ["ask_context_length", "context_length"]

_TELLS: Final = frozenset({"llamacpp", "vllm", "sglang", "lmstudio"})
"""Providers whose servers say it; Ollama does not, and cuts longer prompts without a word."""
_NAMES: Final = ("max_model_len", "n_ctx", "loaded_context_length", "context_length", "max_context_length")
_MOST_TOKENS: Final = 10**9


def context_length(document: object, model: str) -> int | None:
    """Return the tokens that a list of models tells of one, or of the only one; None where it tells nothing."""
    listed = document.get("data") if isinstance(document, dict) else None
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    named = [each for each in models if each.get("id") == model]
    if not named and len(models) != 1:
        return None
    found = (named or models)[0]
    inner = found.get("meta")
    known = {**inner, **found} if isinstance(inner, dict) else found
    told = (known.get(name) for name in _NAMES)
    return next((each for each in told if type(each) is int and 0 < each <= _MOST_TOKENS), None)


async def ask_context_length(lm: LM) -> int | None:
    """
    Ask a model's server for the tokens that it has room for; None where it does not say, or is somebody else's.

    Cancellation: closes the socket.
    """
    provider = PROVIDERS.get(lm.provider)
    if provider is None or lm.provider not in _TELLS:
        return None
    headers = {"accept-encoding": "identity", **{name: secret.reveal() for name, secret in lm.headers.items()}}
    if lm.api_key is not None:
        headers = {"authorization": f"Bearer {lm.api_key.reveal()}", **headers}
    url = f"{(lm.api_base or provider.base_url).rstrip('/')}/models"
    try:
        return context_length(parse(await ask(url, headers, what="the list of models")), lm.model_name)
    except (AuthFailed, TransportFailed, LMError, ValueError):
        return None
