"""Predictors against the chat-completions server, ours and DSPy's, and the transports beneath ours."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import dspex
from benchmarks._contender import Run, Setup
from dspex._clock import LoopClock
from dspex.app import _tree
from dspex.programs.adapters.chat import ChatAdapter
from dspex.protocols.lm import LMRequest
from dspex.services.lm._parsers import ParserName
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.providers import resolve_endpoint
from dspex.services.lm.transport import open_transport

__all__ = [
    "IN_FLIGHT",
    "app_at",
    "dspy_acall",
    "dspy_cached",
    "in_flight",
    "post",
    "post_core",
    "post_fast",
    "predict",
    "predict_cached",
    "predict_core",
    "predict_fast",
    "prepared",
]

IN_FLIGHT = 256
QUESTION = "What is the capital of France? (asked for the {}th time)"
MODEL = "openai/benchmark"


def in_flight(call: Callable[[str], Awaitable[object]], at_once: int = IN_FLIGHT) -> Run:
    """Return what makes so many calls, each with a question of its own, ``at_once`` of them at a time."""
    numbers = itertools.count()

    async def run(operations: int) -> None:
        left = iter(range(operations))

        async def caller() -> None:
            for _ in left:
                await call(QUESTION.format(next(numbers)))

        await asyncio.gather(*(caller() for _ in range(min(at_once, operations))))

    return run


# --- dspex --------------------------------------------------------------------------------------------------


async def app_at(setup: Setup, parser: ParserName, *, cache: str | None = None, at_once: int = IN_FLIGHT) -> dspex.App:
    """Return a running App that reads the server's answers with this parser."""
    # An App takes httptools where it is installed, as it is here; the core's parser has to be forced on it.
    _tree.open_transport = functools.partial(open_transport, parser=parser)
    lm = dspex.LM(MODEL, api_base=setup.url, api_key="benchmark")
    return await setup.stack.enter_async_context(
        dspex.App(lm=lm, adapter="chat", cache=cache, limits=ClientLimits(max_in_flight=at_once))
    )


async def predict(setup: Setup, parser: ParserName, at_once: int = IN_FLIGHT) -> Run:
    """Predict, each call a request of its own."""
    app = await app_at(setup, parser, at_once=at_once)
    program = dspex.Predict("question -> answer")

    async def call(question: str) -> object:
        prediction = await app.run(program, question=question)
        return prediction.answer

    return in_flight(call, at_once)


async def predict_fast(setup: Setup) -> Run:
    """Predict with the parser of the extra ``fast``, each call a request of its own."""
    return await predict(setup, "httptools")


async def predict_core(setup: Setup) -> Run:
    """Predict with the parser of the core dependencies."""
    return await predict(setup, "h11")


async def predict_cached(setup: Setup) -> Run:
    """The same question again and again, answered from memory, each call a request of its own."""
    app = await app_at(setup, "httptools", cache="memory")
    program = dspex.Predict("question -> answer")

    async def run(operations: int) -> None:
        for _ in range(operations):
            await app.run(program, question=QUESTION)

    return run


def prepared(url: str) -> tuple[str, dict[str, str], bytes]:
    """Return address, headers and body of one call, as Predict makes them."""
    lm = dspex.LM(MODEL, api_base=url, api_key="benchmark")
    endpoint = resolve_endpoint(lm)
    signature = dspex.Signature.from_string("question -> answer")
    body = endpoint.wire.encode(lm.model_name, LMRequest(ChatAdapter().format(signature, {"question": QUESTION})))
    headers = endpoint.wire.headers(lm.api_key, idempotency_key="r1-1", attempt=1)
    return endpoint.url(lm.model_name), headers, body


async def post(setup: Setup, parser: ParserName, at_once: int = IN_FLIGHT) -> Run:
    """A transport alone, posting one prepared body."""
    transport = open_transport(parser=parser, clock=LoopClock(asyncio.get_running_loop()))
    setup.stack.push_async_callback(transport.aclose)
    url, headers, body = prepared(setup.url)

    async def call(_question: str) -> object:
        return await transport.post(url, headers, body)

    return in_flight(call, at_once)


async def post_fast(setup: Setup) -> Run:
    """The transport alone with the parser of the extra ``fast``, posting one prepared body."""
    return await post(setup, "httptools")


async def post_core(setup: Setup) -> Run:
    """The transport alone with the core's parser, posting one prepared body."""
    return await post(setup, "h11")


# --- DSPy ---------------------------------------------------------------------------------------------------


def _dspy_predict(setup: Setup, *, cache: bool) -> Any:  # a dspy.Predict, from a package without types
    import dspy

    dspy.configure(lm=dspy.LM(MODEL, api_base=setup.url, api_key="benchmark", cache=cache))
    return dspy.Predict("question -> answer")


async def dspy_acall(setup: Setup, at_once: int = IN_FLIGHT) -> Run:
    """DSPy's Predict with its caches off and everything else as it comes."""
    predict = _dspy_predict(setup, cache=False)

    async def call(question: str) -> object:
        prediction = await predict.acall(question=question)
        return prediction.answer

    return in_flight(call, at_once)


async def dspy_cached(setup: Setup) -> Run:
    """DSPy's Predict with its caches as they come (memory before disk), the same question again and again."""
    predict = _dspy_predict(setup, cache=True)

    async def run(operations: int) -> None:
        for _ in range(operations):
            await predict.acall(question=QUESTION)

    return run
