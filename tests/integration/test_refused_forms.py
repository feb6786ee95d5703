"""Servers that count nothing, refuse a form, or fail by chance; and faults that are one request's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

import dspex
from tests.support.provider_answers import (
    WHOLE,
    app_at,
    asked,
    by_body,
    chat,
    claude,
    delta,
    events,
    failed,
    gemini,
    reply,
    responses,
    streamed,
)
from tests.support.transports import Answer, hang, serving

ASK = dspex.Predict("question -> answer")


class Out(BaseModel):
    a: int


SHAPED = dspex.Predict(
    dspex.Signature.from_string("question -> answer: Out", types={"Out": Out}), adapter="json", repair_turns=0
)
OBJECT = '{"answer": {"a": 1}}'

# --- unknown is not zero ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "is_estimated"),
    [(chat(counts=False), True), (chat(), False), (events(delta(WHOLE), delta(finish="stop")), True)],
)
async def test_what_nobody_counted_is_estimated_and_charged(answer: Answer, is_estimated: bool) -> None:
    async with serving(answer) as server, app_at(server, prices={"openai/m": dspex.Price(1, 2)}) as app:
        details = dspex.details(await streamed(app, ASK, question="q"))

    assert details.usage.estimated_tokens == (details.usage.total_tokens if is_estimated else 0)
    assert details.cost is not None
    assert details.cost > 0


async def test_a_token_budget_ends_at_a_server_that_counts_nothing() -> None:
    budget = dspex.Budget(tokens=3_000)
    async with serving(chat(counts=False)) as server, app_at(server, lm={"max_tokens": 50}, budget=budget) as app:
        with pytest.raises(dspex.BudgetExceeded):
            for number in range(60):
                await app.run(ASK, question=f"q{number}")


FAILURES: dict[str, tuple[Answer, type[Exception]]] = {
    "null": (reply(None), dspex.ResponseInvalid),
    "no JSON": (reply(b"<html>"), dspex.ResponseInvalid),
    "500": (failed(500, "broken"), dspex.ServerFailed),
    "429": (failed(429, "slow"), dspex.RateLimited),
    "filtered": (chat("x", "content_filter"), dspex.ContentRefused),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_call_that_was_sent_counts_whatever_came_of_it(case: str) -> None:
    answer, error = FAILURES[case]
    once = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
    async with serving(answer) as server, app_at(server, budget=dspex.Budget(calls=2), limits=once) as app:
        for number in range(2):
            with pytest.raises(error):
                await app.run(ASK, question=f"q{number}")
        with pytest.raises(dspex.BudgetExceeded):
            await app.run(ASK, question="one more")


async def test_a_call_that_was_cancelled_counts() -> None:
    async with serving(hang) as server, app_at(server, budget=dspex.Budget(calls=2)) as app:
        for number in range(2):
            server.arrived.clear()
            request = app.start(ASK, question=f"q{number}")
            await server.arrived.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        with pytest.raises(dspex.BudgetExceeded):
            await app.run(ASK, question="one more")


async def test_what_was_never_sent_costs_nothing() -> None:
    async with serving(chat()) as server:
        url = server.url
    lm = dspex.LM("openai/m", api_base=url.removesuffix("/chat/completions"), api_key="k")
    limits = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
    async with dspex.App(lm, cache=None, limits=limits, budget=dspex.Budget(calls=1)) as app:
        for number in range(3):
            with pytest.raises(dspex.TransportFailed):
                await app.run(ASK, question=f"q{number}")


async def test_a_cost_that_nobody_knows_is_none_and_shown_as_unknown() -> None:
    async with serving(chat()) as server, app_at(server) as app:
        details = dspex.details(await app.run(ASK, question="q"))
        assert "1 of unknown price" in app.tree().render()

    assert details.cost is None
    assert "price unknown" in details.explain()


# --- one request's fault ----------------------------------------------------------------------------------------

OWN: dict[str, tuple[str, Answer, Answer, type[Exception], str]] = {
    "moderation": (
        "openrouter/a/b",
        failed(403, "Your input was flagged.", code=403, metadata={"reasons": ["violence"], "flagged_input": "x"}),
        chat(),
        dspex.ContentRefused,
        "flagged",
    ),
    "region": (
        "openai/m",
        failed(403, "Country, region, or territory not supported", code="unsupported_country_region_territory"),
        chat(),
        dspex.PermissionDenied,
        "not supported",
    ),
    "model": (
        "openai/m",
        failed(403, "Project `p` does not have access to model `m`", code="model_not_found"),
        chat(),
        dspex.PermissionDenied,
        "does not have access",
    ),
    "gemini": (
        "gemini/gemini-2.5-flash",
        failed(403, "Permission denied on resource project x.", code=403, status="PERMISSION_DENIED"),
        gemini({"text": WHOLE}),
        dspex.PermissionDenied,
        "resource project",
    ),
    "anthropic": (
        "anthropic/claude-sonnet-4-5",
        failed(403, "Your organization does not have access to it.", type="permission_error"),
        claude(stop="end_turn", text=WHOLE),
        dspex.PermissionDenied,
        "does not have access",
    ),
    "no such kind of call": ("openai/m", failed(501, "not here"), chat(), dspex.RequestRejected, "not here"),
}


@pytest.mark.parametrize("case", OWN)
async def test_one_requests_fault_stops_nobody_else(case: str) -> None:
    model, bad, good, error, words = OWN[case]
    async with serving(bad, good) as server, app_at(server, model) as app:
        with pytest.raises(error, match=words):
            await app.run(ASK, question="bad")
        assert (await app.run(ASK, question="harmless")).answer == "Paris"


async def test_a_wrong_key_stops_everybody() -> None:
    async with (
        serving(failed(401, "Incorrect API key", code="invalid_api_key"), chat()) as server,
        app_at(server) as app,
    ):
        for _ in range(2):
            with pytest.raises(dspex.AuthFailed):
                await app.run(ASK, question="q")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 501, 503])
async def test_embeddings_have_a_breaker_of_their_own(status: int) -> None:
    """A chat model that makes no vectors says so to everybody who asks, and answers questions."""

    class Embedded(dspex.Module):
        def __init__(self) -> None:
            self.embed = dspex.Embed()

        async def forward(self, text: str) -> object:
            return await self.embed([text])

    def answer(body: Any) -> Answer:
        return failed(status, "Start it with `--embeddings`") if "input" in body else chat()

    async with serving(by_body(answer)) as server, app_at(server) as app:
        for number in range(8):
            with pytest.raises(dspex.LMError) as caught:
                await app.run(Embedded(), text=f"t{number}")
            assert status == 503 or "--embeddings" in str(caught.value)
        assert (await app.run(ASK, question="q")).answer == "Paris"


# --- chance and dialects ----------------------------------------------------------------------------------------

REFUSALS = [
    failed(400, "response_format of type json_schema is not supported with this model", param="response_format"),
    failed(400, "This response_format type is unavailable now"),
    failed(400, "'response_format.type' : value must be one of ['text']", param="response_format.type"),
    failed(422, "structured outputs are not supported by this model"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_form_is_replaced_by_the_next_weaker_one(refusal: Answer) -> None:
    """A schema, any object, the prompt alone; and what was refused is not sent again."""

    def answer(body: Any) -> Answer:
        return refusal if "response_format" in body else chat(OBJECT)

    async with serving(by_body(answer)) as server, app_at(server, "vllm/m") as app:
        assert (await app.run(SHAPED, question="q")).answer.a == 1
        forms = [each.get("response_format", {}).get("type") for each in asked(server)]
        assert forms == ["json_schema", "json_object", None]
        assert (await app.run(SHAPED, question="again")).answer.a == 1
        assert len(server.requests) == 4


async def test_many_at_once_learn_from_one_refusal() -> None:
    def answer(body: Any) -> Answer:
        return REFUSALS[0] if "response_format" in body else chat(OBJECT)

    async with serving(by_body(answer)) as server, app_at(server, "vllm/m") as app:
        found = await asyncio.gather(*[app.run(SHAPED, question=f"q{number}") for number in range(8)])

    assert [each.answer.a for each in found] == [1] * 8


async def test_a_member_of_a_pool_learns_too() -> None:
    def answer(body: Any) -> Answer:
        return REFUSALS[0] if "response_format" in body else chat(OBJECT)

    async with serving(by_body(answer)) as server, app_at(server, "vllm/m") as one:
        base = server.url.removesuffix("/chat/completions")
        pool = dspex.LMPool(tuple(dspex.LM(f"vllm/{name}", api_base=base, api_key="k") for name in "ab"))
        assert (await one.run(SHAPED.with_lm(pool), question="q")).answer.a == 1


async def test_anthropic_has_no_form_between_a_schema_and_words() -> None:
    def answer(body: Any) -> Answer:
        if "output_config" in body:
            return failed(400, "output_config: Extra inputs are not permitted", type="invalid_request_error")
        return claude(stop="end_turn", text=OBJECT)

    async with serving(by_body(answer)) as server, app_at(server, "anthropic/claude-sonnet-4-5") as app:
        assert (await app.run(SHAPED, question="q")).answer.a == 1


async def test_the_error_is_about_the_answer_and_not_about_the_fallback() -> None:
    async with serving(chat("garbage"), chat("garbage"), REFUSALS[0]) as server, app_at(server, "vllm/m") as app:
        with pytest.raises(dspex.ResponseUnparsable):
            await app.run(ASK, question="q")


@pytest.mark.parametrize(
    "answer",
    [
        failed(400, "Failed to call a function. See 'failed_generation'.", code="tool_use_failed"),
        failed(400, "Failed to generate JSON.", code="json_validate_failed"),
        failed(500, "error parsing tool call: raw='x', err=unexpected end of JSON input"),
    ],
)
async def test_a_models_own_slip_is_tried_again(answer: Answer) -> None:
    async with serving(answer, chat()) as server, app_at(server, "groq/m") as app:
        assert (await app.run(ASK, question="q")).answer == "Paris"


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("openai/gpt-5-mini", "max_completion_tokens"),
        ("openai/azure/o3", "max_completion_tokens"),
        ("openai/gpt-4o", "max_tokens"),
        ("vllm/gpt-oss-20b", "max_tokens"),
    ],
)
async def test_a_gateway_gets_the_length_that_the_model_takes(model: str, field: str) -> None:
    async with serving(chat()) as server, app_at(server, model, lm={"max_tokens": 100}) as app:
        await app.run(ASK, question="q")
        assert asked(server)[0][field] == 100


async def test_a_gateways_own_name_for_a_model_is_learned_about() -> None:
    def answer(body: Any) -> Answer:
        if "max_tokens" not in body:
            return chat()
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return failed(400, words, param="max_tokens", code="unsupported_parameter")

    async with serving(by_body(answer)) as server, app_at(server, "openai/smart", lm={"max_tokens": 100}) as app:
        for number in range(2):
            await app.run(ASK, question=f"q{number}")
        assert ["max_tokens" in each for each in asked(server)] == [True, False, False]


async def test_a_long_wait_in_units_is_understood() -> None:
    async with serving(failed(429, "slow", "Retry-After: 1m30s\r\n")) as server, app_at(server) as app:
        with pytest.raises(dspex.RateLimited) as caught:
            await app.run(ASK, question="q")

    assert caught.value.retry_after == 90.0


async def test_items_of_the_responses_protocol_carry_their_type() -> None:
    """llama.cpp and LiteLLM refuse a prompt with an assistant's turn without it."""
    async with serving(responses("garbage"), responses(WHOLE)) as server, app_at(server, "openai-responses/m") as app:
        await app.run(ASK.with_demos([{"question": "a", "answer": "b"}]), question="q")
        items = [item for each in asked(server) for item in each["input"]]

    assert {item["role"] for item in items} == {"user", "assistant"}
    assert {item["type"] for item in items} == {"message"}
