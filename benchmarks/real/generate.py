"""Texts made from templates, so that what stands in them is known: orders, reviews and requests to tools."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

__all__ = ["make_orders", "make_requests", "make_reviews"]

_NAMES = ("Ada Kern", "Bo Lind", "Carla Ruiz", "Dev Patel", "Emma Olsen", "Finn Marsh", "Gita Rao", "Hugo Weiss")
_CITIES = ("Oslo", "Porto", "Graz", "Leeds", "Turin", "Ghent", "Malmo", "Lyon")
_ITEMS = ("lamp", "desk", "chair", "kettle", "mirror", "carpet", "shelf", "blanket", "clock", "vase")
_TAGS = ("gift", "fragile", "repeat", "wholesale", "student", "garden")
_PRODUCTS = ("Norvex kettle", "Lumo lamp", "Tarn headphones", "Pico camera", "Vela backpack", "Brisk toaster")
_PARTS = ("handle", "lid", "cable", "button", "strap", "lens", "zip", "battery")
_PLACES = ("Luna", "Il Forno", "The Anchor", "Saffron", "Chez Paul", "Bamboo")
_MONEY = {"euros": "EUR", "dollars": "USD", "pounds": "GBP", "yen": "JPY", "francs": "CHF"}


def _date(chance: random.Random) -> date:
    return date(2026, 1, 5) + timedelta(days=chance.randrange(300))


def make_orders(count: int, seed: int = 1) -> list[tuple[str, dict[str, Any]]]:
    """Return texts, each with its order as JSON has it."""
    chance = random.Random(seed)
    return [_order(chance) for _ in range(count)]


def _order(chance: random.Random) -> tuple[str, dict[str, Any]]:
    name, city = chance.choice(_NAMES), chance.choice(_CITIES)
    number = f"{chance.choice('ABKMR')}-{chance.randrange(1000, 9999)}"
    ordered = _date(chance)
    status = chance.choice(("open", "paid", "cancelled"))
    paid = ordered + timedelta(days=chance.randrange(1, 9)) if status == "paid" else None
    lines = [
        {"item": item, "quantity": chance.randrange(1, 9)} for item in chance.sample(_ITEMS, chance.randrange(1, 4))
    ]
    total = chance.randrange(20, 900)
    tags = chance.sample(_TAGS, chance.randrange(0, 3))
    express = chance.random() < 0.5
    told = ", ".join(f"{each['quantity']} x {each['item']}" for each in lines)
    state = {
        "open": "It has not been paid yet and is open.",
        "paid": f"It was paid on {paid} and its status is paid.",
        "cancelled": "It was cancelled and never paid.",
    }[status]
    parts = [
        chance.choice(
            (
                f"Order {number} was placed by {name} from {city} on {ordered}.",
                f"On {ordered} {name} ({city}) placed order {number}.",
            )
        ),
        chance.choice((f"It contains {told}.", f"The items are {told}.")),
        chance.choice((f"The total is {total} euros.", f"All of it costs {total} euros.")),
        state,
        chance.choice(("Express delivery was asked for.", "Please send it by express."))
        if express
        else "It goes by normal post, not express.",
        f"Its tags: {', '.join(tags)}." if tags else "It has no tags.",
    ]
    order = {
        "number": number,
        "customer": {"name": name, "city": city},
        "ordered_on": ordered.isoformat(),
        "paid_on": paid.isoformat() if paid else None,
        "status": status,
        "lines": lines,
        "total": total,
        "tags": tags,
        "express": express,
    }
    return " ".join(parts), order


def make_reviews(count: int, seed: int = 2) -> list[tuple[str, dict[str, Any]]]:
    """Return reviews, each with its product, stars, mood, wish for a refund, and what is broken."""
    chance = random.Random(seed)
    return [_review(chance) for _ in range(count)]


def _review(chance: random.Random) -> tuple[str, dict[str, Any]]:
    product = chance.choice(_PRODUCTS)
    mood = chance.choice(("happy", "angry", "mixed"))
    problems = [] if mood == "happy" else chance.sample(_PARTS, chance.randrange(1, 3))
    stars = {"happy": chance.choice((4, 5)), "angry": chance.choice((1, 2)), "mixed": 3}[mood]
    refund = mood == "angry" and chance.random() < 0.6
    broken = " and the ".join(problems)
    verb = "is" if len(problems) == 1 else "are"
    opening = {
        "happy": f"I love my {product}! I use it every day and everything works.",
        "angry": f"I am furious about the {product}. The {broken} {verb} broken.",
        "mixed": f"The {product} looks nice and I like it, but the {broken} {verb} broken.",
    }[mood]
    ending = "Give me my money back." if refund else "I do not want a refund."
    words = "one star" if stars == 1 else f"{('', '', 'two', 'three', 'four', 'five')[stars]} stars"
    found = {"product": product, "stars": stars, "mood": mood, "wants_refund": refund, "problems": problems}
    return f"{opening} I give it {words}. {ending}", found


def make_requests(count: int, seed: int = 3) -> list[tuple[str, dict[str, Any]]]:
    """Return what users want, each with the one call that does it: ``name`` and ``args``."""
    chance = random.Random(seed)
    makers = (_weather, _money, _alarm, _message, _table)
    return [makers[number % len(makers)](chance) for number in range(count)]


def _weather(chance: random.Random) -> tuple[str, dict[str, Any]]:
    city, day = chance.choice(_CITIES), _date(chance).isoformat()
    said = chance.choice(("What will the weather be in {} on {}?", "Do I need an umbrella in {} on {}?"))
    return said.format(city, day), _call("get_weather", {"city": city, "day": day})


def _money(chance: random.Random) -> tuple[str, dict[str, Any]]:
    (source, first), (target, second) = chance.sample(sorted(_MONEY.items()), 2)
    amount = chance.randrange(5, 900) / chance.choice((1, 1, 2))
    said = chance.choice(("How much is {:g} {} in {}?", "Change {:g} {} into {} for me."))
    return said.format(amount, source, target), _call(
        "convert_money", {"amount": amount, "source": first, "target": second}
    )


def _alarm(chance: random.Random) -> tuple[str, dict[str, Any]]:
    hour, minute, repeat = chance.randrange(0, 24), chance.randrange(0, 60), chance.random() < 0.5
    said = f"Wake me {'every day' if repeat else 'once'} at {hour:02}:{minute:02}."
    return said, _call("set_alarm", {"hour": hour, "minute": minute, "repeat": repeat})


def _message(chance: random.Random) -> tuple[str, dict[str, Any]]:
    to = chance.choice(_NAMES).split()[0]
    text = chance.choice(("I am late", "Dinner is ready", "Call me back", "The train is full", "See you on Monday"))
    return f'Write to {to}: "{text}"', _call("send_message", {"to": to, "text": text})


def _table(chance: random.Random) -> tuple[str, dict[str, Any]]:
    place, people, outside = chance.choice(_PLACES), chance.randrange(2, 9), chance.random() < 0.5
    said = f"Reserve a table for {people} at {place}, {'outside' if outside else 'inside'}."
    return said, _call("book_table", {"restaurant": place, "people": people, "outside": outside})


def _call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "args": dict(arguments)}
