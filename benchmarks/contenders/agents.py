"""Agents in loops of five steps, each with a tool of 10 ms: ours and DSPy's, on the same server and the same text."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import dspex
from benchmarks._contender import Run, Setup
from dspex.app import _tree
from dspex.services.lm.transport import open_transport

__all__ = ["dspy_react", "dspy_react_blocking", "react", "react_blocking"]

IN_FLIGHT = 100
STEPS = 5
TOOL = 0.010
MODEL = "openai/benchmark"
QUESTION = "What is the capital of France? (asked for the {}th time)"


async def look_up(query: str) -> str:
    """Look something up."""
    await asyncio.sleep(TOOL)
    return f"a page on {query}"


def look_up_blocking(query: str) -> str:
    """Look something up."""
    time.sleep(TOOL)
    return f"a page on {query}"


def _loops(ask: Callable[[str], Awaitable[object]]) -> Run:
    """Return what runs so many agents to their answers, IN_FLIGHT of them at a time."""
    numbers = itertools.count()

    async def run(operations: int) -> None:
        left = iter(range(operations))

        async def caller() -> None:
            for _ in left:
                await ask(QUESTION.format(next(numbers)))

        await asyncio.gather(*(caller() for _ in range(min(IN_FLIGHT, operations))))

    return run


def _agent_url(setup: Setup) -> str:
    return setup.url.replace("/v1", "/agent/v1")


async def _ours(setup: Setup, tool: Callable[..., Any]) -> Run:
    # An App takes the fast transport where it is installed, as it is here; DSPy's is compared with the core one.
    _tree.open_transport = functools.partial(open_transport, "slots")
    lm = dspex.LM(MODEL, api_base=_agent_url(setup), api_key="benchmark", capabilities={"tools": False})
    app = await setup.stack.enter_async_context(dspex.App(lm=lm, adapter="chat", cache=None))
    agent = dspex.ReAct("question -> answer", [dspex.tool(tool, name="look_up")], max_steps=STEPS)

    async def ask(question: str) -> object:
        return (await app.run(agent, question=question)).answer

    return _loops(ask)


async def react(setup: Setup) -> Run:
    """ReAct with an async tool, each agent a request of its own."""
    return await _ours(setup, look_up)


async def react_blocking(setup: Setup) -> Run:
    """ReAct with a tool that blocks."""
    return await _ours(setup, look_up_blocking)


async def _dspys(setup: Setup, tool: Callable[..., Any]) -> Run:
    import dspy

    dspy.configure(lm=dspy.LM(MODEL, api_base=_agent_url(setup), api_key="benchmark", cache=False))
    agent = dspy.ReAct("question -> answer", tools=[dspy.Tool(tool, name="look_up")], max_iters=STEPS)

    async def ask(question: str) -> object:
        return (await agent.acall(question=question)).answer

    return _loops(ask)


async def dspy_react(setup: Setup) -> Run:
    """DSPy's ReAct with the same async tool, its caches off and everything else as it comes."""
    return await _dspys(setup, look_up)


async def dspy_react_blocking(setup: Setup) -> Run:
    """DSPy's ReAct with the same tool that blocks."""
    return await _dspys(setup, look_up_blocking)
