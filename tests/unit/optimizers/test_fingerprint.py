"""Fingerprints: they change with what matters, and with nothing else."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from dspex.errors import ConfigError
from dspex.evaluation import exact_match, f1
from dspex.optimizers.fingerprint import (
    fingerprint_examples,
    fingerprint_lms,
    fingerprint_metric,
)
from dspex.protocols.model import LM
from dspex.protocols.retrieval import Passage


def at_least(bound: float) -> Any:
    def metric(example: Any, prediction: Any) -> bool:
        return bool(prediction >= bound)

    return metric


class Judge:
    def __init__(self, strict: bool) -> None:
        self.strict = strict

    def __call__(self, example: Any, prediction: Any) -> bool:
        return self.strict

    def lenient(self, example: Any, prediction: Any) -> bool:
        return True


def scaled(example: Any, prediction: Any, factor: float = 1.0) -> float:
    return factor


METRICS = [
    at_least(1),
    at_least(2),
    Judge(True),
    Judge(False),
    Judge(True).lenient,
    scaled,
    functools.partial(scaled, factor=2.0),
    functools.partial(scaled, factor=3.0),
    exact_match(),
    exact_match("label"),
    f1(),
    None,
]


def test_metrics_that_differ_differ() -> None:
    assert len({fingerprint_metric(metric, None) for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("make", [lambda: at_least(1), lambda: Judge(True), lambda: exact_match("x")])
def test_metrics_made_alike_are_alike(make: Any) -> None:
    assert fingerprint_metric(make(), None) == fingerprint_metric(make(), None)


def test_a_version_stands_for_the_source() -> None:
    assert fingerprint_metric(at_least(1), "1") == fingerprint_metric(at_least(2), "1")
    assert fingerprint_metric(at_least(1), "1") != fingerprint_metric(at_least(1), "2")


def test_examples_are_told_apart_by_their_contents_and_order() -> None:
    passage = Passage(text="text", title="title")
    sets: list[list[dict[str, Any]]] = [[{"a": 1}], [{"a": 2}], [{"b": 1}], [{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}]]
    sets += [[{"a": passage}], [{"a": {"x", "y"}}], [{"a": ("x", "z")}], []]

    assert len({fingerprint_examples(each) for each in sets}) == len(sets)
    assert fingerprint_examples([{"a": 1, "b": 2}]) == fingerprint_examples([{"b": 2, "a": 1}])
    assert fingerprint_examples([{"a": {"x", "y", "z"}}]) == fingerprint_examples([{"a": {"z", "y", "x"}}])


def test_a_value_without_a_form_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match="row 1: a is a object"):
        fingerprint_examples([{"a": 1}, {"a": object()}])


def test_keys_take_no_part() -> None:
    one, two = LM("openai/x", api_key="one"), LM("openai/x", api_key="two")

    assert fingerprint_lms({"default": one}) == fingerprint_lms({"default": two})
    assert fingerprint_lms({"default": one}) != fingerprint_lms({"default": LM("openai/x", temperature=1.0)})
