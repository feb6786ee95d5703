"""The question to the model, in words that dspex and DSPy have in common; nothing here knows which one it is."""

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel

__all__ = ["INTENTS", "TOOLS", "Customer", "Line", "Order", "make_signature"]

INTENTS = (
    "activate_my_card",
    "age_limit",
    "apple_pay_or_google_pay",
    "atm_support",
    "automatic_top_up",
    "balance_not_updated_after_bank_transfer",
    "balance_not_updated_after_cheque_or_cash_deposit",
    "beneficiary_not_allowed",
    "cancel_transfer",
    "card_about_to_expire",
)
Intent = Literal[
    "activate_my_card",
    "age_limit",
    "apple_pay_or_google_pay",
    "atm_support",
    "automatic_top_up",
    "balance_not_updated_after_bank_transfer",
    "balance_not_updated_after_cheque_or_cash_deposit",
    "beneficiary_not_allowed",
    "cancel_transfer",
    "card_about_to_expire",
]


class Customer(BaseModel):
    """Who ordered."""

    name: str
    city: str


class Line(BaseModel):
    """One line of an order."""

    item: str
    quantity: int


class Order(BaseModel):
    """An order, ten fields with those of its customer."""

    number: str
    customer: Customer
    ordered_on: date
    paid_on: date | None
    status: Literal["open", "paid", "cancelled"]
    lines: list[Line]
    total: int
    tags: list[str]
    express: bool


def get_weather(city: str, day: date) -> str:
    """Tell the weather of a city on a day."""
    return f"{city}, {day}"


def convert_money(amount: float, source: str, target: str) -> str:
    """Convert an amount of money between two currencies, given by their codes of three letters."""
    return f"{amount} {source} to {target}"


def set_alarm(hour: int, minute: int, repeat: bool = False) -> str:
    """Set an alarm on a 24-hour clock; repeat rings every day."""
    return f"{hour}:{minute}, {repeat}"


def send_message(to: str, text: str) -> str:
    """Send a text to a person."""
    return f"{to}: {text}"


def book_table(restaurant: str, people: int, outside: bool = False) -> str:
    """Book a table at a restaurant."""
    return f"{restaurant}, {people}, {outside}"


TOOLS = (get_weather, convert_money, set_alarm, send_message, book_table)


def make_signature(task: str, framework: Any) -> Any:
    """
    Return the signature class of a task.

    Args:
        task: The task's name.
        framework: The module ``dspex`` or the module ``dspy``.

    Raises:
        LookupError: There is no such task.
    """
    InputField, OutputField = framework.InputField, framework.OutputField  # noqa: N806 - as everybody writes them

    class SortMessage(framework.Signature):  # type: ignore[misc]  # of either side
        """Sort a message to a bank by what its sender wants."""

        message: str = InputField()
        intent: Intent = OutputField()

    class Solve(framework.Signature):  # type: ignore[misc]  # of either side
        """Solve the word problem."""

        question: str = InputField()
        answer: int = OutputField()

    class ReadOrder(framework.Signature):  # type: ignore[misc]  # of either side
        """Read the order from the text."""

        text: str = InputField()
        order: Order = OutputField()

    class AnswerFromPassages(framework.Signature):  # type: ignore[misc]  # of either side
        """Answer the question from the passages."""

        passages: list[str] = InputField()
        question: str = InputField()
        answer: str = OutputField(desc="a few words, not a sentence")

    class ChooseTool(framework.Signature):  # type: ignore[misc]  # of either side
        """Call the one tool that does what the user wants."""

        request: str = InputField()
        tools: list[framework.Tool] = InputField()
        calls: framework.ToolCalls = OutputField()

    class ReadReview(framework.Signature):  # type: ignore[misc]  # of either side
        """Read what a customer writes about a product."""

        review: str = InputField()
        product: str = OutputField(desc="the product's name as it is written")
        stars: int = OutputField(desc="from 1 to 5")
        mood: Literal["happy", "angry", "mixed"] = OutputField()
        wants_refund: bool = OutputField()
        problems: list[str] = OutputField(desc="what is broken, one word each; empty if nothing is")

    found = {
        "banking": SortMessage,
        "gsm8k": Solve,
        "order": ReadOrder,
        "hotpot": AnswerFromPassages,
        "tool": ChooseTool,
        "review": ReadReview,
    }
    return found[task]
