"""Which language model is meant and how to sample from it: frozen records, no connection."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NoReturn

__all__ = ["LM", "LMChoice", "LMParams", "LMPool", "Secret"]


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

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is never pickled: leave out api_key, and let each App read it from its environment")

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

    Attributes:
        seed: Tells rollouts of one prompt apart.
        reasoning: How hard to think: ``none``, ``minimal``, ``low``, ``medium``, ``high``, or the provider's own word.
        logprobs: Alternatives per token whose log-probabilities are wanted; 0 asks for the chosen tokens' only.
        parallel_tool_calls: False allows one tool call a turn.
        extra: Passed to the provider as it is.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    reasoning: str | None = None
    logprobs: int | None = None
    parallel_tool_calls: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # JSON values of the provider's own choosing

    def merged(self, changes: Mapping[str, Any]) -> LMParams:
        """
        Return a copy with ``changes``; names that are no parameter of ours join ``extra``.

        Raises:
            ValueError: A value cannot be what its name says, or a name is one of ours with a slip in it.
        """
        _refuse_misfits(changes)
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value))


_EXPECTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_is_number, "a number"),
    "max_tokens": (lambda value: _is_whole(value) and value >= 0, "a whole number"),
    "top_p": (_is_number, "a number"),
    "stop": (_is_stop, "a text or several"),
    "n": (lambda value: _is_whole(value) and value >= 1, "how many answers, 1 or more"),
    "seed": (_is_whole, "a whole number"),
    "reasoning": (lambda value: isinstance(value, str), "a word such as 'low' or 'high'"),
    "logprobs": (lambda value: _is_whole(value) and value >= 0, "how many alternatives, 0 or more"),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "True or False"),
    "extra": (lambda value: isinstance(value, Mapping), "a mapping"),
}
_ELSEWHERE: Mapping[str, str] = {
    "base_url": "a server's address is api_base=",
    "cache": "answers are kept by App(cache=...), and app.options(cache=...)",
    "callbacks": "events are told by app.telemetry",
    "max_iters": "an agent's steps are max_steps=",
    "model_type": "the protocol is the provider's name, such as openai-responses/...",
    "num_retries": "attempts are App(limits=dspex.ClientLimits(retry=...))",
    "rollout_id": "answers are told apart by seed=",
}
"""What other libraries take among the parameters of a model, and no provider does."""
_LONG = 8
"""Letters of a name that a slip is looked for in: ``temprature`` is one, ``top_k`` is not."""


@functools.lru_cache(maxsize=256)
def _meant(name: str) -> str:
    """Return the parameter of ours that a name is a slip of; empty where it is none."""
    return next((each for each in _EXPECTED if len(each) >= _LONG and _one_edit_apart(name, each)), "")


def _one_edit_apart(one: str, other: str) -> bool:
    """Tell whether a letter is missing, too many, another, or two have changed places."""
    short, long = sorted((one, other), key=len)
    at = next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) == len(long):
        swapped = short[:at] + short[at + 1 : at + 2] + short[at : at + 1] + short[at + 2 :]
        return short[at + 1 :] == long[at + 1 :] or swapped == long
    return len(long) - len(short) == 1 and short[at:] == long[at + 1 :]


def _refuse_misfits(changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if name not in _EXPECTED:
            if name in _ELSEWHERE:
                raise ValueError(f"{name}={value!r} is no parameter of a model: {_ELSEWHERE[name]}")
            if meant := _meant(name):
                how = f"extra={{{name!r}: {value!r}}}"
                raise ValueError(f"{name}={value!r}: did you mean {meant}? The provider's own go into {how}")
        elif value is not None and not _EXPECTED[name][0](value):
            raise ValueError(f"{name}={value!r}: expected {_EXPECTED[name][1]}")


_CAPABILITIES = (
    *("json_schema", "json_object", "tools", "images", "audio", "files"),
    *("many", "seed", "logprobs", "streaming", "reasoning"),
)  # the fields of protocols.lm.Capabilities, which stands above this module
_PARAM_NAMES = frozenset(LMParams.__dataclass_fields__)
_UNSET = LMParams()


class LM:
    """
    A language model as the user names it: a frozen record, no connection.

    Args:
        model: ``"provider/model"``, for example ``"openai/gpt-5-mini"``.
        api_base: Another server that speaks the provider's protocol, for example ``"http://localhost:8000/v1"``.
        api_key: The key; without it the App reads the provider's environment variable at start. A record with a key
            cannot be pickled.
        capabilities: What the model can do, where it is not what dspex's table says: names of ``Capabilities``, each
            true or false. They decide, for example, whether a JSON schema is sent along.
        params: Default sampling parameters (``temperature``, ``max_tokens``, ``seed``, …).

    Raises:
        ValueError: ``model`` has no provider part, or ``capabilities`` names what is none.
    """

    __slots__ = ("_hash", "_identity", "api_base", "api_key", "capabilities", "model", "params")

    model: str
    api_base: str | None
    api_key: Secret | None
    params: LMParams
    capabilities: Mapping[str, bool]
    _identity: tuple[object, ...]
    _hash: int

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | Secret | None = None,
        capabilities: Mapping[str, bool] | None = None,
        **params: Any,  # the provider's own parameters are as open as its JSON
    ) -> None:
        key = Secret(api_key) if isinstance(api_key, str) else api_key
        provider, slash, name = model.partition("/")
        if not (provider and slash and name):
            raise ValueError(f"{model!r} is not 'provider/model', for example 'openai/gpt-5-mini'")
        known = dict(capabilities or {})
        for each, value in known.items():
            if each not in _CAPABILITIES or not isinstance(value, bool):
                raise ValueError(
                    f"capabilities={{{each!r}: {value!r}}}: give True or False for any of {', '.join(_CAPABILITIES)}"
                )
        set_field = object.__setattr__
        set_field(self, "model", model)
        set_field(self, "api_base", api_base)
        set_field(self, "api_key", key)
        set_field(self, "params", LMParams().merged(params))
        set_field(self, "capabilities", MappingProxyType(known))
        identity = (
            model,
            api_base,
            key,
            repr(self.params),
            tuple(sorted(known.items())),
        )  # looked up by every call: made once
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

    def __copy__(self) -> LM:
        return self

    def __deepcopy__(self, memo: object) -> LM:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Make the record anew from its fields; raises ``TypeError`` where it holds a key, or answers by itself."""
        if type(self) is not LM:
            raise TypeError(f"{self!r} is no plain LM record and cannot be pickled: make it where it is used")
        return _remade, (self.model, self.api_base, self.api_key, dict(self.capabilities), self.params)

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
        return f"{type(self).__name__}({self.model!r}{base})"


