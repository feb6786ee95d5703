"""The effect of a kill under a tool: a repeatable call is repeated, any other is told and never run twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dspex
from dspex.errors import StepCrashed
from dspex.testing import ScriptedLM
from tests.support.programs import living, until

SCRIPT: dict[str, list[Any]] = {
    "react": [{"tool": "pay", "arguments": {"amount": 3}}, {"tool": "finish", "arguments": {}}],
    "extract": [{"reasoning": "r", "answer": "done"}],
}


def nothing() -> None:
    """Release nothing."""


async def killed_once(
    pay: dspex.Tool[..., Any], begun: Callable[[], object], release: Callable[[], None] = nothing
) -> dspex.Trajectory:
    """Run an agent whose tool's step is killed when ``begun`` says so; ``release`` what hangs before the App closes."""
    async with dspex.App(lm=ScriptedLM(SCRIPT)) as app:
        request = app.start(dspex.ReAct("question -> answer", [pay]), question="Pay?")
        await until(begun, "the tool")
        [step] = living(app.runtime, "tool pay")
        step.ref.kill()
        prediction = await request
        release()
        assert prediction.answer == "done"
        trajectory = dspex.details(prediction).trajectory
        assert trajectory is not None
        return trajectory


@pytest.mark.parametrize("blocking", [False, True])
async def test_tool_that_may_not_be_repeated_is_called_once_and_its_crash_observed(blocking: bool) -> None:
    """The model is told that the step died; whether it was paid, nobody knows."""
    calls: list[float] = []
    gate = threading.Event()

    async def pay(amount: float) -> str:
        calls.append(amount)
        await asyncio.get_running_loop().create_future()
        return "paid"

    def pay_blocking(amount: float) -> str:
        calls.append(amount)
        gate.wait(10)
        return "paid"

    tool = dspex.tool(pay_blocking if blocking else pay, name="pay")
    trajectory = await killed_once(tool, lambda: calls, gate.set)

    assert calls == [3]
    assert isinstance(trajectory[0].observation.error, StepCrashed)


@pytest.mark.parametrize("blocking", [False, True])
async def test_idempotent_tool_is_called_again(blocking: bool) -> None:
    """Its first call is void, also when it ends later in its thread."""
    calls: list[float] = []
    gate = threading.Event()

    async def pay(amount: float) -> str:
        calls.append(amount)
        if len(calls) == 1:
            await asyncio.get_running_loop().create_future()
        return f"paid in call {len(calls)}"

    def pay_blocking(amount: float) -> str:
        calls.append(amount)
        if len(calls) == 1:
            gate.wait(10)
            return "void"
        gate.set()
        return f"paid in call {len(calls)}"

    tool = dspex.tool(pay_blocking if blocking else pay, name="pay", idempotent=True)
    trajectory = await killed_once(tool, lambda: calls)

    assert calls == [3, 3]
    assert trajectory[0].observation.text == "paid in call 2"


async def test_killed_owner_of_the_threads_is_a_crash_of_their_steps_only() -> None:
    """The agent goes on, and the next blocking tool has a new thread."""
    gate, inside = threading.Event(), threading.Event()

    def pay(amount: float) -> str:
        inside.set()
        gate.wait(10)
        return "paid"

    def look() -> str:
        gate.set()
        return "looked"

    script = {**SCRIPT, "react": [SCRIPT["react"][0], {"tool": "look", "arguments": {}}, SCRIPT["react"][1]]}
    async with dspex.App(lm=ScriptedLM(script)) as app:
        request = app.start(dspex.ReAct("question -> answer", [pay, look]), question="Pay?")
        await until(inside.is_set, "the tool")
        owner = app.runtime.whereis("tool threads")
        assert owner is not None
        owner.kill()
        trajectory = dspex.details(await request).trajectory
        await until(lambda: not app.runtime.zombies, "the thread that was left to itself")

    assert trajectory is not None
    assert [type(each.observation.error) for each in trajectory] == [StepCrashed, type(None), type(None)]
    assert trajectory[1].observation.text == "looked"
