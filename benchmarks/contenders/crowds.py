"""Predictors with 1, 64, 256 and 1,000 calls in flight, and those who ask the same server by other means."""

from __future__ import annotations

from functools import partial
from typing import Any

import dspex
from benchmarks._contender import Run, Setup
from benchmarks.contenders.http import app_at, dspy_acall, in_flight, post, predict, prepared

__all__ = ["CROWDS", "stream_dspex", "stream_httpx"]

CROWDS = (1, 64, 256, 1_000)


async def _httpx(setup: Setup, at_once: int) -> Run:
    """httpx posts one prepared body and reads its JSON: what a script without a library does."""
    import httpx

    url, headers, body = prepared(setup.url)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = await setup.stack.enter_async_context(httpx.AsyncClient(limits=limits, timeout=60.0))

    async def call(_question: str) -> object:
        response = await client.post(url, headers=headers, content=body)
        return response.json()["choices"][0]["message"]["content"]

    return in_flight(call, at_once)


async def _openai(setup: Setup, at_once: int) -> Run:
    """OpenAI's own client, asked the same question in one message."""
    import openai  # type: ignore[import-not-found,unused-ignore]  # only where benchmarks run

    client: Any = openai.AsyncOpenAI(base_url=setup.url, api_key="benchmark")  # Any: no types, see above
    setup.stack.push_async_callback(client.close)

    async def call(question: str) -> object:
        messages = [{"role": "user", "content": question}]
        completion = await client.chat.completions.create(model="benchmark", messages=messages)
        return completion.choices[0].message.content

    return in_flight(call, at_once)


dspex_1, dspex_64, dspex_256, dspex_1000 = (partial(predict, parser="h11", at_once=each) for each in CROWDS)
bare_1, bare_64, bare_256, bare_1000 = (partial(post, parser="h11", at_once=each) for each in CROWDS)
dspy_1, dspy_64, dspy_256, dspy_1000 = (partial(dspy_acall, at_once=each) for each in CROWDS)
httpx_1, httpx_64, httpx_256, httpx_1000 = (partial(_httpx, at_once=each) for each in CROWDS)
openai_1, openai_64, openai_256, openai_1000 = (partial(_openai, at_once=each) for each in CROWDS)


def _streaming(setup: Setup) -> Setup:
    """Return the same setup at the address where answers are streamed."""
    return Setup(setup.url.removesuffix("/v1") + "/stream/v1", setup.stack)


async def stream_dspex(setup: Setup) -> Run:
    """An answer of 200 pieces through ``app.stream``, each piece read."""
    app = await app_at(_streaming(setup), "h11")
    predictor = dspex.Predict("question -> answer")

    async def run(operations: int) -> None:
        for number in range(operations):
            async with app.stream(predictor, question=f"the {number}th") as stream:
                async for _ in stream:
                    pass
                await stream.result()

    return run


async def stream_httpx(setup: Setup) -> Run:
    """httpx iterates over the lines of the same bytes, and looks into none of them."""
    import httpx

    url, headers, body = prepared(_streaming(setup).url)
    client = await setup.stack.enter_async_context(httpx.AsyncClient(timeout=60.0))

    async def run(operations: int) -> None:
        for _ in range(operations):
            async with client.stream("POST", url, headers=headers, content=body) as response:
                async for _ in response.aiter_lines():
                    pass

    return run