def _remade(
    model: str, api_base: str | None, api_key: Secret | None, capabilities: Mapping[str, bool], params: LMParams
) -> LM:
    """Return the record that was pickled."""
    given = {name: value for name in _PARAM_NAMES if (value := getattr(params, name)) != getattr(_UNSET, name)}
    return LM(model, api_base=api_base, api_key=api_key, capabilities=capabilities, **given)


@dataclass(frozen=True, slots=True)
class LMPool:
    """
    Several models that may answer the same call, as one choice.

    Attributes:
        members: Records, or names of the App's; the first is the preferred one.
        weights: Shares of the traffic; empty means the order is the preference (fallback).
        hedge_after: Seconds without a first byte after which a second member is asked too; the first answer wins.
            ``"auto"`` learns them, by member: the time within which 95 of 100 answers have begun lately, once there
            were 20. ``None`` never hedges. Hedges stay below ``hedge_share`` of the calls.
        hedge_share: The largest share of calls that may be asked twice.

    Raises:
        ValueError: There are no members, or the weights do not fit them, or another argument makes no sense.
    """

    members: tuple[str | LM | LMPool, ...]
    weights: tuple[float, ...] = ()
    hedge_after: float | Literal["auto"] | None = None
    hedge_share: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.members, (str, LM, LMPool)):
            raise ValueError(f"members={self.members!r}: give them as a tuple or a list, the preferred one first")
        object.__setattr__(self, "members", tuple(self.members))  # lists too: the record is frozen and has a hash
        object.__setattr__(self, "weights", tuple(self.weights))
        if not self.members:
            raise ValueError("a pool needs at least one member")
        if self.weights and (len(self.weights) != len(self.members) or min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError(f"weights={self.weights!r} must give each of the {len(self.members)} members its share")
        after = self.hedge_after
        if after not in (None, "auto") and (isinstance(after, (str, bool)) or not after > 0):
            raise ValueError(f"hedge_after={after!r} must be a positive number of seconds, 'auto' or None")
        if not 0 <= self.hedge_share <= 1:
            raise ValueError(f"hedge_share={self.hedge_share!r} must lie between 0 and 1")

    @property
    def model(self) -> str:
        """The members' names, for people: ``openai/a | anthropic/b``."""
        return " | ".join(each if isinstance(each, str) else each.model for each in self.members)


LMChoice = str | LM | LMPool | None
"""Which model is to answer: a name of the App's or ``provider/model``, a record, a pool, or the App's default."""
