"""Predictors above a transport without a network: all that is left is the library's own work."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import dspex
from benchmarks._contender import Run, Setup
from benchmarks._server import RESPONSE
from benchmarks.contenders.http import MODEL, in_flight
from dspex.app import _tree
from dspex.services.lm._http import HttpReply
from dspex.services.lm.limits import ClientLimits

__all__ = ["AT_ONCE", "predict", "transport"]

AT_ONCE = 64


class _Nothing:
    """A transport without a network: each request is answered in the next turn of the loop."""

    needs_key = True
    open_connections = 0
    stale_retries = 0

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: object = None,
        on_resend: object = None,
        on_begin: Callable[[Mapping[str, str]], object] | None = None,
    ) -> HttpReply:
        await asyncio.sleep(0)
        reply = self._reply
        if on_begin is not None:
            on_begin(reply.headers)
        return reply

    async def aclose(self) -> None:
        """Close nothing."""


async def _app(setup: Setup) -> dspex.App:
    """Return a running App whose transport answers at once, without a network."""
    head, _, body = RESPONSE.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    nothing = _Nothing(HttpReply(200, headers, body))
    before, _tree.open_transport = _tree.open_transport, functools.partial(_give, nothing)
    try:
        lm = dspex.LM(MODEL, api_base="http://127.0.0.1:9/v1", api_key="benchmark")
        return await setup.stack.enter_async_context(
            dspex.App(lm=lm, adapter="chat", cache=None, limits=ClientLimits(max_in_flight=AT_ONCE))
        )
    finally:
        _tree.open_transport = before


def _give(nothing: _Nothing, **_: object) -> Any:
    return nothing


async def predict(setup: Setup) -> Run:
    """Predict, each call a request of its own, answered in the next turn of the loop."""
    app = await _app(setup)
    program = dspex.Predict("question -> answer")

    async def call(question: str) -> object:
        prediction = await app.run(program, question=question)
        return prediction.answer

    return in_flight(call, AT_ONCE)


async def transport(setup: Setup) -> Run:  # noqa: ARG001
    """The null transport alone: a turn of the loop."""

    async def call(_question: str) -> object:
        return await asyncio.sleep(0)

    return in_flight(call, AT_ONCE)
