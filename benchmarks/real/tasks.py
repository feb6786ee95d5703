"""The tasks: rows with known answers, demonstrations from other rows, and when an answer is right."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.real.generate import make_orders, make_requests, make_reviews
from benchmarks.real.signatures import INTENTS

__all__ = [
    "TASKS",
    "TITLES",
    "DataMissing",
    "Row",
    "Task",
    "equal",
    "plain_words",
    "read_lines",
    "read_tasks",
    "word_problems",
]

DEMOS = 4


class DataMissing(Exception):
    """The folder with the data is not there, or has not the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """Inputs as JSON has them, and what the outputs should be."""

    inputs: Mapping[str, Any]
    truth: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """
    One task.

    Attributes:
        rows: Scored, in this order.
        demos: Shown, and never scored.
        reasons: True when the program is a ChainOfThought.
        max_tokens: Of an answer in any form: about twice what the longest right one takes.
        score: From outputs and truth to 0..1; a row is right at 1.
    """

    name: str
    rows: tuple[Row, ...]
    demos: tuple[Row, ...]
    reasons: bool
    max_tokens: int
    score: Callable[[Mapping[str, Any], Mapping[str, Any]], float]


def read_tasks(data: Path | None, only: frozenset[str] = frozenset(), rows: int = 100) -> list[Task]:
    """
    Return the tasks.

    Args:
        data: The folder with BANKING77, GSM8K and HotpotQA; tasks whose texts are generated need none.
        only: Their names; empty for all.
        rows: At most so many rows of each.

    Raises:
        DataMissing: A task needs a file that is not there.
    """
    wanted = [each for each in TASKS if not only or each in only]
    return [_MAKERS[each](data, rows) for each in wanted]


def read_lines(data: Path | None, name: str) -> list[dict[str, Any]]:
    """Return the JSON lines of one of the data's files; raises DataMissing."""
    if data is None:
        raise DataMissing(f"{name} is needed: name its folder with --data or DSPEX_BENCH_DATA, or leave its task out")
    path = data / name
    if not path.is_file():
        raise DataMissing(f"there is no {name} in {data}: name its folder with --data or DSPEX_BENCH_DATA")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


# --- when an answer is right -----------------------------------------------------------------------------------


