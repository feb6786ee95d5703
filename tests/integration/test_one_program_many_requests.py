"""Programs are values: one object serves any number of requests at the same time, and none sees another's."""

from __future__ import annotations

import asyncio

import dspex
from dspex.simulator import Simulator


class Chain(dspex.Module):
    """Two predictors, a module inside, and demonstrations: everything that could hold state."""

    def __init__(self) -> None:
        demos = [{"question": "echo none", "answer": "none"}]
        self.first = dspex.Predict("question -> answer", demos=demos)
        self.second = dspex.ChainOfThought("question -> answer")

    async def forward(self, question: str) -> tuple[str, str, str]:
        first = await self.first(question=question)
        second = await self.second.with_config(seed=len(question))(question=f"{question} again")
        return question, first.question, second.question


async def test_a_thousand_requests_share_one_program_and_nothing_else() -> None:
    """Each request's answers are to its own question; the program is what it was."""
    program = Chain()
    before = program.dump_state()
    async with Simulator() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        async with dspex.App(lm, deadline=60) as app:
            requests = [app.start(program, question=f"echo {number}") for number in range(1_000)]
            answers = await asyncio.gather(*requests)

            assert answers == [(f"echo {n}", f"echo {n}", f"echo {n} again") for n in range(1_000)]
            assert {request.details.calls for request in requests} == {2}
            assert len({request.id for request in requests}) == 1_000
            assert app.health()["running"] == 0
        assert simulator.requests["ok"] == 2_000
    assert program.dump_state() == before
