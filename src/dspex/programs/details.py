"""The facts that belong to a call rather than to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from dspex.programs.adapters._adapter import Repair
from dspex.programs.fields import AnyRecord
from dspex.programs.signature import Signature
from dspex.programs.tools.trajectory import Trajectory
from dspex.protocols.content import Citation, MediaPart, Part, ReasoningPart, TextPart, ToolCall
from dspex.protocols.lm import Attempt, Completion, Message, ToolSpec, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.printable import printable
from dspex.protocols.scope import LMResult, RequestTotals, Scope
from dspex.telemetry import Span

__all__ = ["AskedTurn", "Details", "details", "tell_call"]


@dataclass(frozen=True, slots=True)
class AskedTurn:
    """
    How one turn asked, and why it was made.

    Attributes:
        form: The adapter's name.
        enforced: The form that the server was asked to hold the answer to; empty where it was free.
        why: The kind of the repair that it was; empty for the first, unless the form is another one than the adapter's.
    """

    form: str
    enforced: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """The turn's form, for people."""
        return f"as {self.form}" + (f", enforced: {self.enforced}" if self.enforced else "")


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """
    The one call that made a prediction.

    Attributes:
        predictor: Where the predictor sits in its program (``answer.predict``); the signature's name elsewhere.
        messages: The prompt of the first turn.
        results: One per turn: the answer, and one more for each time the model was asked to correct itself.
        repairs: The repairs that reading the answer took.
        completions: All readable answers when several were asked for; the prediction is the first.
        extras: Outputs that the prompt asked for and the prediction's class does not declare.
        completion: The model's answer that the prediction was read from.
        tools: The tools that the model was given.
        trajectory: The steps of an agent before this call, its last; None for every other call.
        prompts: The prompt of each turn, where there was more than one.
        turns: The form of each turn, and why it was made.
    """

    predictor: str
    messages: tuple[Message, ...] = field(repr=False)
    results: tuple[LMResult, ...] = field(repr=False)
    repairs: tuple[Repair, ...] = ()
    completions: tuple[AnyRecord, ...] = field(default=(), repr=False)  # records of the prediction's class
    extras: Mapping[str, object] = field(default_factory=dict, repr=False)
    completion: Completion | None = field(default=None, repr=False)
    tools: tuple[ToolSpec, ...] = field(default=(), repr=False)
    _scope: Scope | None = field(default=None, repr=False)
    trajectory: Trajectory | None = field(default=None, repr=False)
    prompts: tuple[tuple[Message, ...], ...] = field(default=(), repr=False)
    turns: tuple[AskedTurn, ...] = field(default=(), repr=False)

    @property
    def reasoning(self) -> str:
        """
        The reasoning that ChainOfThought asked for; else what the model thought by itself, as far as it is told.

        Raises:
            AttributeError: There is none, or the prediction declares the field itself.
        """
        if "reasoning" in self.extras:
            return str(self.extras["reasoning"])
        own = self.completion.reasoning if self.completion is not None else ()
        if not own:
            raise AttributeError(f"{self.predictor} was not asked for reasoning; use ChainOfThought")
        return "\n\n".join(each.text for each in own if each.text)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources that the provider names for the answer; none where it names none."""
        return self.completion.citations if self.completion is not None else ()

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
        """
        Tokens over all turns, as the provider counted them: answers, and attempts that it charged without giving one.

        Those of cached answers were not paid again.
        """
        answers = sum((result.response.usage for result in self.results), Usage())
        return sum((each.usage for each in self.attempts if each.usage is not None), answers)

    @property
    def cached(self) -> str | None:
        """Where an answer came from that no provider gave now: ``memory``, ``disk``, ``shared`` or ``coalesced``."""
        return self.results[-1].cached

    @property
    def duration(self) -> float:
        """Seconds over all turns, waiting and retries included."""
        return sum(result.duration for result in self.results)

    @property
    def cost(self) -> Decimal | None:
        """US dollars for the tokens of ``usage``; None where a model's price is unknown, 0 where a cache answered."""
        costs = [result.cost for result in self.results]
        return sum((cost for cost in costs if cost is not None), Decimal(0)) if None not in costs else None

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
            asked = self.turns[turn - 1] if turn <= len(self.turns) else None
            said = f", {asked.words}" if asked is not None else ""
            lines += [f"  turn {turn}{said}, {_source(result)}, {result.duration:.2f} s"]
            if asked is not None and asked.why:
                lines += [f"    {_TURNS.get(asked.why, asked.why)}"]
            lines += [
                f"    attempt {each.number}: {each.outcome}" + (f" ({each.message})" if each.message else "")
                for each in result.attempts
            ]
        for each in self.repairs:
            said = _TURNS.get(each.kind, f"repaired {each.field or 'the answer'}")
            lines.append(f"  {said} ({each.kind})")
        lines += [f"  tool {each.name}: {each.description}" for each in self.tools]
        shown: tuple[Message, ...] = ()
        prompts = self.prompts or (self.messages,)
        spoken: list[str] = []
        for turn, (prompt, result) in enumerate(zip(prompts, self.results[-len(prompts) :], strict=True), 1):
            same = next((at for at, (x, y) in enumerate(zip(shown, prompt, strict=False)) if x is not y), len(shown))
            told = [(message.role, _indented(_shown(message))) for message in prompt[same:]]
            lines += [line for role, text in told if text != spoken for line in (f"  {role}:", *text)]
            which = "answer" if turn == len(prompts) else f"answer of turn {turn}, not taken"
            for completion in result.response.completions:
                native = completion.native_reason
                end = completion.finish_reason + (f", natively {native}" if native else "")
                spoken = _indented(_shown(completion.turn()))
                lines += [f"  {which} ({end}):", *spoken]
            shown = prompt
        return "\n".join(lines)

    def _cost_line(self) -> str:
        usage, turns, cost = self.usage, len(self.results), self.cost
        counted = " (estimated)" if usage.estimated_tokens else ""
        price = ", price unknown" if cost is None else f", {cost:.6f} USD" if cost else ""
        return (
            f"{turns} turn{'s' * (turns != 1)}, {usage.input_tokens} tokens in, "
            f"{usage.output_tokens} out{counted}, {self.duration:.2f} s{price}"
        )


