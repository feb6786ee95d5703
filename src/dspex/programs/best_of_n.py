"""The best of several answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, NamedTuple

from typing_extensions import ParamSpec, TypeVar

from dspex.programs._attempts import Judged, Reward, judge, rollout, side_by_side
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.module import Module, Program
from dspex.protocols.executor import Failed, Ok

__all__ = ["BestOfN"]

R = TypeVar("R")
P = ParamSpec("P", default=...)


class _JudgedAnswer(NamedTuple, Generic[R]):
    answer: R
    judged: Judged


class BestOfN(Module, Generic[R, P]):
    """
    Run a program several times at once and return the answer with the highest reward.

    The first run is the program as it is; the others sample at ``temperature`` with seeds of their own. With
    ``threshold``, the first run in order that reaches it is the answer, and the runs after it are cancelled: the same
    inputs give the same choice, whoever was faster. Runs that raise take no part; when all do, the first error is
    raised.

    Args:
        program: The program to run.
        n: The number of runs.
        reward: ``reward(inputs, answer)``: a number, a bool or a Score; sync or async.
        threshold: A reward that is good enough; None always runs all.
        temperature: Of all runs but the first.
        max_concurrency: Runs at once; None is ``n``.

    Raises:
        ValueError: ``n`` or ``max_concurrency`` is below 1.
    """

    program: Program[P, R]

    def __init__(
        self,
        program: Program[P, R],
        n: int,
        reward: Reward[R],
        *,
        threshold: float | None = None,
        temperature: float = 1.0,
        max_concurrency: int | None = None,
    ) -> None:
        if n < 1 or (max_concurrency is not None and max_concurrency < 1):
            raise ValueError(f"n={n} and max_concurrency={max_concurrency} must be at least 1")
        self.program = program
        self.n = n
        self.reward = reward
        self.threshold = threshold
        self.temperature = temperature
        self.max_concurrency = max_concurrency or n

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Return the best answer.

        Raises:
            TypeError: The reward returned no number.
            Exception: The exception of the first run, when all failed.
        Cancellation: every run is cancelled.
        """
        inputs = bind_inputs(self.program, args, kwargs)
        outcomes = await side_by_side(
            [self._attempt(number, inputs) for number in range(self.n)],
            max_concurrency=self.max_concurrency,
            enough=self._is_enough if self.threshold is not None else None,
        )
        found = [each.value for each in outcomes if isinstance(each, Ok)]
        if not found:
            raise next(each.reason for each in outcomes if isinstance(each, Failed))
        return max(found, key=lambda attempt: attempt.judged.value).answer  # the first of equals

    def _attempt(self, number: int, inputs: Mapping[str, object]) -> Callable[[], Awaitable[_JudgedAnswer[R]]]:
        async def attempt() -> _JudgedAnswer[R]:
            answer = await rollout(self.program, number, self.temperature).forward(**inputs)
            return _JudgedAnswer(answer, await judge(self.reward, inputs, answer))

        return attempt

    def _is_enough(self, attempt: _JudgedAnswer[R]) -> bool:
        return self.threshold is not None and attempt.judged.value >= self.threshold

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.program)
