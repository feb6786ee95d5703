"""Metrics: what counts as the same answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dspex.evaluation import Metric, answer_passage_match, exact_match, f1, normalize_text
from dspex.programs import Example
from dspex.protocols.retrieval import Passage


def verdict(metric: Metric[Any], gold: object, given: object, **more: object) -> Any:
    return metric(Example(answer=gold), SimpleNamespace(answer=given, **more))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("A an the", ""),
        ("Theatre and another", "theatre and another"),
        ("Caf\u00e9", "cafe\u0301"),
        ("  U.S.A. \n", "usa"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalize_text(text) == normal


def test_normalising_twice_changes_nothing_more() -> None:
    assert normalize_text(normalize_text("The Caf\u00e9, a bar")) == normalize_text("The Caf\u00e9, a bar")


@pytest.mark.parametrize(
    ("gold", "given", "same"),
    [
        ("Ada Lovelace", "the ada lovelace.", True),
        ("Ada", "Ada Lovelace", False),
        (["Ada", "Lovelace"], "lovelace", True),
        ([], "anything", False),
        (42, "42", True),
        (42, 42, True),
    ],
)
def test_exact_match(gold: object, given: object, same: bool) -> None:
    assert verdict(exact_match(), gold, given) is same


@pytest.mark.parametrize(
    ("gold", "given", "score"),
    [
        ("Ada Lovelace", "Ada Lovelace", 1.0),
        ("Ada Lovelace", "Ada", 2 / 3),
        ("Ada", "Grace", 0.0),
        (["Grace", "Ada Lovelace"], "Ada", 2 / 3),
        ("x x y", "x", 0.5),
        ("the", "a", 1.0),
        ("", "Ada", 0.0),
    ],
)
def test_f1(gold: object, given: str, score: float) -> None:
    assert verdict(f1(), gold, given) == pytest.approx(score)


def test_another_field_can_be_compared() -> None:
    assert exact_match("label")(Example(label="yes"), {"label": "Yes"})


def test_a_plain_text_is_its_own_answer() -> None:
    assert exact_match()(Example(answer="Ada"), "ada")


def test_passages_hold_the_answer_as_whole_words() -> None:
    metric = answer_passage_match()
    passages = ["The engine", Passage(text="Ada wrote it", title="Notes")]

    assert verdict(metric, "ada", "", passages=passages)
    assert verdict(metric, "Notes", "", passages=passages)
    assert not verdict(metric, "gin", "", passages=passages)
    assert not verdict(metric, "the", "", passages=passages)


def test_metrics_of_the_same_kind_are_equal() -> None:
    assert exact_match("a") == exact_match("a") != exact_match("b")
