"""The model that a server at an address has, and the provider's name for such a server, by its list of models."""

from __future__ import annotations

from typing import Final

from dspex.errors import AuthFailed, ConfigError, LMError, TransportFailed
from dspex.protocols.model import LM
from dspex.services.lm.clouds.metadata import ask
from dspex.services.lm.wires._json import parse

__all__ = ["is_address", "model_at", "named_by"]

_OWNERS: Final = {
    "llamacpp": "llamacpp",
    "vllm": "vllm",
    "sglang": "sglang",
    "library": "ollama",
    "organization_owner": "lmstudio",
}
"""The owner that a server's list names for its models, and the server's name here."""
_SHOWN: Final = 8


def is_address(name: str) -> bool:
    """Tell whether a name is the address of a server, not of a model."""
    return name.startswith(("http://", "https://"))


def named_by(document: object, api_base: str) -> LM:
    """
    Return the record of the one model that a list of models names.

    Raises:
        ConfigError: It names none, or several.
    """
    listed = document.get("data") if isinstance(document, dict) else None
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    names = [each["id"] for each in models if isinstance(each.get("id"), str) and each["id"]]
    if not names:
        raise ConfigError(f"{api_base} does not list its models: say provider/model, and its address as api_base")
    owner = models[0].get("owned_by")
    provider = _OWNERS.get(owner, "openai") if isinstance(owner, str) else "openai"
    if len(names) > 1:
        shown = ", ".join(f"{provider}/{each}" for each in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise ConfigError(f"{api_base} has {len(names)} models: name one of {shown}, and its address as api_base")
    name = names[0].rpartition("/")[2] if provider == "llamacpp" else names[0]  # it lists its file, and takes any name
    return LM(f"{provider}/{name}", api_base=api_base)


async def model_at(address: str) -> LM:
    """
    Ask a server that speaks OpenAI's protocol which model it has.

    Args:
        address: With or without ``/v1`` at its end.

    Raises:
        ConfigError: There is no such server, or it names no model, or several.
    Cancellation: closes the socket.
    """
    given = address.rstrip("/")
    bases = [given] if given.endswith("/v1") else [f"{given}/v1", given]
    problem: Exception | None = None
    for base in bases:
        try:
            document = parse(await ask(f"{base}/models", {"accept-encoding": "identity"}, what="the list of models"))
        except (AuthFailed, TransportFailed, LMError, ValueError) as error:
            problem = problem or error
        else:
            return named_by(document, base)
    raise ConfigError(f"{bases[0]}/models cannot be read: {problem}") from problem
