"""A request's scope that answers from a script: programs under test need no App, no process and no network."""

from __future__ import annotations

import contextlib
import re
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dspex.programs import PredictorPaths, Program
from dspex.protocols.filters import Filter, fits
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import Attempt, Capabilities, Completion, LMDelta, LMRequest, LMResponse, Usage
from dspex.protocols.model import LM, LMChoice
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import DeltaSink, LMResult, OnDelta, RequestTotals, TraceStep, current_scope
from dspex.testing._forms import written

__all__ = ["Answer", "Asked", "ScriptedScope"]

R = TypeVar("R")

Answer = str | Mapping[str, object] | Sequence[str] | Exception
"""A completion's text, its fields by name, several completions, or the error to raise."""

Script = Sequence[Answer] | Mapping[str, Sequence[Answer]] | Callable[[LMRequest], Answer]
"""Answers in order; answers by predictor path; or a function of the request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a program made: which step, of which model, with which prompt."""

    step: str
    lm: LMChoice
    request: LMRequest


class ScriptedScope:
    """
    A ``Scope`` with scripted answers.

    For example::

        scope = ScriptedScope([{"answer": "Ada"}])
        prediction = await scope.run(RAG(), question="Who wrote it?")
        assert "Who wrote it?" in scope.asked[0].request.messages[-1].content

    Args:
        script: Answers in order, by predictor path, or as a function of the request.
        passages: The passages that every retrieval finds; at most ``k`` of them are returned.
        deps: The dependencies that tools are given.

    Attributes:
        asked: The calls to models, oldest first.
        queries: The retrievals, as (retriever, query, k).
        trace: The records of predictors.
        repairs: The reports of predictors to telemetry, as (signature, field, kind).
    """

    def __init__(self, script: Script = (), *, passages: Sequence[Passage] = (), deps: object = None) -> None:
        self._answer = script if callable(script) else None
        by_path = script if isinstance(script, Mapping) else {"": () if callable(script) else script}
        self._queues = {path: deque(answers) for path, answers in by_path.items()}
        self._passages = tuple(passages)
        self._deps = deps
        self._paths = PredictorPaths(None)
        self.asked: list[Asked] = []
        self.queries: list[tuple[str | None, str, int]] = []
        self.trace: list[TraceStep] = []
        self.repairs: list[tuple[str, str, str]] = []

    async def run(self, program: Program[..., R], **inputs: object) -> R:  # any program's inputs
        """
        Run ``program`` in this scope; paths in ``asked`` and ``trace`` are those of its predictors.

        Cancellation: the program is cancelled.
        """
        self._paths = PredictorPaths(program)
        with self.entered():
            return await program.forward(**inputs)

    @contextlib.contextmanager
    def entered(self) -> Iterator[ScriptedScope]:
        """Be the current scope inside the block."""
        token = current_scope.set(self)
        try:
            yield self
        finally:
            current_scope.reset(token)

    def path_of(self, predictor: object) -> str:
        """Return where a predictor sits in the program that runs; empty when there is none."""
        return self._paths.path_of(predictor)

    @property
    def telemetry(self) -> None:
        """Nobody is told."""
        return

    @property
    def stream(self) -> DeltaSink | None:
        """Nobody watches."""
        return None

    @property
    def adapter(self) -> object:  # an Adapter, as ``protocols.Scope`` has it
        """The default, where a predictor has none of its own."""
        return None

    @property
    def deps(self) -> object:
        """The dependencies that tools are given."""
        return self._deps

    @property
    def deadline(self) -> float:
        """A script has all the time there is."""
        return float("inf")

    async def embed(self, texts: Sequence[str], *, lm: LMChoice, step: str) -> tuple[array[float], ...]:
        """Answer with vectors made of the texts' letters: the same text, the same vector; likeness means little."""
        return tuple(
            array("f", [text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]) for text in texts
        )

    def capabilities(self, lm: LMChoice) -> Capabilities:
        """Say that the model only writes text."""
        return Capabilities()

    def effort(self, lm: LMChoice) -> str | None:
        """Return that of the record: a script does not think, whatever it is."""
        return lm.params.reasoning if isinstance(lm, LM) else None

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return nothing: a script knows its forms."""

    # --- Scope ------------------------------------------------------------------------------------------------

    async def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        """
        Answer from the script.

        Raises:
            LookupError: The script has no answer left for this step.
        Cancellation: nothing to undo.
        """
        self.asked.append(Asked(step, lm, request))
        answer = self._answer(request) if self._answer is not None else self._next(step)
        if isinstance(answer, Exception):
            raise answer
        many = [answer] if isinstance(answer, (str, Mapping)) else answer
        texts = [each if isinstance(each, str) else written(each, request) for each in many]
        name = lm if isinstance(lm, str) else "model"
        model = lm if isinstance(lm, LM) else LM(name if "/" in name else f"scripted/{name}")
        usage = Usage(sum(len(each.text.split()) for each in request.messages), sum(len(t.split()) for t in texts))
        if on_delta is not None:
            for index, text in enumerate(texts):
                for piece in re.findall(r"\S*\s*", text):
                    await on_delta(LMDelta(index, text=piece))
        response = LMResponse(tuple(Completion(text) for text in texts), usage, model.model_name)
        return LMResult(response, model, (Attempt(1, "ok", 0.0, 200),), None, 0.0)

    def _next(self, step: str) -> Answer:
        queue = self._queues.get(step, self._queues.get("", deque()))
        if not queue:
            raise LookupError(f"the script has no answer left for {step} (call {len(self.asked)})")
        return queue.popleft()

    async def retrieve(
        self, query: str, k: int, *, retriever: str | None, step: str, filter: Filter | None = None
    ) -> tuple[Passage, ...]:
        """Return the first ``k`` passages that the filter fits; cancellation: nothing to undo."""
        self.queries.append((retriever, query, k))
        return tuple(each for each in self._passages if fits(filter, each.metadata))[:k]

    async def call(
        self,
        step: str,
        work: Callable[[], Awaitable[R]],
        *,
        idempotent: bool,
        timeout: float | None,
    ) -> R:
        """Await ``work``; it is cancelled with its caller."""
        return await work()

    async def in_thread(self, function: Callable[[], R], label: str) -> R:
        """Call ``function`` here and now; nothing to cancel."""
        return function()

    def record(self, predictor: object, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        """Add to ``trace``."""
        self.trace.append(TraceStep(self.path_of(predictor), dict(inputs), dict(outputs)))

    def note_repair(self, signature: str, field: str, kind: str) -> None:
        """Add to ``repairs``."""
        self.repairs.append((signature, field, kind))

    def reject(self, result: LMResult) -> None:
        """Nothing is cached here."""

    def totals(self) -> RequestTotals:
        """Count the calls so far; tokens are counted by white space."""
        attempts = tuple(Attempt(number, "ok", 0.0, 200) for number in range(1, len(self.asked) + 1))
        return RequestTotals("scripted", Usage(), len(self.asked), 0, attempts, 0, 0, 0.0)
