"""What a program says to a language model and hears back, and what a step needs from the service in between."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "LM",
    "Attempt",
    "AttemptLog",
    "Completion",
    "LMParams",
    "LMRequest",
    "LMResponse",
    "LMService",
    "Message",
    "Role",
    "Secret",
    "Usage",
]

Role = Literal["system", "user", "assistant"]


class Secret:
    """A string that never shows itself: not in ``repr``, ``str``, logs, tracebacks or comparisons by others."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself; only a transport that is about to send it calls this."""
        return self._value

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell keys apart without telling the key."""
        return hashlib.sha256(self._value.encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"Secret({self.fingerprint})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class LMParams:
    """
    Sampling parameters; ``None`` means "the provider's default" and is not sent.

    ``seed`` tells rollouts of one prompt apart; ``extra`` is passed to the provider as it is.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # JSON values of the provider's own choosing

    def merged(self, changes: Mapping[str, Any]) -> LMParams:
        """Return a copy with ``changes``; names that are no parameter of ours join ``extra``."""
        known = {name: value for name, value in changes.items() if name in _PARAM_NAMES}
        if "stop" in known:
            known["stop"] = (known["stop"],) if isinstance(known["stop"], str) else tuple(known["stop"])
        extra = {name: value for name, value in changes.items() if name not in _PARAM_NAMES}
        if extra:
            known["extra"] = {**self.extra, **known.get("extra", {}), **extra}
        return replace(self, **known)

    def over(self, defaults: LMParams) -> LMParams:
        """Return these parameters where they are set, and ``defaults`` where they are not."""
        if defaults == _UNSET:
            return self
        if self == _UNSET:
            return defaults
        changes = {name: value for name in _PARAM_NAMES if (value := getattr(self, name)) != getattr(_UNSET, name)}
        if "extra" in changes:
            changes["extra"] = {**defaults.extra, **self.extra}
        return replace(defaults, **changes)


_PARAM_NAMES = frozenset(LMParams.__dataclass_fields__)
_UNSET = LMParams()


class LM:
    """
    A language model as the user names it: a frozen record, no connection.

    Args:
        model: ``"provider/model"``, for example ``"openai/gpt-5-mini"``.
        api_base: Another server that speaks the provider's protocol, for example ``"http://localhost:8000/v1"``.
        api_key: The key; without it the App reads the provider's environment variable at start.
        params: Default sampling parameters (``temperature``, ``max_tokens``, ``seed``, …).

    Raises:
        ValueError: ``model`` has no provider part.
    """

    __slots__ = ("_hash", "_identity", "api_base", "api_key", "model", "params")

    model: str
    api_base: str | None
    api_key: Secret | None
    params: LMParams
    _identity: tuple[object, ...]
    _hash: int

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | Secret | None = None,
        **params: Any,  # the provider's own parameters are as open as its JSON
    ) -> None:
        key = Secret(api_key) if isinstance(api_key, str) else api_key
        provider, slash, name = model.partition("/")
        if not (provider and slash and name):
            raise ValueError(f"{model!r} is not 'provider/model', for example 'openai/gpt-5-mini'")
        set_field = object.__setattr__
        set_field(self, "model", model)
        set_field(self, "api_base", api_base)
        set_field(self, "api_key", key)
        set_field(self, "params", LMParams().merged(params))
        identity = (model, api_base, key, repr(self.params))  # looked up by every call: made once
        set_field(self, "_identity", identity)
        set_field(self, "_hash", hash(identity))

    @property
    def provider(self) -> str:
        """The part before the first slash."""
        return self.model.partition("/")[0]

    @property
    def model_name(self) -> str:
        """The part after the first slash, as the provider knows it."""
        return self.model.partition("/")[2]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"LM records are frozen; make another LM to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("LM records are frozen")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LM) and other._identity == self._identity

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        base = f", api_base={self.api_base!r}" if self.api_base else ""
        return f"LM({self.model!r}{base})"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation sent to the model."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class LMRequest:
    """One prompt and how to sample from it; which model answers is said beside it."""

    messages: tuple[Message, ...]
    params: LMParams = LMParams()


@dataclass(frozen=True, slots=True)
class Completion:
    """One of the ``n`` answers; ``finish_reason``: ``stop``, ``length``, ``content_filter`` or the provider's word."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or many calls; cached input tokens are counted inside ``input_tokens``."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class LMResponse:
    """A provider's whole answer; ``headers`` holds the ``x-…`` response headers in lower case."""

    completions: tuple[Completion, ...]
    usage: Usage
    model: str
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a logical call: ``outcome`` is ``ok`` or the error's class name; ``duration`` in seconds."""

    number: int
    outcome: str
    duration: float
    status: int | None = None
    message: str = ""


class AttemptLog:
    """
    What one logical LM call has done so far; it survives the step that writes it.

    A restarted step reads ``response`` and returns it unsent; otherwise it goes on counting, with the same
    idempotency key.
    """

    __slots__ = ("attempts", "idempotency_key", "on_wire", "response", "sent")

    def __init__(self, idempotency_key: str) -> None:
        self.idempotency_key = idempotency_key
        self.attempts: list[Attempt] = []
        self.sent = 0
        """How many times bytes of this call were handed to the network."""
        self.on_wire = False
        self.response: LMResponse | None = None


@runtime_checkable
class LMService(Protocol):
    """What a step needs of the LM room: one logical call, attempts included, run in the caller's own task."""

    async def complete(self, lm: str | LM | None, request: LMRequest, log: AttemptLog, deadline: float) -> LMResponse:
        """
        Answer ``request``, retrying as the policy allows, until ``deadline`` (the runtime clock's seconds).

        Raises:
            LMError: The provider's last word, with ``attempts`` filled.
            ServiceUnavailable: The service cannot start.
        Cancellation: closes the attempt's socket and settles its lease.
        """
        ...

    def resolve(self, lm: str | LM | None) -> LM:
        """Return the model record that ``lm`` (a name, a record or the default) stands for."""
        ...
