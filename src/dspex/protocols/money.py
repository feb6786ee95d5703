"""The costs of calls and their limits: prices, budgets and the accounts that budgets are kept on."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from dspex.protocols.lm import AttemptLog, LMRequest, Usage
from dspex.protocols.model import LM, LMPool

__all__ = [
    "Account",
    "Budget",
    "DryRun",
    "Estimate",
    "MoneyService",
    "Price",
    "ProgramEstimate",
    "Reservation",
    "Spending",
]

_MILLION = Decimal(1_000_000)


def _decimal(value: Decimal | float | str | None) -> Decimal | None:
    """Return a number of dollars as it is written: 0.1 is a tenth, not the nearest binary fraction."""
    return value if value is None or isinstance(value, Decimal) else Decimal(str(value))


@dataclass(frozen=True, slots=True)
class Price:
    """
    US dollars per million tokens; numbers may be given as int, float, text or Decimal.

    Attributes:
        input: Of tokens that the provider reads afresh.
        output: Of tokens that the model writes, thoughts included.
        cached_input: Of tokens read from the provider's prompt cache; as ``input`` when None.
        cache_write: Of tokens written to it; as ``input`` when None.
        tiers: Prices of all tokens of a call whose input is larger than so many tokens, smallest first.

    Raises:
        ValueError: A price is negative or no number.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    tiers: tuple[tuple[int, Price], ...] = ()

    def __init__(
        self,
        input: Decimal | float | str,  # noqa: A002 - the word of every price list
        output: Decimal | float | str,
        cached_input: Decimal | float | str | None = None,
        cache_write: Decimal | float | str | None = None,
        tiers: tuple[tuple[int, Price], ...] = (),
    ) -> None:
        given = {"input": input, "output": output, "cached_input": cached_input, "cache_write": cache_write}
        for name, value in given.items():
            try:
                price = _decimal(value)
            except ArithmeticError:
                price = Decimal(-1)
            if price is not None and not (price.is_finite() and price >= 0):
                raise ValueError(f"{name}={value!r} is not a number of dollars per million tokens")
            object.__setattr__(self, name, price)
        object.__setattr__(self, "tiers", tuple(sorted(tiers, key=lambda tier: tier[0])))

    def cost(self, usage: Usage) -> Decimal:
        """Return what these tokens cost, exactly, in dollars."""
        price = self
        for above, tier in self.tiers:
            if usage.input_tokens > above:
                price = tier
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = price.cached_input if price.cached_input is not None else price.input
        written = price.cache_write if price.cache_write is not None else price.input
        return (
            max(fresh, 0) * price.input
            + usage.cached_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * price.output
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class Budget:
    """
    The most that may be spent; None is no limit.

    Attributes:
        usd: US dollars. A model whose price is unknown is then not asked at all.
        tokens: Tokens in and out.
        calls: Requests to models. A request that the server refused in words (429, 5xx) or that no connection took
            is not one; a request that was sent is, whatever came of it, so a retry of it needs another.
        per: ``day`` or ``month``, in UTC: the budget begins anew then, and lasts beyond the process. For an App alone.

    Raises:
        ValueError: There is no limit at all, one that is negative, or no such period.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None
    per: Literal["day", "month"] | None = None

    def __init__(
        self,
        usd: Decimal | float | str | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        per: Literal["day", "month"] | None = None,
    ) -> None:
        if per not in (None, "day", "month"):
            raise ValueError(f"per={per!r} is neither 'day' nor 'month'")
        object.__setattr__(self, "per", per)
        try:
            limit = _decimal(usd)
        except ArithmeticError:
            raise ValueError(f"usd={usd!r} is not a number of dollars") from None
        object.__setattr__(self, "usd", limit)
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "calls", calls)
        limits = [limit, tokens, calls]
        if all(each is None for each in limits):
            raise ValueError("a budget needs a limit: Budget(usd=…), Budget(tokens=…) or Budget(calls=…)")
        if any(each is not None and not each >= 0 for each in limits):
            raise ValueError(f"{self} has a limit below 0")


@dataclass(frozen=True, slots=True)
class Spending:
    """An amount: dollars where they are known, tokens, calls; ``unpriced`` counts calls whose price is unknown."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0
    unpriced: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(
            self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls, self.unpriced + other.unpriced
        )

    def __sub__(self, other: Spending) -> Spending:
        return Spending(
            self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls, self.unpriced - other.unpriced
        )


_NOTHING_SPENT = Spending()


class Account:
    """
    The payer: the App, a job, a map or one request. A payment from one account is a payment from all above it.

    Plain data of one event loop: it outlives the actor that watches over what is set aside.

    Attributes:
        name: For messages, such as ``request r7``.
        budget: Its limit; None sets none of its own.
        above: The account that pays for this one.
        spent: The sum that has been paid.
        reserved: The sum that calls under way may still cost.
    """

    __slots__ = ("above", "budget", "limited", "name", "reserved", "spent")

    def __init__(self, name: str, budget: Budget | None = None, above: Account | None = None) -> None:
        self.name = name
        self.budget = budget
        self.above = above
        self.limited: bool = budget is not None or (above is not None and above.limited)
        """True when a budget, its own or one above, has to be asked before a call."""
        self.spent = _NOTHING_SPENT
        self.reserved = _NOTHING_SPENT

    def chain(self) -> list[Account]:
        """Return this account and those above it."""
        return [self, *(self.above.chain() if self.above is not None else [])]

    def __repr__(self) -> str:
        return f"<Account {self.name}: {self.spent.usd} USD, {self.spent.tokens} tokens, {self.spent.calls} calls>"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that a call may cost before it is made; ``usd`` is None when the price is unknown."""

    input_tokens: int
    output_tokens: int
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class ProgramEstimate:
    """
    The most that one run of a program may cost.

    Attributes:
        calls: Calls to models.
        input_tokens: Of all prompts together, roughly.
        output_tokens: That the answers may have at most.
        usd: US dollars at most; None when the price of one model is unknown.
        steps: Every call, as (the predictor's path, its own estimate).
    """

    calls: int
    input_tokens: int
    output_tokens: int
    usd: Decimal | None
    steps: tuple[tuple[str, Estimate], ...] = ()


class DryRun:
    """The calls that a dry run would have made, in their order."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: list[tuple[str, Estimate]] = []

    def total(self) -> ProgramEstimate:
        """Return the sum."""
        each = [estimate for _, estimate in self.calls]
        known = [one.usd for one in each if one.usd is not None]
        usd = sum(known, Decimal(0)) if len(known) == len(each) else None
        read, written = sum(one.input_tokens for one in each), sum(one.output_tokens for one in each)
        return ProgramEstimate(len(each), read, written, usd, tuple(self.calls))


@dataclass(frozen=True, slots=True)
class Reservation:
    """The sum that one logical call has set aside on an account until it is settled."""

    id: int
    account: Account
    amount: Spending


class MoneyService(Protocol):
    """The ledger's interface for a step."""

    def cost(self, lm: LM | LMPool, usage: Usage) -> Decimal | None:
        """Return what these tokens of this model cost, in dollars; None where its price is unknown."""
        ...

    def estimate(self, lm: LM | LMPool, request: LMRequest) -> Estimate:
        """Return what a call may come to: for a pool, at its most expensive member."""
        ...

    async def reserve(
        self, account: Account, lm: LM | LMPool, request: LMRequest, log: AttemptLog, deadline: float
    ) -> Reservation:
        """
        Set aside what a call may cost; the running process holds it until ``settle``, or until it dies.

        Raises:
            BudgetExceeded: A budget does not allow it, or is in dollars and the price unknown.
            SharedError: The budget is one of several processes, its store cannot be reached, and this process has
                spent what it held of it.
        """
        ...

    def more(self, held: Reservation, calls: int) -> None:
        """
        Set aside what so many further requests of the call may cost, in this tick.

        Raises:
            BudgetExceeded: A budget does not allow it.
        """
        ...

    async def fetch(self, held: Reservation, deadline: float, calls: int) -> None:
        """
        Set aside what so many further requests of the call may cost; other processes may be asked for it.

        Raises:
            BudgetExceeded: A budget does not allow it.
            SharedError: The budget is one of several processes, and its store cannot be reached.
        """
        ...

    def settle(self, held: Reservation, lm: LM | LMPool, log: AttemptLog) -> None:
        """Pay for the answer in ``log``, or for what may have been charged, and release the rest."""
        ...

    def book(
        self,
        account: Account,
        lm: LM | LMPool,
        usage: Usage,
        attempts: int,
        *,
        paid: bool,
        calls: int = 1,
        due: int = 1,
    ) -> Decimal | None:
        """
        Note what a provider counted, and return its price.

        Args:
            account: The account.
            lm: The model.
            usage: The counted usage.
            attempts: That the call took.
            paid: A reservation has paid for its tokens.
            calls: 1, or 0 where the call is noted with something else of it.
            due: The number of requests that no reservation has paid for (``AttemptLog.due_calls``).
        """
        ...
