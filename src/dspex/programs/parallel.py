"""Many programs, or one on many inputs, inside one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from dspex.programs._attempts import side_by_side
from dspex.programs.inputs import bind_inputs
from dspex.programs.module import Module, Program
from dspex.protocols.executor import Failed, Ok

__all__ = ["Parallel"]

Pair = tuple[Program[..., object], Mapping[str, object]]
"""A program and its inputs by name."""


class Parallel(Module):
    """
    Run pairs of a program and its inputs at once, and return how each ended, in their order.

    It is for use inside ``forward``; for rows from outside there is ``app.map``.

    Args:
        max_concurrency: Runs at once.

    Raises:
        ValueError: ``max_concurrency`` is below 1.
    """

    def __init__(self, max_concurrency: int = 32) -> None:
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency={max_concurrency} must be at least 1")
        self.max_concurrency = max_concurrency

    async def forward(self, pairs: Sequence[Pair]) -> list[Ok | Failed]:
        """
        Return an ``Ok`` or a ``Failed`` for each pair.

        Raises:
            MissingInput: A pair lacks inputs, or has unknown ones; nothing was run.
        Cancellation: every run is cancelled.
        """
        bound = [(program, bind_inputs(program, (), inputs)) for program, inputs in pairs]

        def call(program: Program[..., object], inputs: Mapping[str, object]) -> Callable[[], Awaitable[object]]:
            return lambda: program.forward(**inputs)

        outcomes = await side_by_side(
            [call(program, inputs) for program, inputs in bound], max_concurrency=self.max_concurrency
        )
        return [_with_row(outcome, inputs) for outcome, (_, inputs) in zip(outcomes, bound, strict=True)]


def _with_row(outcome: Ok | Failed, inputs: Mapping[str, object]) -> Ok | Failed:
    return Ok(outcome.value, inputs) if isinstance(outcome, Ok) else Failed(outcome.reason, inputs)