_TURNS: Mapping[str, str] = {
    "turn": "asked again, for the answer could not be read",
    "values": "asked for the values behind the thoughts",
    "fallback": "asked afresh in another format",
    "allowance": "asked again with more tokens, for the answer was cut off",
    "rest": "asked to go on with the answer that was cut off",
    "pause": "let it go on after a pause",
    "reset": "started again, for the stream broke off",
}
"""The repairs that are a turn of their own, and why it was made."""


def _source(result: LMResult) -> str:
    if result.cached:
        return f"answered from the cache ({result.cached})"
    return f"{len(result.attempts)} provider call{'s' * (len(result.attempts) != 1)}"


def _shown(message: Message) -> str:
    """Return a turn as text, with a line for each part that is none."""
    content = message.content
    return content if isinstance(content, str) else "\n".join(map(_shown_part, content))


def _shown_part(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ReasoningPart):
        return f"(reasoning: {part.text or 'kept by the provider'})"
    if isinstance(part, ToolCall):
        return f"(calls {part.name}: {part.raw or dict(part.arguments or {})})"
    if isinstance(part, MediaPart):
        size = part.url if part.data is None else f"{len(part.data):,} bytes"
        return f"({type(part).__name__.removesuffix('Part').lower()}: {part.media_type} {size})"
    return f"(result of {part.name}: {part.content})"


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in printable(text, keep="\n\t").split("\n")]


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


def tell_call(span: Span, made: Details) -> None:
    """Add to a predictor's span what the call took: tokens, cost and the model."""
    usage, cost = made.usage, made.cost
    span.measurements |= usage.counts()
    if cost is not None:
        span.measurements["cost"] = float(cost)
    span.metadata |= {"lm": getattr(made.lm, "model", made.lm), "cached": made.cached}
