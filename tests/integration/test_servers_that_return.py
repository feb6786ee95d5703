"""A server that was restarted is found soon, by those who wait for it and by those who come: real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

import dspex
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from tests.support.programs import collect, until
from tests.support.streaming import Talk

ASK = dspex.Predict("question -> answer")
TEXT = "yes"
ANSWER = json.dumps({"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}).encode()
LOADING = b'{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}'
PIECE = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


class ModelServer:
    """Turns requests away while its model is loading; streams stop after their first piece until they are let go."""

    def __init__(self) -> None:
        self.is_loading = True
        self.is_hung = False
        self.swallowed = asyncio.Event()
        self.turned_away = 0
        self.let_go = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                question = json.loads(await reader.readexactly(int(length)))
                if self.is_loading:
                    self.turned_away += 1
                    self._say(writer, 503, LOADING)
                elif self.is_hung:
                    self.swallowed.set()
                    await self.let_go.wait()
                elif question.get("stream"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
                    writer.write(PIECE)
                    await self.let_go.wait()
                    writer.write(LAST)
                    break
                else:
                    self._say(writer, 200, ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _say(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        writer.write(head + body)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    served = ModelServer()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with listening:
        yield served
        served.let_go.set()


def app_at(server: ModelServer, retry: RetryPolicy) -> dspex.App:
    lm = dspex.LM("openai/m", api_base=server.url, api_key="key")
    return dspex.App(lm, cache=None, limits=ClientLimits(retry=retry), seed=1)


async def test_all_who_wait_outlast_a_restart_and_few_of_them_ask(server: ModelServer) -> None:
    """A refusal of the breaker is not the end of their patience, which is as long as the waits they were promised."""
    async with app_at(server, RetryPolicy(max_attempts=2, base=4.0, cap=4.0)) as app:
        with collect(app, "dspex.lm.retry") as retries:
            crowd = asyncio.gather(*(app.run(ASK, question=f"q{number}") for number in range(30)))
            await until(lambda: any(facts["number"] >= 2 for _, facts in retries), "a refusal after the last try")
            server.is_loading = False
            answers = await crowd

    assert [each.answer for each in answers] == ["yes"] * 30
    assert server.turned_away <= 32
    assert all(facts["delay"] <= 1.5 for _, facts in retries[2:])  # two hear it before the server is taken to be down


async def test_a_probe_with_a_long_answer_holds_nobody_up(server: ModelServer) -> None:
    """Its first piece says that the server is back."""
    async with app_at(server, RetryPolicy(max_attempts=2, base=0.0, cap=0.0)) as app:
        with collect(app, "dspex.lm.breaker") as states:
            lost = [app.run(ASK, question=f"q{number}") for number in range(12)]
            with contextlib.suppress(dspex.LMError):
                await asyncio.gather(*lost)
            await until(lambda: states, "an open breaker")
            server.is_loading = False
            probe = app.start(Talk(), text="long")
            await until(lambda: states[-1][1]["state"] == "closed", "the probe's first piece")
            answer = await app.run(ASK, question="short")
            assert not server.let_go.is_set()
            server.let_go.set()
            await probe

    assert answer.answer == "yes"
    assert [facts["state"] for _, facts in states] == ["open", "half_open", "closed"]


async def test_a_probe_that_hangs_holds_nobody_up(server: ModelServer) -> None:
    """Its connection was lost without a word; the server is back, and answers who asks over another one."""
    async with app_at(server, RetryPolicy(max_attempts=2, base=0.0, cap=0.0)) as app:
        with collect(app, "dspex.lm.breaker") as states:
            lost = [app.run(ASK, question=f"q{number}") for number in range(12)]
            with contextlib.suppress(dspex.LMError):
                await asyncio.gather(*lost)
            await until(lambda: states, "an open breaker")
            server.is_loading, server.is_hung = False, True
            probe = app.start(ASK, question="lost")
            await server.swallowed.wait()
            server.is_hung = False
            answer = await app.run(ASK, question="next")
            assert not probe.done
            probe.cancel()

    assert answer.answer == "yes"
    assert [facts["state"] for _, facts in states] == ["open", "half_open", "closed"]
