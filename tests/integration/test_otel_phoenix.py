"""A real collector with a page: Arize Phoenix shows one request as a tree, with tokens and cost."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import dspex
from dspex.app.otel import names
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from dspex.testing import FixedRetriever
from tests.support.missing import missing

try:
    from tests.support.otlp import export_request
    from tests.support.traces import Seen
except ImportError:
    missing("opentelemetry-sdk")

PHOENIX = os.environ.get("DSPEX_TEST_PHOENIX") or shutil.which("phoenix")
COSTS = "{projects{edges{node{name tokenCountTotal costSummary{total{cost}}}}}}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.allow_blocking("a collector on the same two processors takes what it needs"),
    pytest.mark.skipif(
        PHOENIX is None, reason="arize-phoenix is in an environment of its own: DSPEX_TEST_PHOENIX=…/bin/phoenix"
    ),
]


class Finds(dspex.Module):
    """Searches, and answers from what was found."""

    def __init__(self) -> None:
        self.retrieve = dspex.Retrieve(k=2)
        self.answer = dspex.ChainOfThought("passages: list[str], question -> answer")

    async def forward(self, question: str) -> str:
        passages = await self.retrieve(question)
        return str((await self.answer(passages=[str(each) for each in passages], question=question)).answer)


@asynccontextmanager
async def phoenix(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The collector, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc = one.getsockname()[1], other.getsockname()[1]
    variables = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    process = await asyncio.create_subprocess_exec(
        str(PHOENIX),
        "serve",
        env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        while b"Uvicorn running" not in (line := await process.stdout.readline()):
            assert line, "it has ended"
        rest = asyncio.create_task(process.stdout.read())  # a full pipe would stop it
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60.0) as client:
            yield client
    finally:
        process.kill()
        await process.wait()
    await rest


async def spans_of(client: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """The spans that it keeps, once all of them are there."""
    while True:
        answer = await client.get("/v1/projects/trial/spans", params={"limit": 100})
        if answer.status_code == 200 and len(found := answer.json()["data"]) >= count:
            spans: list[dict[str, Any]] = found
            return spans


async def test_it_shows_the_tree_of_a_request_with_tokens_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(names.CONTENT, "true")
    seen = Seen()
    async with Simulator() as simulator:
        busy = (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01),)
        simulator.set_faults(FaultPlan(script={"/v1/chat/completions": busy}))
        lm = dspex.LM("openai/gpt-5-mini", api_base=simulator.url, api_key="k", temperature=0.25)
        found = FixedRetriever(["The cat waits at the water.", "The dog sleeps."])
        async with dspex.App(lm, cache=None, retriever=found, otel=seen.options(capture=True)) as app:
            await app.run(Finds(), question="Who waits at the water?")
    told = seen.spans.get_finished_spans()
    async with phoenix(tmp_path) as client:
        body = export_request(told, {"service.name": "trial", "openinference.project.name": "trial"})
        sent = await client.post("/v1/traces", content=body, headers={"content-type": "application/x-protobuf"})
        assert sent.status_code == 200
        spans = await spans_of(client, len(told))
        while True:  # it works out costs when it has stored the spans
            answer = (await client.post("/graphql", json={"query": COSTS})).json()
            projects = {each["node"]["name"]: each["node"] for each in answer["data"]["projects"]["edges"]}
            if projects["trial"]["costSummary"]["total"]["cost"]:
                break

    parents = {each["context"]["span_id"]: (each["name"], each["parent_id"]) for each in spans}
    by_name = {each["name"]: each for each in spans}
    path = ["chat gpt-5-mini"]
    parent = by_name["chat gpt-5-mini"]["parent_id"]
    while parent is not None:
        name, parent = parents[parent]
        path.append(name)
    assert path[::-1] == [
        "invoke_workflow Finds",
        "dspex.module ChainOfThought",
        "dspex.predictor answer.predict",
        "chat gpt-5-mini",
    ]
    kinds = {name: each["span_kind"] for name, each in by_name.items()}
    assert kinds["chat gpt-5-mini"] == "LLM"
    assert kinds["retrieval default"] == "RETRIEVER"
    assert kinds["invoke_workflow Finds"] == kinds["dspex.predictor answer.predict"] == "CHAIN"
    call = by_name["chat gpt-5-mini"]["attributes"]
    usage = call[names.INPUT_TOKENS] + call[names.OUTPUT_TOKENS]
    assert call["llm.token_count.total"] == usage == projects["trial"]["tokenCountTotal"]
    assert call["llm.model_name"] == "gpt-5-mini"
    assert call["llm.output_messages.0.message.role"] == "assistant"
    assert [each["name"] for each in by_name["chat gpt-5-mini"]["events"]].count("dspex.lm.attempt.start") == 2
    documents = by_name["retrieval default"]["attributes"]["retrieval.documents.0.document.content"]
    assert documents == "The cat waits at the water."
