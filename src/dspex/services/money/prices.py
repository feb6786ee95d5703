"""The costs of models: the user's own table first, then a library's where it is installed; else unknown."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from dspex.errors import ConfigError
from dspex.protocols.content import MediaPart, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import LMRequest, Message, Usage
from dspex.protocols.model import LM, LMPool
from dspex.protocols.money import Estimate, Price

__all__ = ["PriceTable", "estimate_tokens"]

ASSUMED_OUTPUT: Final = 4_096
"""Tokens that an answer is taken to have at most when the request sets no ``max_tokens``."""

BYTES_PER_TOKEN: Final = 4
MEDIA_TOKENS: Final = 1_600
"""The assumed tokens of an image, a sound or a document: a large image of the providers that count by tiles."""

_LIBRARY_NAMES: Final = {"gemini": "google", "xai": "x-ai", "openai-responses": "openai", "azure": "azure"}
"""Our names of providers that the library knows by others."""


class PriceTable:
    """
    Prices by model.

    Args:
        prices: ``{"openai/gpt-5-mini": Price(0.25, 2)}``; names may hold ``*``, and the longest that fits counts.

    Raises:
        ConfigError: An entry is not a Price.
    """

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._own = dict(prices or {})
        for name, price in self._own.items():
            if not isinstance(price, Price):
                raise ConfigError(f"prices[{name!r}]={price!r} is not a Price, such as Price(input=0.25, output=2)")
        self._known: dict[LM, Price | None] = {}

    def price(self, lm: LM) -> Price | None:
        """Return the price of a model, or None where nobody knows it; another server's is only in the user's table."""
        try:
            return self._known[lm]
        except KeyError:
            found = self._known[lm] = self._find(lm)
            return found

    def _find(self, lm: LM) -> Price | None:
        fitting = [name for name in self._own if fnmatch.fnmatchcase(lm.model, name)]
        if fitting:
            return self._own[max(fitting, key=len)]
        return _from_library(lm) if lm.api_base is None else None

    def cost(self, lm: LM | LMPool, usage: Usage) -> Decimal | None:
        """
        Return what these tokens cost: what the server says that it charged, else by the price.

        None where the price is unknown, and of a pool, whose member is not told.
        """
        if usage.charged is not None:
            return usage.charged
        price = self.price(lm) if isinstance(lm, LM) else None
        return price.cost(usage) if price is not None else None

    def estimate(self, lms: list[LM], request: LMRequest) -> Estimate:
        """Return what a call may come to at the most expensive of these models, which may each be asked."""
        most: Decimal | None = Decimal(0)
        tokens = 0
        for lm in lms:
            answers = max(1, request.params.n)
            given = (request.params.max_tokens, lm.params.max_tokens, ASSUMED_OUTPUT)
            limit = next(each for each in given if each is not None)
            tokens = max(tokens, limit * answers)
            price = self.price(lm)
            if price is None:
                most = None
            elif most is not None:
                most = max(most, price.cost(Usage(estimate_tokens(request), limit * answers)))
        return Estimate(estimate_tokens(request), tokens, most)


def estimate_tokens(request: LMRequest) -> int:
    """Return about how many tokens a prompt has: a token for every four bytes of text, and a flat number for media."""
    size = sum(_size(message) for message in request.messages)
    for tool in request.tools:
        size += len(tool.name) + len(tool.description) + len(str(tool.parameters))
    media = sum(isinstance(part, MediaPart) for message in request.messages for part in _parts(message))
    return -(-size // BYTES_PER_TOKEN) + media * MEDIA_TOKENS


def _parts(message: Message) -> tuple[object, ...]:
    return message.content if isinstance(message.content, tuple) else ()


def _size(message: Message) -> int:
    if isinstance(message.content, str):
        return len(message.content.encode("utf-8", "surrogatepass"))
    total = 0
    for part in message.content:
        match part:
            case TextPart(text) | ReasoningPart(text):
                total += len(text.encode("utf-8", "surrogatepass"))
            case ToolCall():
                total += len(part.name) + len(part.raw or str(part.arguments))
            case ToolResult():
                total += len(part.content if isinstance(part.content, str) else str(part.content))
            case _:
                pass
    return total


# --- the library --------------------------------------------------------------------------------------------


def _from_library(lm: LM) -> Price | None:
    """Return genai-prices' price of a model; it is asked once per model, because asking is slow."""
    try:
        import genai_prices
    except ImportError:
        return None
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        found = genai_prices.calc_price(
            usage, model_ref=lm.model_name, provider_id=_LIBRARY_NAMES.get(lm.provider, lm.provider)
        )
    except (LookupError, ValueError):
        return None
    rates = {
        name: getattr(found.model_price, field, None)
        for name, field in (
            ("input", "input_mtok"),
            ("output", "output_mtok"),
            ("cached_input", "cache_read_mtok"),
            ("cache_write", "cache_write_mtok"),
        )
    }
    if rates["output"] is None and "embed" in lm.model_name:
        rates["output"] = Decimal(0)  # vectors are not sold by the token
    if rates["input"] is None or rates["output"] is None:
        return None
    starts = sorted({tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())})
    tiers = tuple((start, _at(rates, start)) for start in starts)
    base = _at(rates, 0)
    return Price(base.input, base.output, base.cached_input, base.cache_write, tiers)


def _at(rates: Mapping[str, object], tokens: int) -> Price:
    """Return the rates of calls with more than ``tokens`` of input."""

    def rate(value: Any) -> Decimal | None:
        if value is None or isinstance(value, Decimal):
            return value
        found: Decimal = value.base
        for tier in value.tiers:
            if tokens >= tier.start > 0:
                found = tier.price
        return found

    found = {name: rate(value) for name, value in rates.items()}
    assert found["input"] is not None
    assert found["output"] is not None
    return Price(found["input"], found["output"], found["cached_input"], found["cache_write"])
