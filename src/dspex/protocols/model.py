"""Which language model is meant: frozen records, no connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Unpack

from dspex.protocols.headers import check_headers
from dspex.protocols.params import UNSET, LMParams, Sampling
from dspex.protocols.secret import Secret

__all__ = ["LM", "LMChoice", "LMParams", "LMPool", "Secret"]

_CAPABILITIES = (
    *("json_schema", "json_object", "choices", "grammar", "prefill", "stop", "tools", "images", "audio", "files"),
    *("many", "seed", "logprobs", "streaming", "reasoning"),
)  # the fields of protocols.lm.Capabilities, which stands above this module
_ARGUMENTS = ("api_base", "api_key", "capabilities", "headers")


class LM:
    """
    A language model as the user names it: a frozen record, no connection.

    Args:
        model: ``"provider/model"``, for example ``"openai/gpt-5-mini"``.
        api_base: Another server that speaks the provider's protocol, for example ``"http://localhost:8000/v1"``.
        api_key: The key; without it the App reads the provider's environment variable at start. A record with a key
            cannot be pickled.
        headers: More headers for every request, for a gateway that wants a tenant, an attribution or a beta flag. They
            go over dspex's own of the same name. Values are taken for secrets: they are never shown, saved or recorded.
            One that providers read a key from, such as ``authorization``, stands in for the key.
        capabilities: The model's capabilities, where dspex's table is wrong: names of ``Capabilities``, each true or
            false. They decide, for example, whether a JSON schema is sent along.
        params: Default sampling parameters (``temperature``, ``max_tokens``, ``seed``, …), and ``extra_body``: the
            provider's own, put into the body as they are.

    Raises:
        ValueError: ``model`` has no provider part, an argument is unknown, or a value cannot be what its name says.
    """

    __slots__ = ("_hash", "_identity", "api_base", "api_key", "capabilities", "headers", "model", "params")

    model: str
    api_base: str | None
    api_key: Secret | None
    headers: Mapping[str, Secret]
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
        headers: Mapping[str, str | Secret] | None = None,
        capabilities: Mapping[str, bool] | None = None,
        **params: Unpack[Sampling],
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
        set_field(self, "headers", check_headers(headers or {}))
        set_field(self, "params", UNSET.merged(params, beside=_ARGUMENTS))
        set_field(self, "capabilities", MappingProxyType(known))
        identity = (
            model,
            api_base,
            key,
            tuple(sorted(self.headers.items(), key=lambda each: each[0])),
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
            raise TypeError(f"{self!r} is not a plain LM record and cannot be pickled: make it where it is used")
        return _remade, (
            self.model,
            self.api_base,
            self.api_key,
            dict(self.headers),
            dict(self.capabilities),
            self.params,
        )

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
        headers = f", headers={list(self.headers)}" if self.headers else ""
        return f"{type(self).__name__}({self.model!r}{base}{headers})"


def _remade(
    model: str,
    api_base: str | None,
    api_key: Secret | None,
    headers: dict[str, Secret],
    capabilities: Mapping[str, bool],
    params: LMParams,
) -> LM:
    """Return the record that was pickled."""
    return LM(model, api_base=api_base, api_key=api_key, headers=headers, capabilities=capabilities, **params.given())


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
