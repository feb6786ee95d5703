"""The best plain prompt that we could write by hand for each task, and a regular expression that reads the answer."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.real.signatures import INTENTS, TOOLS
from benchmarks.real.tasks import Row

__all__ = ["plain_messages", "read_plain"]

_INTENTS = "\n".join(INTENTS)
_FUNCTIONS = """\
get_weather(city: str, day: str)  # day like 2026-01-31
convert_money(amount: float, source: str, target: str)  # codes like EUR, USD, GBP, JPY, CHF
set_alarm(hour: int, minute: int, repeat: bool)  # repeat: every day
send_message(to: str, text: str)
book_table(restaurant: str, people: int, outside: bool)"""
_ORDER = """\
number, name (of the customer), city, ordered_on (YYYY-MM-DD), paid_on (YYYY-MM-DD or null), \
status (open, paid or cancelled), lines (a list of {item, quantity}), total (a number), tags (a list), \
express (true or false)"""
_REVIEW = """\
product (its name), stars (the number given, 1 to 5), mood (happy, angry or mixed), wants_refund (true or false), \
broken (a list of the broken parts, [] if there are none)"""


def plain_messages(task: str, inputs: Mapping[str, Any], demos: Sequence[Row]) -> list[dict[str, str]]:
    """Return the conversation; demonstrations are earlier turns of it."""
    messages: list[dict[str, str]] = []
    for demo in demos:
        messages.append({"role": "user", "content": _ask(task, demo.inputs)})
        messages.append({"role": "assistant", "content": _write(task, demo.truth)})
    return [*messages, {"role": "user", "content": _ask(task, inputs)}]


def _ask(task: str, inputs: Mapping[str, Any]) -> str:
    if task == "banking":
        return (
            f"Sort a message to a bank into one of these categories:\n{_INTENTS}\n\n"
            f"Message: {inputs['message']}\n\nAnswer with the category only."
        )
    if task == "gsm8k":
        return (
            f"{inputs['question']}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
        )  # fmt: skip
    if task == "hotpot":
        passages = "\n\n".join(inputs["passages"])
        return (
            f"{passages}\n\nQuestion: {inputs['question']}\nAnswer with a few words from the text, not with a sentence."
        )
    if task == "tool":
        return (
            f"Functions:\n{_FUNCTIONS}\n\nUser: {inputs['request']}\n\n"
            "Write the one line of Python that calls the right function, and nothing else."
        )
    if task == "order":
        return f"{inputs['text']}\n\nWrite the order as JSON with these keys: {_ORDER}."
    return f"{inputs['review']}\n\nWrite what the review says as JSON with these keys: {_REVIEW}."


def _write(task: str, truth: Mapping[str, Any]) -> str:
    if task == "banking":
        return str(truth["intent"])
    if task == "gsm8k":
        return f"{truth['reasoning']}\n\\boxed{{{truth['answer']}}}"
    if task == "hotpot":
        return str(truth["answer"])
    if task == "tool":
        [call] = truth["calls"]
        return f"{call['name']}({', '.join(f'{name}={value!r}' for name, value in call['args'].items())})"
    if task == "order":
        order = dict(truth["order"])
        return json.dumps(_moved(order, "number", order.pop("customer")))
    return json.dumps(_moved({**truth, "broken": truth["problems"]}, "product", {}, without="problems"))


def _moved(found: dict[str, Any], first: str, more: Mapping[str, Any], *, without: str = "") -> dict[str, Any]:
    """Return an object with more members behind its first."""
    rest = {name: value for name, value in found.items() if name not in (first, without)}
    return {first: found[first], **more, **rest}


def read_plain(task: str, text: str) -> dict[str, Any]:
    """
    Return the outputs that an answer has.

    Raises:
        ValueError: It has none that could be read.
    """
    if task == "banking":
        found = [each for each in sorted(INTENTS, key=len, reverse=True) if each in text]
        if not found:
            raise ValueError("no category")
        return {"intent": min(found, key=text.index)}
    if task == "gsm8k":
        numbers = re.findall(r"boxed\{[^}\d-]*(-?[\d,]+(?:\.\d+)?)", text) or re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
        if not numbers:
            raise ValueError("no number")
        number = float(numbers[-1].replace(",", ""))
        return {"answer": int(number) if number == int(number) else number}
    if task == "hotpot":
        answer = re.sub(r"^(answer|a)\s*:\s*", "", text.strip(), flags=re.IGNORECASE)
        if not answer:
            raise ValueError("nothing")
        return {"answer": answer}
    if task == "tool":
        return {"calls": [_read_call(text)]}
    return _read_order(text) if task == "order" else _read_review(text)


def _read_call(text: str) -> dict[str, Any]:
    names = {each.__name__: each for each in TOOLS}
    match = re.search(rf"\b({'|'.join(names)})\(.*\)", text)
    if match is None:
        raise ValueError("no call")
    try:
        call = ast.parse(match[0], mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        parameters = [each for each in names[match[1]].__annotations__ if each != "return"]
        arguments = dict(zip(parameters, map(ast.literal_eval, call.args), strict=False))
        arguments |= {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, AssertionError) as error:
        raise ValueError("no call") from error
    return {"name": call.func.id, "args": arguments}


def _object(text: str) -> dict[str, Any]:
    match = re.search(r"\{.*\}", text, re.DOTALL)
    found = json.loads(match[0]) if match is not None else None
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _read_order(text: str) -> dict[str, Any]:
    found = _object(text)
    customer = {"name": found.pop("name"), "city": found.pop("city")}
    return {"order": {**found, "customer": customer}}


def _read_review(text: str) -> dict[str, Any]:
    found = _object(text)
    broken = [re.sub(r"^the ", "", each) for each in found.pop("broken")]
    return {**found, "problems": broken}