def equal(name: str, outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """Return 1 where the output is the true one, else 0."""
    return float(outputs.get(name) == truth[name])


def plain_words(text: object) -> str:
    """Return a text without case, articles, punctuation and extra space, as HotpotQA and SQuAD compare answers."""
    bare = "".join(each for each in str(text).lower() if each not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _phrase(outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """Exact match after that; short of it, the share of common words."""
    said, wanted = plain_words(outputs.get("answer", "")).split(), plain_words(truth["answer"]).split()
    if said == wanted:
        return 1.0
    common = sum((Counter(said) & Counter(wanted)).values())
    return min(0.99, 2 * common / (len(said) + len(wanted))) if common else 0.0


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: leaf for name, each in value.items() for key, leaf in _leaves(each, f"{path}.{name}").items()}
    if isinstance(value, (list, tuple)):
        return {path: sorted((tuple(_leaves(each).items()) for each in value), key=repr)}
    return {path: value.strip().casefold() if isinstance(value, str) else value}


def _share(name: str, outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """The share of fields that are equal; case, space around texts and the order of a list do not count."""
    said, wanted = (_leaves(each[name] if name else each) for each in (outputs, truth))
    return sum(bool(said.get(path) == value) for path, value in wanted.items()) / len(wanted)


def _call(outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """One call of that function with those arguments; half for the function alone."""
    calls = outputs["calls"]
    [wanted] = truth["calls"]
    if len(calls) != 1 or calls[0]["name"] != wanted["name"]:
        return 0.0
    optional = {"repeat": False, "outside": False}
    said = {**{key: value for key, value in optional.items() if key in wanted["args"]}, **(calls[0]["args"] or {})}
    return 1.0 if _leaves(said) == _leaves(wanted["args"]) else 0.5


# --- the tasks -------------------------------------------------------------------------------------------------


def _banking(data: Path | None, count: int) -> Task:
    def of(name: str, each_intent: int) -> tuple[Row, ...]:
        found: dict[str, list[str]] = {intent: [] for intent in INTENTS}
        for line in read_lines(data, name):
            if line["intent"] in found and len(found[line["intent"]]) < each_intent:
                found[line["intent"]].append(line["text"])
        turns = [
            (intent, found[intent][at]) for at in range(each_intent) for intent in INTENTS if at < len(found[intent])
        ]
        return tuple(Row({"message": text}, {"intent": intent}) for intent, text in turns)

    rows = of("banking77_test.jsonl", 20)[:count]
    demos = of("banking77_train.jsonl", 1)[1::2][:DEMOS]
    return Task("banking", rows, demos, False, 96, partial(equal, "intent"))


def word_problems(data: Path | None) -> list[Row]:
    """Return the rows of GSM8K whose answers are whole numbers."""
    return [
        Row(
            {"question": each["question"]},
            {
                "reasoning": re.sub(r"<<.*?>>", "", each["gold_reasoning"]),
                "answer": int(each["answer"].replace(",", "")),
            },
        )
        for each in read_lines(data, "gsm8k.jsonl")
        if re.fullmatch(r"-?[\d,]+", each["answer"])
    ]


def _gsm8k(data: Path | None, count: int) -> Task:
    rows = word_problems(data)
    return Task("gsm8k", tuple(rows[: min(count, 60)]), tuple(rows[-DEMOS:]), True, 512, partial(equal, "answer"))


def _hotpot(data: Path | None, count: int) -> Task:
    texts = {each["title"]: each["text"] for each in read_lines(data, "hotpotqa_corpus.jsonl")}
    rows = [
        Row(
            {"passages": [f"{title} | {texts[title]}" for title in each["gold_titles"]], "question": each["question"]},
            {"answer": each["answer"]},
        )
        for each in read_lines(data, "hotpotqa.jsonl")
        if all(title in texts for title in each["gold_titles"])
    ]
    return Task("hotpot", tuple(rows[: min(count, len(rows) - DEMOS)]), tuple(rows[-DEMOS:]), False, 96, _phrase)


def _order(count: int) -> Task:
    rows = tuple(Row({"text": text}, {"order": order}) for text, order in make_orders(count))
    demos = tuple(Row({"text": text}, {"order": order}) for text, order in make_orders(DEMOS, seed=11))
    return Task("order", rows, demos, False, 256, partial(_share, "order"))


def _review(count: int) -> Task:
    rows = tuple(Row({"review": text}, found) for text, found in make_reviews(count))
    demos = tuple(Row({"review": text}, found) for text, found in make_reviews(DEMOS, seed=12))
    return Task("review", rows, demos, False, 128, partial(_share, ""))


def _tool(count: int) -> Task:
    rows = tuple(Row({"request": text}, {"calls": [call]}) for text, call in make_requests(count))
    demos = tuple(Row({"request": text}, {"calls": [call]}) for text, call in make_requests(DEMOS, seed=13))
    return Task("tool", rows, demos, False, 128, _call)


_MAKERS: Mapping[str, Callable[[Path | None, int], Task]] = {
    "banking": _banking,
    "tool": lambda _, count: _tool(count),
    "review": lambda _, count: _review(count),
    "order": lambda _, count: _order(count),
    "hotpot": _hotpot,
    "gsm8k": _gsm8k,
}
TASKS = tuple(_MAKERS)
"""Their names, the cheapest first."""
TITLES: Mapping[str, str] = {
    "banking": "Sorting messages: BANKING77, 10 intents",
    "tool": "Calling one of five functions with typed arguments",
    "review": "Five outputs from a review",
    "order": "A nested model of ten fields from a text",
    "hotpot": "Questions over passages: HotpotQA, gold paragraphs",
    "gsm8k": "Word problems: GSM8K",
}
