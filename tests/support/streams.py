"""A scope that somebody watches: what predictors put, and answers that come in pieces or break off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import Attempt, Capabilities, Completion, LMDelta, LMRequest, LMResponse, Usage
from dspex.protocols.model import LM, LMChoice
from dspex.protocols.scope import Delta, DeltaSink, LMResult, OnDelta, Reset
from dspex.testing.scripted import ScriptedScope

__all__ = ["Broken", "Sink", "WatchedScope"]


class Broken:
    """An answer that ends in an error after these pieces."""

    def __init__(self, error: Exception, *pieces: str) -> None:
        self.error = error
        self.pieces = pieces


class Sink:
    """Keeps what it is given."""

    def __init__(self, on_interrupt: Literal["raise", "reset"] = "raise") -> None:
        self._on_interrupt = on_interrupt
        self.seen: list[Delta | Reset] = []

    @property
    def on_interrupt(self) -> Literal["raise", "reset"]:
        return self._on_interrupt

    async def put(self, delta: Delta | Reset) -> None:
        self.seen.append(delta)

    def text(self, field: str) -> str:
        """Return what came of a field since the last reset."""
        resets = [at for at, each in enumerate(self.seen) if isinstance(each, Reset)]
        current = self.seen[resets[-1] + 1 if resets else 0 :]
        return "".join(each.text for each in current if isinstance(each, Delta) and each.field == field)


class WatchedScope(ScriptedScope):
    """
    Answers with whole Completions, or streams them; ``able`` is what the model can do.

    Args:
        answers: Completions, texts, or Broken ones, in order.
        sink: Who watches; None for nobody.
        able: The model's capabilities.
        cut: Cuts an answer's text into pieces; None for an answer from a cache, which comes whole.
        more: Further answers to every request, where several are asked for.
    """

    def __init__(
        self,
        answers: Sequence[Completion | str | Broken],
        *,
        sink: Sink | None = None,
        able: Capabilities | None = None,
        cut: Callable[[str], Sequence[str]] | None = list,
        more: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._more = tuple(map(Completion, more))
        self._answers = list(answers)
        self._sink = sink
        self._able = able or Capabilities()
        self._cut = cut
        self.requests: list[LMRequest] = []

    @property
    def stream(self) -> DeltaSink | None:
        return self._sink

    def forms(self, lm: LMChoice) -> FormMemory | None:
        return None

    def capabilities(self, lm: LMChoice) -> Capabilities:
        return self._able

    async def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Broken):
            for piece in answer.pieces:
                if on_delta is not None:
                    await on_delta(LMDelta(text=piece))
            raise answer.error
        completion = Completion(answer) if isinstance(answer, str) else answer
        if on_delta is not None and self._cut is not None:
            await self._send(completion, on_delta)
        response = LMResponse((completion, *self._more), Usage(1, 1), "model")
        return LMResult(response, LM("scripted/model"), (Attempt(1, "ok", 0.0, 200),), None, 0.0)

    async def _send(self, completion: Completion, on_delta: OnDelta) -> Any:
        cut = self._cut or list
        for thought in completion.reasoning:
            for piece in cut(thought.text):
                await on_delta(LMDelta(reasoning=piece))
        for piece in cut(completion.text):
            await on_delta(LMDelta(text=piece))
        for at, call in enumerate(completion.tool_calls):
            await on_delta(LMDelta(tool=at, tool_name=call.name))
            for piece in cut(call.raw):
                await on_delta(LMDelta(tool=at, arguments=piece))
