"""The best plain prompt that we could write by hand for each task, and a regular expression that reads the answer."""

from __future__ import annotations

import ast
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
number: the order's number
name: the customer's name
city: the customer's city
ordered on: a date
paid on: a date
status: open, paid or cancelled
items: like 2 x lamp, 1 x desk
total: a number
tags: the tags
express: yes or no"""
_REVIEW = """\
product: the name of the product
stars: a number
mood: happy, angry or mixed
refund: yes or no
broken: the parts that are broken"""


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
        return f"{inputs['text']}\n\nAnswer with these lines, and write none where there is nothing:\n{_ORDER}"
    return f"{inputs['review']}\n\nAnswer with these lines, and write none where there is nothing:\n{_REVIEW}"


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
        order = truth["order"]
        items = ", ".join(f"{each['quantity']} x {each['item']}" for each in order["lines"])
        values: tuple[object, ...] = (
            order["number"],
            order["customer"]["name"],
            order["customer"]["city"],
            order["ordered_on"],
            order["paid_on"] or "none",
            order["status"],
            items,
            order["total"],
            ", ".join(order["tags"]) or "none",
            "yes" if order["express"] else "no",
        )
    else:
        values = (
            truth["product"],
            truth["stars"],
            truth["mood"],
            "yes" if truth["wants_refund"] else "no",
            ", ".join(truth["problems"]) or "none",
        )
    form = (_ORDER if task == "order" else _REVIEW).splitlines()
    return "\n".join(f"{line.partition(':')[0]}: {value}" for line, value in zip(form, values, strict=True))


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


def _line(text: str, name: str) -> str:
    match = re.search(rf"^[\W_]*{name}\b[^:\n]*:[ *]*(.*?)[ *]*$", text, re.IGNORECASE | re.MULTILINE)
    if match is None:
        raise ValueError(f"no line {name}")
    return match[1]


def _words(text: str) -> list[str]:
    bare = text.strip(" .[]")
    return [] if bare.lower() in ("", "none", "n/a", "no", "no tags") else re.split(r"\s*(?:,|;|\band\b)\s*", bare)


def _number(text: str) -> int:
    match = re.search(r"\d+", text.replace(",", ""))
    if match is None:
        raise ValueError("no number")
    return int(match[0])


def _read_order(text: str) -> dict[str, Any]:
    paid = re.search(r"\d{4}-\d\d-\d\d", _line(text, "paid on"))
    items = re.findall(r"(\d+) ?x ([a-z ]*[a-z])", _line(text, "items"))
    order = {
        "number": _line(text, "number"),
        "customer": {"name": _line(text, "name"), "city": _line(text, "city")},
        "ordered_on": _line(text, "ordered on"),
        "paid_on": paid[0] if paid else None,
        "status": _line(text, "status").lower(),
        "lines": [{"item": item, "quantity": int(quantity)} for quantity, item in items],
        "total": _number(_line(text, "total")),
        "tags": _words(_line(text, "tags")),
        "express": _line(text, "express").lower().startswith("y"),
    }
    return {"order": order}


def _read_review(text: str) -> dict[str, Any]:
    return {
        "product": _line(text, "product"),
        "stars": _number(_line(text, "stars")),
        "mood": _line(text, "mood").lower().rstrip("."),
        "wants_refund": _line(text, "refund").lower().startswith("y"),
        "problems": [re.sub(r"^the ", "", each) for each in _words(_line(text, "broken"))],
    }
