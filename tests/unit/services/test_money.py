"""Prices to the last digit, estimates before a call, and what a budget says when it is spent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigError
from dspex.protocols.content import ImagePart, TextPart
from dspex.protocols.lm import LMRequest, Message, ToolSpec, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Account, Budget, Price, Spending
from dspex.services.money.prices import ASSUMED_OUTPUT, MEDIA_TOKENS, PriceTable, estimate_tokens
from tests.support.sampling import sampling


def request(text: str = "x" * 400, **params: Any) -> LMRequest:
    return LMRequest((Message("user", text),), sampling(params))


# --- prices -------------------------------------------------------------------------------------------------


def test_cost_is_exact() -> None:
    """A tenth of a cent is a tenth of a cent: no binary fractions on the way."""
    price = Price(0.1, 0.4)
    assert price.cost(Usage(3, 7)) == Decimal("0.0000031")
    assert sum((price.cost(Usage(1, 1)) for _ in range(1_000_000)), Decimal(0)) == Decimal("0.5")


def test_cached_and_written_tokens_have_prices_of_their_own() -> None:
    """They are parts of the input and must not be paid twice."""
    usage = Usage(1_000_000, 0, cached_tokens=400_000, cache_write_tokens=100_000)
    assert Price(10, 0).cost(usage) == 10
    assert Price(10, 0, cached_input=1).cost(usage) == Decimal("6.4")
    assert Price(10, 0, cached_input=1, cache_write=12.5).cost(usage) == Decimal("6.65")


def test_tier_counts_for_all_tokens_of_a_long_call() -> None:
    """Above a threshold every token of the call has the higher price."""
    price = Price(1, 1, tiers=((400_000, Price(4, 1)), (200_000, Price(2, 1))))
    assert price.cost(Usage(200_000, 0)) == Decimal("0.2")
    assert price.cost(Usage(200_001, 0)) == Decimal("0.400002")
    assert price.cost(Usage(500_000, 0)) == 2


@pytest.mark.parametrize("bad", [-1, "much", float("nan"), float("inf")])
def test_price_that_is_none_is_refused(bad: Any) -> None:
    """Early, naming the member."""
    with pytest.raises(ValueError, match="output="):
        Price(1, bad)


def test_users_table_comes_before_the_library() -> None:
    """And the longest name that fits before shorter ones."""
    own = {"openai/*": Price(1, 1), "openai/gpt-5*": Price(2, 2)}
    table = PriceTable(own)
    assert table.price(LM("openai/gpt-5-mini")) == Price(2, 2)
    assert table.price(LM("openai/o9")) == Price(1, 1)
    assert table.price(LM("anthropic/claude-sonnet-4-5")) == PriceTable().price(LM("anthropic/claude-sonnet-4-5"))


def test_library_knows_common_models_and_their_tiers() -> None:
    """The figures are the library's; that they are read field by field is ours."""
    genai_prices = pytest.importorskip("genai_prices")
    for model, provider in (("openai/gpt-5-mini", "openai"), ("anthropic/claude-sonnet-4-5", "anthropic")):
        price = PriceTable().price(LM(model))
        assert price is not None
        for tokens in (1_000, 300_000):
            usage = Usage(tokens, 50, cached_tokens=100)
            theirs = genai_prices.calc_price(
                genai_prices.Usage(input_tokens=tokens, output_tokens=50, cache_read_tokens=100),
                model_ref=model.partition("/")[2],
                provider_id=provider,
            )
            assert price.cost(usage) == theirs.total_price


def test_vectors_cost_what_their_texts_cost() -> None:
    """The library has no price for tokens that an embedding model does not write."""
    pytest.importorskip("genai_prices")
    price = PriceTable().price(LM("openai/text-embedding-3-small"))

    assert price is not None
    assert price.cost(Usage(1_000_000, 0)) == price.input > 0
    assert price.output == 0


def test_unknown_stays_unknown() -> None:
    """A model nobody knows, or a known name at another server, has no price: not zero."""
    table = PriceTable()
    assert table.cost(LM("openai/no-such-model"), Usage(1, 1)) is None
    assert table.cost(LM("openai/gpt-5-mini", api_base="http://localhost:1/v1"), Usage(1, 1)) is None
    assert table.cost(LMPool(("openai/gpt-5-mini",)), Usage(1, 1)) is None


def test_entry_that_is_no_price_is_refused() -> None:
    """When the App is made."""
    with pytest.raises(ConfigError, match="openai/x"):
        dspex.App(prices={"openai/x": 3})  # type: ignore[dict-item]  # that is the point


# --- estimates ----------------------------------------------------------------------------------------------


def test_estimate_is_prompt_plus_the_longest_answer_of_every_completion() -> None:
    """OpenAI's own limit counts the prompt and max_tokens."""
    table = PriceTable({"openai/a": Price(1, 10)})
    found = table.estimate([LM("openai/a")], request(max_tokens=1_000, n=3))
    assert (found.input_tokens, found.output_tokens) == (100, 3_000)
    assert found.usd == Decimal("0.0301")
    assert table.estimate([LM("openai/a", max_tokens=7)], request()).output_tokens == 7
    assert table.estimate([LM("openai/a")], request()).output_tokens == ASSUMED_OUTPUT


def test_estimate_of_a_pool_is_its_dearest_members() -> None:
    """Whoever answers, the money set aside suffices; one unknown price makes it unknown."""
    table = PriceTable({"openai/a": Price(1, 1), "openai/b": Price(5, 5)})
    both = [LM("openai/a"), LM("openai/b")]
    assert table.estimate(both, request(max_tokens=100)).usd == Decimal("0.001")
    assert table.estimate([*both, LM("openai/c")], request(max_tokens=100)).usd is None


def test_tokens_of_a_prompt_count_tools_and_media() -> None:
    """A picture is not text, and far from free."""
    image = ImagePart("image/png", data=b"1234")
    with_image = LMRequest((Message("user", (TextPart("x" * 40), image)),))
    assert estimate_tokens(with_image) == 10 + MEDIA_TOKENS
    assert estimate_tokens(LMRequest((Message("user", "é" * 2),), tools=(ToolSpec("t" * 40),))) > 10


# --- budgets ------------------------------------------------------------------------------------------------


def test_budget_needs_a_limit() -> None:
    """An empty budget would be a misunderstanding."""
    with pytest.raises(ValueError, match="needs a limit"):
        Budget()
    for bad in (Budget, lambda **limits: dspex.App(budget=limits["usd"])):
        with pytest.raises(ValueError, match=r"0|Budget"):
            bad(usd=-1)
    with pytest.raises(ValueError, match="dollars"):
        Budget(usd="much")
    with pytest.raises(ConfigError, match="must be a Budget"):
        dspex.App().options(budget=3)  # type: ignore[arg-type]  # on purpose


def test_account_pays_up_the_chain() -> None:
    """Request, job, App."""
    top = Account("the App", Budget(usd=1))
    middle = Account("job", None, top)
    assert middle.chain() == [middle, top]
    assert middle.limited
    assert not Account("alone").limited
    assert Spending(Decimal(1), 2, 3) + Spending(Decimal(1), 2, 3) - Spending(Decimal(1), 2, 3) == Spending(
        Decimal(1), 2, 3
    )
