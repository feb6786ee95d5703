"""Extraction and agents on the simulator, in every form that programs ask in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import dspex
from dspex.simulator import Simulator


class Item(BaseModel):
    name: str
    quantity: int
    unit_price: float


class Invoice(BaseModel):
    number: str
    customer: str
    currency: Literal["EUR", "USD"]
    paid: bool
    items: list[Item]
    total: float


class ReadInvoice(dspex.Signature):
    """Read the invoice."""

    document: str = dspex.InputField()
    invoice: Invoice = dspex.OutputField()


DOCUMENT = """Invoice number: INV-204
Customer: Ada Lovelace
Paid: yes

- 2 steam engines at 120.50
- 12 punched cards at 0.75

Total: 250.00 EUR"""
ABLE = {"json_schema": True, "json_object": True, "tools": True}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def app_at(simulator: Simulator, adapter: Any, able: bool) -> dspex.App:
    lm = dspex.LM(
        "openai/rules-1",
        api_base=simulator.url,
        api_key="none",
        temperature=0.0,
        capabilities=ABLE if able else None,
    )
    return dspex.App(lm, cache=None, adapter=adapter)


@pytest.mark.parametrize("able", [False, True])
@pytest.mark.parametrize("adapter", ["auto", "chat", "json", "xml"])
async def test_a_nested_model_is_filled_at_once(simulator: Simulator, adapter: str, able: bool) -> None:
    """No repair turn is needed: the first answer fits."""
    async with app_at(simulator, adapter, able) as app:
        prediction = await app.run(dspex.Predict(ReadInvoice, repair_turns=0), document=DOCUMENT)

    assert prediction.invoice == Invoice(
        number="INV-204",
        customer="Ada Lovelace",
        currency="EUR",
        paid=True,
        items=[
            Item(name="steam engines", quantity=2, unit_price=120.5),
            Item(name="punched cards", quantity=12, unit_price=0.75),
        ],
        total=250.0,
    )


async def population(city: str) -> str:
    """Tell how many people live in a city, in millions."""
    return {"Rome": "2.8", "Paris": "2.1"}[city]


async def convert(amount: float, rate: float) -> float:
    """Convert an amount of money with a rate."""
    return amount * rate


@pytest.mark.parametrize("able", [False, True])
@pytest.mark.parametrize("adapter", ["auto", "chat", "json", "xml"])
async def test_an_agent_asks_for_all_that_is_named_and_ends(simulator: Simulator, adapter: str, able: bool) -> None:
    """One call for each name, with arguments that fit, then an answer out of what was seen."""
    agent = dspex.ReAct("question -> answer", tools=[population, convert], max_steps=5, repair_turns=0)
    async with app_at(simulator, adapter, able) as app:
        larger = await app.run(agent, question="Do more people live in Rome or in Paris?")
        money = await app.run(agent, question="Convert the amount 20 with the rate 1.5.")

    def calls(prediction: Any) -> list[tuple[str, dict[str, Any]]]:
        steps = dspex.details(prediction).trajectory
        assert steps is not None
        return [(step.call.name, dict(step.call.arguments or {})) for step in steps]

    assert calls(larger) == [("population", {"city": "Rome"}), ("population", {"city": "Paris"}), ("finish", {})]
    assert larger.answer in ("2.8", "2.1")
    assert calls(money) == [("convert", {"amount": 20.0, "rate": 1.5}), ("finish", {})]
    assert money.answer == "30.0"
