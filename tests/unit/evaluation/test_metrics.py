"""Metrics: what counts as the same answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import dspex
from dspex.evaluation import (
    Metric,
    Score,
    SemanticF1,
    answer_passage_match,
    check_metric,
    exact_match,
    f1,
    hotpot_f1,
    json_match,
    normalize_text,
    numeric_match,
)
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


@pytest.mark.parametrize(
    ("gold", "given", "score"),
    [
        ("yes", "yes", 1.0),
        ("yes", "Yes.", 1.0),
        ("yes", "yes it is", 0.0),
        ("no it is not", "no", 0.0),
        ("Ada Lovelace", "Ada", 2 / 3),
        (["no", "never ever"], "never", 2 / 3),
    ],
)
def test_hotpot_f1_matches_yes_and_no_as_a_whole(gold: object, given: str, score: float) -> None:
    assert verdict(hotpot_f1(), gold, given) == pytest.approx(score)


@pytest.mark.parametrize(
    ("gold", "given", "right"),
    [
        (12, "3 * 4 = 12", True),
        ("#### 12", "so there are 12.", True),
        (12, 12.0, True),
        (12, "12 apples and 3 pears", False),
        (1234.5, "$1,234.50", True),
        (-5, "from 3 to \N{MINUS SIGN}5", True),
        (12, "10-12", True),
        (0.5, ".5", True),
        (1000, "1e3", True),
        ([1, 2], "2", True),
        (1, True, False),
        (1, "one", False),
        (1, "1e9999", False),
        (1, float("nan"), False),
        (10**30, str(10**30 + 1), True),
    ],
)
def test_numbers_are_compared_as_numbers(gold: object, given: object, right: bool) -> None:
    assert verdict(numeric_match(), gold, given).value == right


def test_the_tolerance_is_a_share_or_a_distance() -> None:
    assert verdict(numeric_match(tolerance=0.01), 1000, 1009).value == 1.0
    assert verdict(numeric_match(tolerance=0.01, relative=False), 1000, 1009).value == 0.0
    assert verdict(numeric_match(tolerance=0), 1000, "1000.0").value == 1.0
    with pytest.raises(dspex.ConfigError, match="tolerance"):
        numeric_match(tolerance=float("nan"))


def test_an_example_without_a_number_is_no_score() -> None:
    with pytest.raises(ValueError, match="the example's answer holds no number"):
        verdict(numeric_match(), "many", "12")


@pytest.mark.parametrize(
    ("gold", "given", "value", "feedback"),
    [
        ({"a": 1, "b": [1, 2]}, '{"b": [1, 2], "a": 1.0}', 1.0, ""),
        ({"a": 1}, '{"a": true}', 0.0, "$.a is true, not 1"),
        ([1, 2], "[2, 1]", 0.0, "$[0] is 2, not 1; $[1] is 1, not 2"),
        ({"a": 1}, "{}", 0.0, "$.a is missing"),
        ({}, '{"a": 1}', 0.0, "$.a should not be there"),
        ({}, "[]", 0.0, "$ is [], not {}"),
        ('{"a": null}', {"a": None}, 1.0, ""),
        ([1], "not JSON", 0.0, "answer is not JSON"),
        ([1], "[" * 100_000, 0.0, "answer is not JSON"),
    ],
)
def test_json_is_compared_by_its_structure(gold: object, given: object, value: float, feedback: str) -> None:
    assert verdict(json_match(), gold, given) == Score(value, feedback)


def test_a_part_of_the_json_may_count() -> None:
    assert verdict(json_match(partial=True), {"a": 1, "b": 2, "c": 3, "d": 4}, '{"a": 1, "b": 2, "c": 9}').value == 0.5


@pytest.mark.parametrize("maker", [exact_match, f1, hotpot_f1, numeric_match, json_match, SemanticF1])
def test_what_makes_a_metric_is_not_one(maker: Any) -> None:
    with pytest.raises(dspex.ConfigError, match="give metric="):
        check_metric(maker)


def test_a_program_that_takes_something_else_is_not_a_metric() -> None:
    with pytest.raises(dspex.ConfigError, match="must take example and prediction"):
        check_metric(dspex.Predict("question -> score: float"))
