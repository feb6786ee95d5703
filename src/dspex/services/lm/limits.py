"""The limits of one model, as the user says them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dspex.errors import ConfigError
from dspex.protocols.wire import Provider
from dspex.services.lm.providers import PROVIDERS
from dspex.services.lm.retry import RetryPolicy

__all__ = ["ClientLimits", "LimitsBook"]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """
    The limits of one model on one key.

    Attributes:
        max_in_flight: Attempts at once; the client goes lower by itself when the provider has had too much.
        rpm: Requests a minute: a full minute's worth may go out at once, then they come back one by one. Without it
            the limit is learned from the provider's headers, where it tells one. With ``App(shared=…)`` these limits
            are of all processes together.
        tpm: Tokens a minute, input and output together; each call reserves its prompt and its ``max_tokens`` before
            it is sent, and gets back what it did not use. A call that needs more than ``tpm`` is refused at once.
        learn: True when limits that were not given are learned from the provider's headers.
        follow_latency: True when a server that becomes slower is asked less at once; ``None`` means so for local
            servers (``vllm``, ``llamacpp``, ``ollama``, ``lmstudio``), which tell no limits.
        share: With ``App(shared=…)``, the name under which processes have these limits together; models and keys of the
            same name have the same. None means one name for each model and key.
        retry: Tries of one call, and the waits between them.
        retry_share: Retries that each first attempt earns, over all calls: 0.5 is one for every two.
        retry_reserve: Retries that may be spent before any are earned.

    Raises:
        ConfigError: A number makes no sense.
    """

    max_in_flight: int = 256
    rpm: float | None = None
    tpm: float | None = None
    learn: bool = True
    follow_latency: bool | None = None
    share: str | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    retry_share: float = 0.5
    retry_reserve: float = 100.0

    def __post_init__(self) -> None:
        if isinstance(self.max_in_flight, bool) or not isinstance(self.max_in_flight, int) or self.max_in_flight < 1:
            raise ConfigError(f"max_in_flight={self.max_in_flight!r} must be a whole number from 1 on")
        for name in ("rpm", "tpm"):
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise ConfigError(f"{name}={given!r} must be a positive number a minute, or None")
        if self.share is not None and (not isinstance(self.share, str) or not 0 < len(self.share) <= 100):
            raise ConfigError(f"share={self.share!r:.60} must be a name of up to 100 characters, or None")
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigError(f"retry={self.retry!r} must be a RetryPolicy")
        if not 0 <= self.retry_share < math.inf or not 0 <= self.retry_reserve < math.inf:
            raise ConfigError("retry_share and retry_reserve must be numbers from 0 on")


class LimitsBook:
    """
    Which limits hold for which model.

    Args:
        given: For every model, or by ``"provider/model"``, ``"provider/*"`` and ``"*"``; the closest one counts.
        providers: Those that names may begin with.

    Raises:
        ConfigError: A name is none of these, or a value is not ``ClientLimits``.
    """

    __slots__ = ("_by_name",)

    def __init__(
        self,
        given: ClientLimits | Mapping[str, ClientLimits] | None,
        providers: Mapping[str, Provider] = PROVIDERS,
    ) -> None:
        if given is None:
            given = ClientLimits()
        by_name = {"*": given} if isinstance(given, ClientLimits) else dict(given)
        for name, limits in by_name.items():
            if not isinstance(limits, ClientLimits):
                raise ConfigError(f"limits[{name!r}]={limits!r} must be ClientLimits")
            provider, slash, model = name.partition("/")
            if name != "*" and not (provider in providers and slash and model):
                raise ConfigError(
                    f"limits[{name!r}] names no model of a known provider; give 'provider/model', 'provider/*' or '*'"
                )
        by_name.setdefault("*", ClientLimits())
        self._by_name = by_name

    @property
    def max_in_flight(self) -> int:
        """Attempts at once that any one model may have."""
        return max(limits.max_in_flight for limits in self._by_name.values())

    def of(self, provider: str, model_name: str) -> ClientLimits:
        """Return the limits of one model."""
        by_name = self._by_name
        for name in (f"{provider}/{model_name}", f"{provider}/*"):
            if name in by_name:
                return by_name[name]
        return by_name["*"]
