"""What belongs to a call rather than to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.programs.adapters.chat import Repair
from dspex.programs.signature import Signature
from dspex.protocols.lm import Attempt, Message, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.scope import LMResult, RequestTotals, Scope

__all__ = ["Details", "details"]


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """
    The one call that made a prediction.

    Attributes:
        predictor: Where the predictor sits in its program (``answer.predict``); the signature's name elsewhere.
        messages: The prompt of the first turn.
        results: One per turn: the answer, and one more for each time the model was asked to correct itself.
        repairs: What it took to read the answer.
        completions: All readable answers when several were asked for; the prediction is the first.
        extras: Outputs that the prompt asked for and the prediction's class does not declare.
    """

    predictor: str
    messages: tuple[Message, ...] = field(repr=False)
    results: tuple[LMResult, ...] = field(repr=False)
    repairs: tuple[Repair, ...] = ()
    completions: tuple[Any, ...] = field(default=(), repr=False)  # records of the prediction's class
    extras: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _scope: Scope | None = field(default=None, repr=False)

    @property
    def reasoning(self) -> str:
        """
        The reasoning that ChainOfThought asked for.

        Raises:
            AttributeError: No reasoning was asked for, or the prediction declares the field itself.
        """
        try:
            reasoning: str = self.extras["reasoning"]
        except KeyError:
            raise AttributeError(f"{self.predictor} was not asked for reasoning; use ChainOfThought") from None
        return reasoning

    @property
    def lm(self) -> LM | LMPool:
        """The model that answered last."""
        return self.results[-1].lm

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every provider call of every turn, oldest first; none for an answer from the cache."""
        return tuple(attempt for result in self.results for attempt in result.attempts)

    @property
    def usage(self) -> Usage:
        """Tokens over all turns, as the provider counted them; those of cached answers were not paid again."""
        return sum((result.response.usage for result in self.results), Usage())

    @property
    def cached(self) -> str | None:
        """Where the answer came from when the provider was not asked: ``memory``, ``disk`` or ``coalesced``."""
        return self.results[-1].cached

    @property
    def duration(self) -> float:
        """Seconds over all turns, waiting and retries included."""
        return sum(result.duration for result in self.results)

    @property
    def request(self) -> RequestTotals:
        """
        The totals of the whole request: so far while it runs, final afterwards.

        Raises:
            AttributeError: The details were made without a request.
        """
        if self._scope is None:
            raise AttributeError("these details belong to no request")
        return self._scope.totals()

    def explain(self) -> str:
        """Return the story of the call: model, turns, attempts, repairs, and the conversation."""
        lines = [f"{self.predictor} asked {self.lm.model}: {self._cost_line()}"]
        for turn, result in enumerate(self.results, 1):
            lines += [f"  turn {turn}, {_source(result)}, {result.duration:.2f} s"]
            lines += [
                f"    attempt {each.number}: {each.outcome}" + (f" ({each.message})" if each.message else "")
                for each in result.attempts
            ]
        lines += [f"  repaired {each.field or 'the answer'} ({each.kind})" for each in self.repairs]
        for message in self.messages:
            lines += [f"  {message.role}:", *_indented(message.text)]
        for completion in self.results[-1].response.completions:
            lines += [f"  answer ({completion.finish_reason}):", *_indented(completion.text)]
        return "\n".join(lines)

    def _cost_line(self) -> str:
        usage, turns = self.usage, len(self.results)
        return (
            f"{turns} turn{'s' * (turns != 1)}, {usage.input_tokens} tokens in, "
            f"{usage.output_tokens} out, {self.duration:.2f} s"
        )


def _source(result: LMResult) -> str:
    if result.cached:
        return f"answered from the cache ({result.cached})"
    return f"{len(result.attempts)} provider call{'s' * (len(result.attempts) != 1)}"


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.split("\n")]


def details(prediction: object) -> Details:
    """
    Return what is known about the call that made a prediction.

    Raises:
        TypeError: It was made by hand, or is not a prediction.
    """
    if isinstance(prediction, Signature):
        found = getattr(prediction, "_details_", None)
        if isinstance(found, Details):
            return found
        raise TypeError(f"this {type(prediction).__name__} was not made by a predictor, so it has no details")
    raise TypeError(f"details() takes what a predictor returned, not a {type(prediction).__name__}")
