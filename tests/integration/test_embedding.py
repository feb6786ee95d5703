"""An App where users put one: in a web service on a real socket, in a notebook, in a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import nbformat
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from nbclient import NotebookClient

import dspex
from dspex.protocols.lm import LMDelta, LMRequest, LMResponse
from dspex.protocols.local import LocalLM
from dspex.protocols.scope import Delta, OnDelta
from dspex.testing import ScriptedLM
from tests.support.programs import Ask, Question, until

# --- a web service ------------------------------------------------------------------------------------------


class Endless(LocalLM):
    """Writes one piece, and then nothing until it is cancelled."""

    __slots__ = ("cancelled",)

    cancelled: asyncio.Event

    def __init__(self) -> None:
        super().__init__("local/endless")
        object.__setattr__(self, "cancelled", asyncio.Event())

    async def respond(self, request: LMRequest, *, path: str, attempt: int, on_delta: OnDelta | None) -> LMResponse:
        assert on_delta is not None
        await on_delta(LMDelta(text="Ada is a very long first piece "))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()
        raise AssertionError("it never ends by itself")


def service_of(lm_app: dspex.App) -> FastAPI:
    """A service as the how-to guides show it."""

    @contextlib.asynccontextmanager
    async def lifespan(service: FastAPI) -> AsyncIterator[None]:
        async with lm_app:
            yield

    service = FastAPI(lifespan=lifespan)
    ask = lm_app.bind(Ask())

    @service.get("/answer", response_model=Question)
    async def answer(question: str) -> Question:
        try:
            return await ask(question=question)
        except dspex.LMError as error:
            raise HTTPException(502, type(error).__name__) from error

    @service.get("/stream")
    async def stream(question: str) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async with lm_app.stream(Ask(), question=question) as pieces:
                async for delta in pieces:
                    if isinstance(delta, Delta):
                        yield f"data: {json.dumps(delta.text)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return service


@contextlib.asynccontextmanager
async def serving(lm_app: dspex.App) -> AsyncIterator[httpx.AsyncClient]:
    """Serve on a socket of this machine, and give a client of it."""
    config = uvicorn.Config(
        service_of(lm_app), port=0, http="h11", ws="none", lifespan="on", log_level="critical", access_log=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done(), "the server to start")
    if task.done():
        task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await task


async def test_service_answers_many_at_once_and_says_what_failed() -> None:
    """The lifespan starts the App and ends it; a signature is the response's model."""
    app = dspex.App(ScriptedLM(lambda request: _answer(request)))
    async with serving(app) as client:
        replies = await asyncio.gather(*[client.get("/answer", params={"question": f"q{n}"}) for n in range(20)])
        assert [reply.json() for reply in replies] == [{"question": f"q{n}", "answer": f"to q{n}"} for n in range(20)]
        refused = await client.get("/answer", params={"question": "refuse"})
        assert (refused.status_code, refused.json()) == (502, {"detail": "ContentRefused"})
        schema = (await client.get("/openapi.json")).json()["paths"]["/answer"]["get"]["responses"]["200"]["content"]
        assert schema["application/json"]["schema"]["properties"].keys() == {"question", "answer"}
        assert app.health()["completed"] == 20
    with pytest.raises(dspex.AppNotRunning):
        await app.run(Ask(), question="late")


def _answer(request: LMRequest) -> dict[str, str]:
    question = request.messages[-1].text.split("\n")[0].removeprefix("question: ")
    if question == "refuse":
        raise dspex.ContentRefused("no")
    return {"answer": f"to {question}"}


async def test_browser_that_goes_away_stops_the_model() -> None:
    """Server-sent events come as they are written; hanging up ends the request and what is below it."""
    model = Endless()
    app = dspex.App(model)
    async with serving(app) as client:
        async with client.stream("GET", "/stream", params={"question": "Who?"}) as response:
            lines = response.aiter_lines()
            first = json.loads((await anext(lines)).removeprefix("data: "))
            assert first.startswith("Ada is")
            assert app.health()["running"] == 1
        async with asyncio.timeout(5):
            await model.cancelled.wait()
        await until(lambda: app.health()["running"] == 0, "the request to end")


# --- a notebook ---------------------------------------------------------------------------------------------

CELLS = (
    """
import dspex
from dspex.testing import ScriptedLM
ask = dspex.Predict("question -> answer")
def model():
    return ScriptedLM(lambda request: {"answer": "Ada"})
""",
    'app = dspex.App(model()).sync().open()\nprint(app.run(ask, question="Who?").answer)',
    'print([each.value.answer for each in list(app.map(ask, [{"question": "1"}, {"question": "2"}]).__enter__())])',
    "app.close()",
    "other = dspex.App(model())\nawait other.start()",
    'print((await other.run(ask, question="Who?")).answer)',
    "await other.aclose()\nprint(other)",
    'async with dspex.App(model()) as third:\n    print((await third.run(ask, question="Who?")).answer)',
)


@pytest.mark.slow
async def test_notebook_uses_it_with_and_without_await(tmp_path: Path) -> None:
    """Cells enter and leave an App in different tasks, and the kernel's own loop is in nobody's way."""
    cells = [
        {"cell_type": "code", "metadata": {}, "id": f"c{n}", "source": cell.strip(), "outputs": []}
        for n, cell in enumerate(CELLS)
    ]
    content = {
        "cells": [{**cell, "execution_count": None} for cell in cells],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    notebook = nbformat.from_dict(content)  # type: ignore[no-untyped-call]  # it ships half its types
    client = NotebookClient(
        notebook, timeout=30, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    await client.async_execute()
    printed = ["".join(each.get("text", "") for each in cell.outputs).strip() for cell in notebook.cells]
    assert printed[1:4] == ["Ada", "['Ada', 'Ada']", ""]
    assert printed[5] == printed[7] == "Ada"
    assert printed[6].endswith("[not running]>")


# --- a script -----------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio
import logging
import dspex
from dspex.testing import ScriptedLM

ask = dspex.Predict("question -> answer")
app = dspex.App(ScriptedLM(lambda request: {"answer": "Ada"}))

async def main():
    async with app:
        print((await app.run(ask, question="Who?")).answer)

# Development mode tells of each turn of the loop over 0.1 s too, which on a machine under load is not news of ours.
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing %"))
asyncio.run(main())
asyncio.run(main())  # another loop, another tree
with app.sync() as plain:
    print(plain.run(ask, question="Who?").answer)
"""


@pytest.mark.allow_blocking("a whole interpreter inside")
def test_script_runs_it_in_one_loop_after_another_and_without_one(tmp_path: Path) -> None:
    """Warnings are errors, and nothing is left to say at the end."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("Ada\nAda\nAda\n", "", 0)
