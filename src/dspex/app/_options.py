"""A frozen view of an App with other options for what runs through it."""

from __future__ import annotations

import difflib
from contextvars import Context, copy_context
from dataclasses import replace
from typing import Any, Literal, TypedDict, cast

from dspex.errors import ConfigError
from dspex.programs import AdapterChoice, choose_adapter
from dspex.protocols.cache import CacheMode
from dspex.protocols.executor import RunOptions
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.money import Budget
from dspex.protocols.scope import current_scope

__all__ = ["Options", "changed", "context_of_caller"]


class Options(TypedDict, total=False):
    """Keyword arguments of ``app.options``; see there."""

    deadline: float
    lm: LMChoice
    adapter: AdapterChoice
    cache: CacheMode
    priority: int
    budget: Budget | None
    deps: object
    on_interrupt: Literal["raise", "reset"]
    learn_forms: bool
    trace: bool


_INTERNAL = ("stream", "paying_account", "dry", "context")
"""Options that only the App sets."""


def changed(options: RunOptions, changes: Options) -> RunOptions:
    """
    Return ``options`` with ``changes``.

    Raises:
        ConfigError: An option is unknown or its value makes no sense.
    """
    known = [name for name in RunOptions.__dataclass_fields__ if name not in _INTERNAL]
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? There" if close else "there"
            raise ConfigError(f"unknown option {name!r}; {hint} are {', '.join(known)}")
    merged = replace(options, **cast("dict[str, Any]", changes))  # checked below, one by one
    if "adapter" in changes:
        try:
            merged = replace(merged, adapter=choose_adapter(changes["adapter"]))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if not isinstance(merged.deadline, (int, float)) or not merged.deadline > 0:
        raise ConfigError(f"deadline={merged.deadline!r} must be a positive number of seconds")
    if not (merged.lm is None or isinstance(merged.lm, (str, LM, LMPool))):
        raise ConfigError(f"lm={merged.lm!r} must be a name, an LM or an LMPool")
    if not isinstance(merged.priority, int):
        raise ConfigError(f"priority={merged.priority!r} must be a whole number; lower ones go first")
    if not isinstance(merged.learn_forms, bool):
        raise ConfigError(f"learn_forms={merged.learn_forms!r} must be True or False")
    if merged.budget is not None and not isinstance(merged.budget, Budget):
        raise ConfigError(f"budget={merged.budget!r} must be a Budget, such as Budget(usd=0.50)")
    if merged.budget is not None and merged.budget.per is not None:
        raise ConfigError(
            f"a budget per {merged.budget.per} is an App's: App(budget=Budget(…, per={merged.budget.per!r}))"
        )
    if merged.on_interrupt not in ("raise", "reset"):
        raise ConfigError(f"on_interrupt={merged.on_interrupt!r} must be 'raise' or 'reset'")
    if merged.cache not in ("use", "refresh", "bypass", "only"):
        raise ConfigError(f"cache={merged.cache!r} must be 'use', 'refresh', 'bypass' or 'only'")
    return merged


def context_of_caller() -> Context:
    """Return the caller's context variables for work that may outlive its request: the request's scope is left out."""
    context = copy_context()
    if current_scope.get(None) is not None:
        context.run(current_scope.set, None)  # type: ignore[arg-type]  # a variable cannot be unset in a copy
    return context
