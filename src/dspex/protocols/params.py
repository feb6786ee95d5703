"""The parameters of sampling from a model: a frozen record, and the check of users' values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict

from dspex.protocols.json_values import Json, JsonDict

__all__ = ["UNSET", "AttemptConfig", "LMParams", "PredictorConfig", "Sampling", "refuse_unknown"]


class _AtAnyTemperature(TypedDict, total=False):
    max_tokens: int | None
    top_p: float | None
    stop: str | Sequence[str]
    n: int
    seed: int | None
    reasoning: str | None
    logprobs: int | None
    parallel_tool_calls: bool | None
    extra_body: Mapping[str, object]


class Sampling(_AtAnyTemperature, total=False):
    """The fields of ``LMParams`` as users give them by name."""

    temperature: float | None


class PredictorConfig(Sampling, total=False):
    """The keyword arguments of a predictor beside its signature: how to sample, and how often to repair an answer."""

    repair_turns: int


class AttemptConfig(_AtAnyTemperature, total=False):
    """The same for a module that has a temperature of its own."""

    repair_turns: int


@dataclass(frozen=True, slots=True)
class LMParams:
    """
    Sampling parameters; ``None`` means "the provider's default" and is not sent.

    Attributes:
        seed: Tells rollouts of one prompt apart.
        reasoning: The effort of thinking: ``none``, ``minimal``, ``low``, ``medium``, ``high``, or the provider's own
            word.
        logprobs: Alternatives per token whose log-probabilities are wanted; 0 asks for the chosen tokens' only.
        parallel_tool_calls: False allows one tool call a turn.
        extra_body: The provider's own parameters, put into the body of the request as they are.
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
    extra_body: Mapping[str, object] = field(default_factory=dict)

    def merged(self, changes: Json, *, beside: Iterable[str] = ()) -> LMParams:
        """
        Return a copy with ``changes``; ``extra_body`` joins what is there, name by name.

        Args:
            changes: Values by the names of these fields.
            beside: The other keyword arguments of the caller, for a message about a slip.

        Raises:
            ValueError: A name is not one of these fields, or a value cannot be what its name says.
        """
        if not changes:
            return self
        refuse_unknown(changes.keys() - _NAMES, (*_EXPECTED, *beside))
        for name, value in changes.items():
            if value is not None and not _EXPECTED[name][0](value):
                raise ValueError(f"{name}={value!r}: expected {_EXPECTED[name][1]}")
        known = dict(changes)
        if "stop" in known:
            known["stop"] = (known["stop"],) if isinstance(known["stop"], str) else tuple(known["stop"])
        if "extra_body" in known:
            known["extra_body"] = {**self.extra_body, **(known["extra_body"] or {})}
        return replace(self, **known)

    def over(self, defaults: LMParams) -> LMParams:
        """Return these parameters where they are set, and ``defaults`` where they are not."""
        if defaults == UNSET:
            return self
        if self == UNSET:
            return defaults
        changes = {name: value for name in _NAMES if (value := getattr(self, name)) != getattr(UNSET, name)}
        if "extra_body" in changes:
            changes["extra_body"] = {**defaults.extra_body, **self.extra_body}
        return replace(defaults, **changes)

    def given(self) -> JsonDict:
        """Return the fields that are set, by name."""
        return {name: value for name in _NAMES if (value := getattr(self, name)) != getattr(UNSET, name)}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value))


def _is_body(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


_EXPECTED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "temperature": (_is_number, "a number"),
    "max_tokens": (lambda value: _is_whole(value) and value >= 0, "a whole number"),
    "top_p": (_is_number, "a number"),
    "stop": (_is_stop, "a text or several"),
    "n": (lambda value: _is_whole(value) and value >= 1, "how many answers, 1 or more"),
    "seed": (_is_whole, "a whole number"),
    "reasoning": (lambda value: isinstance(value, str), "a word such as 'low' or 'high'"),
    "logprobs": (lambda value: _is_whole(value) and value >= 0, "how many alternatives, 0 or more"),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "True or False"),
    "extra_body": (_is_body, "a mapping of names to JSON values"),
}
_NAMES: Final = frozenset(LMParams.__dataclass_fields__)
_ELSEWHERE: Final[Mapping[str, str]] = {
    "base_url": "a server's address is api_base=",
    "cache": "answers are kept by App(cache=...), and app.options(cache=...)",
    "callbacks": "events are told by app.telemetry",
    "deadline": "a request's time is app.options(deadline=...)",
    "default_headers": "request headers are headers={...}",
    "extra": "the provider's own parameters are extra_body={...}",
    "extra_headers": "request headers are headers={...}",
    "key": "a provider's key is api_key=",
    "max_iters": "an agent's steps are max_steps=",
    "max_retries": "attempts are App(limits=dspex.ClientLimits(retry=...))",
    "model_type": "the protocol is the provider's name, such as openai-responses/...",
    "num_retries": "attempts are App(limits=dspex.ClientLimits(retry=...))",
    "rollout_id": "answers are told apart by seed=",
    "stream": "answers are streamed by app.stream(program, ...)",
    "timeout": "waits are App(timeouts=dspex.Timeouts(...)) and app.options(deadline=...)",
    "top_k": "the provider's own parameters are extra_body={'top_k': ...}",
}
"""Words of other libraries for arguments that dspex takes in another place."""

UNSET: Final = LMParams()
"""Nothing is set."""


def refuse_unknown(unknown: Iterable[str], known: Iterable[str]) -> None:
    """
    Say of the first unknown name what it may be meant for; its value is not shown, since it may be a key.

    Raises:
        ValueError: There is an unknown name.
    """
    for name in sorted(unknown):
        if name in _ELSEWHERE:
            raise ValueError(f"{name}= is not a parameter of a model: {_ELSEWHERE[name]}")
        how = f"the provider's own parameters go into extra_body={{{name!r}: ...}}"
        close = difflib.get_close_matches(name.lower(), (*known, *_ELSEWHERE), n=1, cutoff=0.75)
        if not close:
            raise ValueError(f"{name}= is not a parameter of a model; {how}")
        meant = close[0]
        hint = f"{meant}= ({_ELSEWHERE[meant]})" if meant in _ELSEWHERE else f"{meant}="
        raise ValueError(f"{name}= is not a parameter of a model; did you mean {hint}? Else {how}")
